//! Slots that share an upstream and differ in the headers of their bundles' parts.

use colorfast_core::bundle::Part;
use colorfast_core::snapshot::Snapshot;

use crate::proxy::Proxy;
use crate::releases::{blue_live, green_live, none_live};
use crate::request::Request;

const PROMPTS: &str = "x-agent-prompt-version";
const MODEL: &str = "x-agent-model";

/// Prompts and model travel in headers; each slot has its own of the ones named here.
fn with_parts(mut snapshot: Snapshot, blue: &[(&str, &str)], green: &[(&str, &str)]) -> Snapshot {
    let parts = [(Part::Prompts, PROMPTS), (Part::Model, MODEL)];
    snapshot.settings.part_headers = parts.map(|(part, name)| (part, name.parse().unwrap())).into_iter().collect();
    for (slot, headers) in snapshot.slots.iter_mut().zip([blue, green]) {
        slot.headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), (*value).to_owned())).collect();
    }
    snapshot
}

const BLUE: &[(&str, &str)] = &[(PROMPTS, "p-1"), (MODEL, "m-1")];
const GREEN: &[(&str, &str)] = &[(PROMPTS, "p-2"), (MODEL, "m-1")];

/// Stamped: the versions of a bundle's parts are stamped, and flip with the slot.
#[test]
fn parts_are_stamped() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&with_parts(blue_live(5), BLUE, GREEN));
    let prompts = || worker.send(Request::new()).forwarded().text(PROMPTS).map(str::to_owned);
    assert_eq!(prompts().as_deref(), Some("p-1"));
    worker.hear(&with_parts(green_live(6), BLUE, GREEN));
    assert_eq!(prompts().as_deref(), Some("p-2"));
}

/// Unforgeable: what a client sends under the name of a part is overwritten, or removed where the slot has no such
/// part, or nothing is live.
#[test]
fn parts_of_clients_never_pass() {
    let forged = || {
        let request = Request::new().with(PROMPTS, "evil").with(PROMPTS, b"\xff");
        request.with(MODEL, "evil").with("x-agent-other", "mine")
    };
    let sent = |snapshot: &Snapshot| {
        let proxy = Proxy::chat();
        let forwarded = proxy.with(snapshot).send(forged()).forwarded();
        assert_eq!(forwarded.text("x-agent-other"), Some("mine"));
        let all = |name: &str| forwarded.all(name).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        (all(PROMPTS), all(MODEL))
    };
    let (prompts, model) = sent(&with_parts(blue_live(5), BLUE, GREEN));
    assert_eq!((prompts, model), (vec![b"p-1".to_vec()], vec![b"m-1".to_vec()]));
    let (prompts, model) = sent(&with_parts(blue_live(5), &[(PROMPTS, "p-1")], &[]));
    assert_eq!((prompts, model), (vec![b"p-1".to_vec()], vec![]));
    let (prompts, model) = sent(&with_parts(none_live(5), BLUE, &[]));
    assert_eq!((prompts, model), (vec![], vec![]));
}
