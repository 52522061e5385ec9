//! What a request shows: its headers and its body, read by a plan.

use std::rc::Rc;

use colorfast_core::baggage;
use colorfast_core::plugin::Direction;
use colorfast_core::seen::{self, Evidence, Seen};
use colorfast_core::settings::Sessionless;

use super::body::{Body, Told};
use super::held::{Held, Share};
use super::redirect::{self, EarlierPass};
use super::stamps;
use crate::host::{self, HeaderMap, Map};
use crate::service::{Current, Service};
use crate::worker::Worker;

/// What has come of a request.
#[derive(Debug)]
pub struct Input {
    headers: HeaderMap,
    /// The address that Envoy trusts, where the settings have asked for it.
    address: Option<Vec<u8>>,
    body: Body,
    /// What was verified of its tokens at the try before, by this plan.
    evidence: Option<(Rc<Current>, Evidence)>,
}

/// What a request shows of itself, as one plan reads it.
#[derive(Debug)]
pub struct Observed<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its session, its tokens, and what stands under our names.
    pub seen: Seen<'a>,
    /// The body, as far as it has come.
    pub body: &'a Body,
    /// What that has said of the session.
    pub told: Told,
    /// What is hashed where the request names no session.
    pub client: Option<Vec<u8>>,
    /// What came before this pass.
    pub earlier: EarlierPass,
}

/// Reads the request of the running callback: the service that has it, and the plan that it has now. `None` where no
/// service has it, so that it passes untouched.
pub fn read(worker: &Worker, held: &Held, is_headers_only: bool) -> Option<(Rc<Service>, Rc<Current>, Input)> {
    let headers = host::headers(Map::Request).ok()?;
    if worker.config.direction == Direction::Egress {
        if headers.iter().any(|(name, line)| name == b"baggage" && baggage::find(line).next().is_some()) {
            stamps::drop_runs(&headers);
        }
        return None;
    }
    let (mut authority, mut path) = (&b""[..], &b""[..]);
    for (name, value) in headers.iter() {
        match name {
            b":authority" => authority = value,
            b":path" => path = value,
            _ => {}
        }
    }
    let Some(index) = worker.config.service_of(authority, path) else {
        redirect::clear_redirected(&headers, worker.services.iter().filter_map(|service| service.current()));
        return None;
    };
    let service = worker.services.get(index)?;
    let current = service.current()?;
    Some((
        Rc::clone(service),
        current,
        Input { headers, address: None, body: Body::new(is_headers_only, held.share()), evidence: None },
    ))
}

impl Input {
    /// Reads what has come, by the plan of `current`.
    pub fn observe(&mut self, current: &Rc<Current>) -> Observed<'_> {
        let plan = &current.plan;
        let Self { headers, address, body, evidence } = self;
        // Anew at each try: a snapshot that came since may look elsewhere for ids and pins.
        let mut seen = Seen::read(headers.iter(), plan);
        if let Some((_, evidence)) = evidence.take().filter(|(of, _)| Rc::ptr_eq(of, current)) {
            seen.recall(evidence);
        }
        let told = body.read(current, &mut seen);
        let client = if plan.settings.sessionless == Sessionless::Client && seen.session_id.is_none() {
            let address = address.get_or_insert_with(host::client_address);
            Some(seen::client(address.clone(), seen.user_agent))
        } else {
            None
        };
        let earlier = EarlierPass::read(headers, plan, seen.stamps);
        Observed { headers, seen, body, told, client, earlier }
    }

    /// Keeps what was verified, for the next try.
    pub fn keep(&mut self, current: Rc<Current>, evidence: Evidence) {
        self.evidence = Some((current, evidence));
    }

    /// Takes note of what has come of the body: `size` bytes are held by now.
    pub fn take_body(&mut self, current: &Current, size: usize, is_whole: bool) {
        let most = current.plan.settings.body.held_bytes;
        self.body.take(size, is_whole, usize::try_from(most).unwrap_or(usize::MAX));
    }

    /// Takes over what is held of the body, where more may come.
    pub fn take_cut(&mut self) -> Option<Share> {
        self.body.take_cut()
    }

    /// Takes note that the body has ended.
    pub fn end_body(&mut self) {
        self.body.complete();
    }
}
