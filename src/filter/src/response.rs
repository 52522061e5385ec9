//! The way back: the pin goes to the client with the answer of the agent.

use colorfast_core::cookie::{self, Scheme};
use colorfast_core::names::metric;
use colorfast_core::pin::Claims;

use crate::host::{self, Map};
use crate::service::Service;
use crate::vm::Vm;

/// A pin that the response hands out.
#[derive(Debug)]
pub struct Issue {
    /// What it says.
    pub claims: Claims,
    /// How the client reached the proxy.
    pub scheme: Scheme,
}

impl Issue {
    /// Puts the pin on the response of the running callback, unless Envoy itself answered (no session began), or the
    /// answer may be kept and given to others.
    pub fn hand_out(&self, vm: &Vm, service: &Service) {
        let by_upstream =
            host::property(&["response", "code_details"]).is_some_and(|details| details == b"via_upstream");
        if !by_upstream || is_public() {
            return;
        }
        let Some(current) = service.current(&vm.metrics) else { return };
        let plan = &current.plan;
        let Some(token) = plan.mint(&self.claims) else { return };
        let settings = &plan.settings;
        if plan.uses_header() {
            let _ = host::set_header(Map::Response, settings.headers.pin.as_str(), token.as_bytes());
        }
        if plan.uses_cookie() {
            let age = self.claims.refreshed.since(self.claims.began);
            let left = u64::from(settings.pin.max_age_seconds).saturating_sub(age);
            let value = cookie::set(&plan.cookie, &token, left, &settings.pin, self.scheme);
            let _ = host::add_header(Map::Response, "set-cookie", value.as_bytes());
        }
        vm.metrics.count(&metric::pins_issued(&service.name), 1);
    }
}

/// Whether the answer says of itself that shared caches may keep it.
fn is_public() -> bool {
    let control = host::header(Map::Response, "cache-control").ok().flatten().unwrap_or_default();
    control.split(|b| *b == b',').any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"public"))
}
