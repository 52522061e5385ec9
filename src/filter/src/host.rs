//! The host: a thin layer over its imports, and what a process keeps in its shared data ([`mod@shared`]).
//!
//! No other room knows that the host speaks proxy-wasm: all that a request or a slot needs of Envoy is a function here.
//! (The SDK's callbacks come in at [`crate::root`] and [`crate::stream`], which hand them on.) Every room may know this
//! one; it knows none. Within, files import each other by their own paths, since this one only names them.
//!
//! Every call returns a `Result`: the SDK's own wrappers panic on statuses that they do not expect, and on header values
//! that are not UTF-8.

mod buffer;
mod entropy;
mod headers;
mod metric;
mod property;
mod raw;
mod root;
pub mod shared;
mod status;
mod stream;

pub use self::buffer::{request_body, response_piece};
pub use self::entropy::random;
pub use self::headers::{HeaderMap, Map, add_header, headers, remove_header, set_header};
pub use self::metric::{MetricKind, define_metric, increment, record};
pub use self::property::{client_address, declare_for_request, node_id, property, response_details, set_property};
pub use self::root::{Call, call, plugin_configuration, response_body, response_status};
pub use self::shared::data::{put_if_absent, shared, update_shared};
pub use self::status::HostError;
pub use self::stream::{Direction, answer, now, resume, set_effective_context, set_tick_period};
