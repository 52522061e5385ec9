//! The answer to a request whose session cannot go on: its bundle is gone, and the settings have the client told so.

use colorfast_core::cookie;
use colorfast_core::plan::Plan;
use colorfast_core::seen::Seen;

use crate::host;

const STATUS: u32 = 409;
/// What Envoy's access log says of it.
const DETAILS: &str = "colorfast_bundle_gone";
const BODY: &str = concat!(
    r#"{"type":"urn:colorfast:problem:bundle-gone","title":"The bundle of the session is gone","status":409,"#,
    r#""detail":"The release that this session began on does not run any more. Begin a new session, without the pin."}"#
);

/// Answers the request of the effective context. A pin that came in a cookie is taken back with it, since no browser would
/// let it go by itself.
pub fn answer(plan: &Plan, seen: &Seen<'_>) {
    let ended;
    let mut headers = vec![("content-type", "application/problem+json"), ("cache-control", "no-store")];
    if seen.pin_cookie.is_present() {
        ended = cookie::set(&plan.cookie, "", 0, &plan.settings.pin, seen.scheme);
        headers.push(("set-cookie", &ended));
    }
    let _ = host::answer(STATUS, DETAILS, &headers, BODY.as_bytes());
}
