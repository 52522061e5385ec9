//! The answer to a request whose session cannot go on, where the settings have the client told so: its bundle is gone, or
//! its envelope is dead.

use colorfast_core::cookie;
use colorfast_core::decide::Way;
use colorfast_core::plan::Plan;
use colorfast_core::seen::Seen;

use crate::host;

/// One such answer: its status, what Envoy's access log says of it, and the problem document.
type Answer = (u32, &'static str, &'static str);

const GONE: Answer = (
    409,
    "colorfast_bundle_gone",
    concat!(
        r#"{"type":"urn:colorfast:problem:bundle-gone","title":"The bundle of the session is gone","status":409,"#,
        r#""detail":"The release that this session began on does not run any more. Begin a new one, without the session id and the pin of this."}"#
    ),
);
const ENDED: Answer = (
    404,
    "colorfast_session_ended",
    concat!(
        r#"{"type":"urn:colorfast:problem:session-ended","title":"The session has ended","status":404,"#,
        r#""detail":"The session id is not honoured any more. Begin a new session, without it."}"#
    ),
);

/// Answers the request of the effective context. A pin that came in a cookie is taken back with it.
pub fn answer(plan: &Plan, seen: &Seen<'_>, way: Way) {
    let (status, details, body) = if way == Way::Ended { ENDED } else { GONE };
    let ended;
    let mut headers = vec![("content-type", "application/problem+json"), ("cache-control", "no-store")];
    if seen.pin_cookie.is_present() {
        ended = cookie::take_back(&plan.cookie, &plan.settings.pin, seen.scheme);
        headers.push(("set-cookie", &ended));
    }
    let _ = host::answer(status, details, &headers, body.as_bytes());
}
