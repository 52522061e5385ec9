//! The request that is asked about, and the headers that the filter would have seen of it.

use serde::{Deserialize, Serialize};

use crate::baggage;
use crate::plan::Plan;
use crate::seen::{BodyRole, Seen};
use crate::settings::Sessionless;

/// A request as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "AskedRequest"))]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// The session id, as the first source of the settings would carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Pins, as their carrier would bring them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Any other headers, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderLine>,
    /// The address that the proxy trusts, with its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<String>,
}

/// One header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HeaderLine {
    /// Its name, in any case.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Request {
    /// The headers as the filter would read them.
    pub(super) fn headers_for(&self, plan: &Plan) -> Vec<(Vec<u8>, Vec<u8>)> {
        let settings = &plan.settings;
        let mut headers = Vec::new();
        let mut add =
            |name: &str, value: String| headers.push((name.as_bytes().to_ascii_lowercase(), value.into_bytes()));
        let pseudo = [(":method", &self.method), (":path", &self.path), (":authority", &self.host)];
        for (name, value) in pseudo {
            value.iter().for_each(|value| add(name, value.clone()));
        }
        for pin in &self.pins {
            if plan.uses_header() {
                add(settings.headers.pin.as_str(), pin.clone());
            } else {
                add("cookie", format!("{}={pin}", plan.cookie));
            }
        }
        self.headers.iter().for_each(|header| add(&header.name, header.value.clone()));
        headers
    }

    /// The session id as the first source would bring it: before those of the headers.
    pub(super) fn session_for(&self, plan: &Plan) -> Option<&[u8]> {
        let id = self.session.as_deref().filter(|id| !id.is_empty() && !plan.settings.session_sources.is_empty());
        id.map(str::as_bytes)
    }

    /// What is to be known beside the rules.
    pub(super) fn notes(&self, plan: &Plan, seen: &Seen<'_>, placed_by_client: bool) -> Vec<String> {
        let settings = &plan.settings;
        let mut notes = Vec::new();
        if seen.stamps.is_present() {
            let names = settings.headers.stamps().map(|name| name.as_str()).join(", ");
            notes.push(format!("what the client sends as {names} is dropped, and counted as forged_headers"));
        }
        if self.session.is_some() && settings.session_sources.is_empty() {
            notes.push("the service reads no session id: session_sources is empty".to_owned());
        }
        if seen.body != BodyRole::None && self.session_for(plan).is_none() {
            notes.push("the body may name the session, and is not known here: give the id as the session".to_owned());
        }
        if seen.pin_header.is_present() && !plan.uses_header() {
            notes.push(format!("a pin in {} is not looked at: pin.header is never", settings.headers.pin));
        }
        if seen.pin_cookie.is_present() && !plan.uses_cookie() {
            let cookie = &plan.cookie;
            notes.push(format!("a pin in the cookie {cookie} is not looked at: the settings carry none there"));
        }
        if settings.sessionless == Sessionless::Client && seen.session_id.is_none() && !placed_by_client {
            notes.push("the client's address is not given, which the settings place such requests by".to_owned());
        }
        if seen.runs.iter().count() > 1 {
            notes.push(format!("{} stands in the baggage several times; one at most goes on", baggage::MEMBER));
        }
        notes
    }
}
