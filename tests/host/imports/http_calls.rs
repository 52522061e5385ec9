//! HTTP calls to clusters.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::guest::{Guest, Stop, bad_argument};
use crate::state::VmState;
use crate::{HeaderMap, HttpCall, maps};

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_http_call(
            cluster, cluster_length, headers, headers_length, body, body_length,
            trailers, trailers_length, timeout, token_at
        );
    );
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the ABI has as many")]
fn proxy_http_call(
    guest: &mut Guest<'_>,
    cluster: u32,
    cluster_length: u32,
    headers: u32,
    headers_length: u32,
    body: u32,
    body_length: u32,
    trailers: u32,
    trailers_length: u32,
    timeout: u32,
    token_at: u32,
) -> Result<(), Stop> {
    let cluster = guest.read_text(cluster, cluster_length)?;
    let headers = read_map(guest, headers, headers_length)?;
    let body = guest.read(body, body_length)?;
    let trailers = read_map(guest, trailers, trailers_length)?;
    guest.write_u32(token_at, 0)?;
    if timeout.cast_signed() < 0 {
        return Err(bad_argument("a negative timeout"));
    }
    if guest.state().process.read().missing_clusters.contains(&cluster) {
        return Err(bad_argument(format!("there is no cluster {cluster}")));
    }
    for name in [":method", ":path", ":authority"] {
        if !headers.has(name) {
            return Err(bad_argument(format!("an HTTP call to {cluster} without {name}")));
        }
    }
    let state = guest.state_mut();
    let token = state.next_call();
    let (context, root) = (state.context(), state.root_id());
    let call = HttpCall { token, context, cluster, headers, body, trailers, timeout_ms: timeout, root };
    state.calls.insert(token, call);
    guest.write_u32(token_at, token)
}

fn read_map(guest: &Guest<'_>, data: u32, length: u32) -> Result<HeaderMap, Stop> {
    let wire = guest.read(data, length)?;
    maps::decode(&wire).ok_or_else(|| bad_argument("a header map that cannot be read"))
}
