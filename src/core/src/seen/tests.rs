//! What requests show, by settings of every kind.

use super::*;
use crate::settings::CookieCarrier;
use crate::snapshot::Snapshot;

fn plan(edit: impl FnOnce(&mut ServiceSettings)) -> Plan {
    let mut snapshot = Snapshot::empty("chat".parse().unwrap());
    edit(&mut snapshot.settings);
    Plan::compile(&snapshot, None).unwrap()
}

fn read<'a>(plan: &Plan, headers: &'a [(&'a str, &'a str)]) -> Seen<'a> {
    Seen::read(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), plan)
}

fn sources(settings: &mut ServiceSettings, json: &str) {
    settings.session_sources = serde_json::from_str(json).unwrap();
}

/// Kept: the first source of the settings that has an id names the session, wherever it stands in the request.
#[test]
fn the_first_source_names_the_session() {
    let plan = plan(|settings| sources(settings, r#"[{"header":"x-a"},{"cookie":"b"},{"header":"x-c"}]"#));
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Pairs, Option<&str>); 7] = [
        (&[], None),
        (&[("x-c", "c"), ("cookie", "b=b"), ("x-a", "a")], Some("a")),
        (&[("x-c", "c"), ("cookie", "x=y"), ("cookie", "b=b; b=d")], Some("b")),
        (&[("x-a", ""), ("x-c", "c")], Some("c")),
        (&[("x-a", ""), ("x-a", "later")], Some("later")),
        (&[("cookie", "b="), ("x-c", "c"), ("x-c", "d")], Some("c")),
        (&[("x-agent-session", "other")], None),
    ];
    for (headers, wanted) in cases {
        assert_eq!(read(&plan, headers).session_id.as_deref(), wanted.map(str::as_bytes), "{headers:?}");
    }
}

/// Kept: an id is found in every kind of source, and is the same session whichever of them brings it.
#[test]
fn every_kind_of_source_is_read() {
    let plan = plan(|settings| {
        let json =
            r#"[{"path":"/threads/{session}/runs"},{"query":"thread"},{"baggage":"session.id"},{"header":"x-id"}]"#;
        sources(settings, json);
    });
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Pairs, Option<&str>); 12] = [
        (&[(":path", "/threads/a%20b/runs/stream?thread=q")], Some("a b")),
        (&[(":path", "/threads/a+b/runs")], Some("a+b")),
        (&[(":path", "/threads//runs?thread=q")], Some("q")),
        (&[(":path", "/runs?x=1&thread=a+b%2Fc")], Some("a b/c")),
        (&[(":path", "/runs?thread=&thread=second")], Some("second")),
        (&[(":path", "/runs?thread")], None),
        (&[(":path", "/thread=q")], None),
        (&[("baggage", "a=1, session.id=a%20b+c;p=1"), (":path", "/runs?threads=x")], Some("a b+c")),
        (&[("baggage", "session.id=,xsession.id=2"), ("x-id", "%41")], Some("%41")),
        (&[("baggage", "session.id=b"), (":path", "/?thread=q")], Some("q")),
        (&[("baggage", "a=1"), ("baggage", "session.id=second")], Some("second")),
        (&[(":path", "/runs?thread=%zz%4")], Some("%zz%4")),
    ];
    for (headers, wanted) in cases {
        assert_eq!(read(&plan, headers).session_id.as_deref(), wanted.map(str::as_bytes), "{headers:?}");
    }
}

/// Cheap: a body matters only where a source of it comes before the first that has an id, and is JSON in the clear.
#[test]
fn bodies_matter_where_they_may_name_the_session() {
    let without = plan(|_| {});
    let plan = plan(|settings| sources(settings, r#"[{"header":"x-a"},{"body":"/id"},{"header":"x-c"}]"#));
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let json = ("content-type", "application/json");
    let cases: [(Pairs, BodyRole); 10] = [
        (&[json], BodyRole::Json),
        (&[("content-type", "Application/Problem+JSON; charset=utf-8"), ("x-c", "c")], BodyRole::Json),
        (&[json, ("x-a", "a")], BodyRole::None),
        (&[json, ("x-a", "")], BodyRole::Json),
        (&[], BodyRole::Other),
        (&[("content-type", "application/jsonl")], BodyRole::Other),
        (&[("content-encoding", "gzip"), json], BodyRole::Encoded),
        (&[json, ("content-encoding", "identity")], BodyRole::Json),
        (&[json, ("content-encoding", "IDENTITY ")], BodyRole::Json),
        (&[json, ("content-encoding", "")], BodyRole::Json),
    ];
    for (headers, wanted) in cases {
        assert_eq!(read(&plan, headers).body, wanted, "{headers:?}");
    }
    assert_eq!(read(&without, &[json]).body, BodyRole::None);
}

/// Kept: pins come from the carriers of the settings, the header's first; of the others only the presence counts.
#[test]
fn pins_come_from_their_carriers() {
    let headers = [("cookie", "agent-pin-chat=1; agent-pin-chat=2"), ("x-agent-pin", "3"), ("x-agent-pin", "4")];
    let both = plan(|settings| settings.pin.cookie = CookieCarrier::Always);
    let seen = read(&both, &headers);
    let pins: Vec<_> = seen.pins.iter().map(|(carrier, token)| (carrier, token.bytes())).collect();
    let wanted: [(Carrier, &[u8]); 4] =
        [(Carrier::Header, b"3"), (Carrier::Header, b"4"), (Carrier::Cookie, b"1"), (Carrier::Cookie, b"2")];
    assert_eq!(pins, wanted);
    let header = plan(|_| {});
    let seen = read(&header, &headers);
    assert_eq!(seen.pins.iter().count(), 2);
    assert_eq!((seen.pin_header, seen.pin_cookie), (Presence::Present, Presence::Present));
    let many = [("x-agent-pin", "x"); TOKENS_MAX + 5];
    assert_eq!(read(&header, &many).pins.iter().count(), TOKENS_MAX);
}

/// Unforgeable: whatever stands under the name of a stamp is noticed, also under a name that the settings changed.
#[test]
fn stamps_are_noticed() {
    let changed = plan(|settings| settings.headers.slot = "x-colour".parse().unwrap());
    for name in ["x-colour", "x-agent-bundle", "x-agent-decision", "x-agent-client-sent"] {
        assert!(read(&changed, &[(name, "")]).stamps.is_present(), "{name}");
    }
    for name in ["x-agent-slot", "x-agent-pin", "x-agent-preview", "x-agent-session"] {
        assert!(!read(&changed, &[(name, "")]).stamps.is_present(), "{name}");
    }
    assert!(read(&changed, &[("x-agent-preview", "")]).preview.is_some());
}
