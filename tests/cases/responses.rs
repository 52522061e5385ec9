//! What goes back to the client.

use colorfast_core::names::HEADER_PIN;
use colorfast_core::settings::{
    CookieCarrier, CookiePath, CookieSecure, HeaderCarrier, PinSettings, SameSite, ServiceSettings,
};
use wasm_host::HeaderMap;

use crate::proxy::{Proxy, Worker};
use crate::releases::{BLUE, blue_live, free_pin};
use crate::request::Request;

fn with_settings(edit: impl FnOnce(&mut ServiceSettings)) -> (Proxy, Worker) {
    let mut snapshot = blue_live(5);
    edit(&mut snapshot.settings);
    let proxy = Proxy::chat();
    let worker = proxy.with(&snapshot);
    (proxy, worker)
}

/// Both carriers on.
fn both(settings: &mut ServiceSettings) {
    settings.pin.cookie = CookieCarrier::Always;
}

/// Kept: a session that begins is told its pin; one that goes on is told nothing, and its next pin only when the old
/// one is to be refreshed.
#[test]
fn pins_go_out_when_they_are_new() {
    let (proxy, worker) = with_settings(both);
    let answer = worker.send(Request::new().session("alpha")).answered(&[]);
    let token = answer.text(HEADER_PIN).unwrap().to_owned();
    assert!(token.len() <= 80);
    assert!(answer.text("set-cookie").unwrap().starts_with(&format!("agent-pin-chat={token}; ")));
    let back = || Request::new().session("alpha").pin(&token);
    let quiet = worker.send(back()).answered(&[]);
    assert!(!quiet.has(HEADER_PIN) && !quiet.has("set-cookie"));
    // A quarter of the idle timeout, which is a day.
    proxy.wait(6 * 3_600_000);
    let refreshed = worker.send(back()).answered(&[]);
    assert!(refreshed.has(HEADER_PIN) && refreshed.has("set-cookie"));
    assert_ne!(refreshed.text(HEADER_PIN), Some(token.as_str()));
    // The cookie ends with the session, not a week after its last refresh.
    let left = 7 * 86_400 - 6 * 3_600;
    assert!(refreshed.text("set-cookie").unwrap().contains(&format!("; Max-Age={left}; ")));
    assert_eq!(proxy.count("pins_issued"), 2);
}

/// Kept: an answer of Envoy's own begins no session, and hands out no pin.
#[test]
fn envoys_own_answers_carry_no_pin() {
    let (proxy, worker) = with_settings(both);
    for details in ["route_not_found", "no_healthy_upstream", "upstream_reset_before_response_started{}", ""] {
        let sent = worker.send(Request::new().session("alpha"));
        sent.stream.proxy_reply(details, [(":status", "503")]).unwrap();
        let answer = sent.stream.forwarded_response().unwrap();
        assert_eq!(answer, HeaderMap::from([(":status", "503")]), "{details}");
        assert_eq!(sent.bundle().as_deref(), Some("b-1"), "{details}: it is stamped all the same");
    }
    assert_eq!(proxy.count("pins_issued"), 0);
}

/// Unforgeable: an answer that others may be given from a cache hands out nobody's pin.
#[test]
fn public_answers_carry_no_pin() {
    let (_proxy, worker) = with_settings(both);
    let cases = [
        ("public", false),
        ("max-age=60, Public", false),
        ("public,max-age=60", false),
        ("private", true),
        ("max-age=60", true),
        ("x-public", true),
        ("", true),
    ];
    for (control, wanted) in cases {
        let answer = worker.send(Request::new()).answered(&[("cache-control", control)]);
        assert_eq!((answer.has(HEADER_PIN), answer.has("set-cookie")), (wanted, wanted), "{control}");
    }
}

/// Kept: an agent that answers with an error has begun a session all the same.
#[test]
fn errors_of_the_agent_carry_the_pin() {
    let (_proxy, worker) = with_settings(both);
    let sent = worker.send(Request::new());
    sent.stream.response_headers([(":status", "500")]).unwrap();
    assert!(sent.stream.response().has(HEADER_PIN));
}

/// Kept: the pin travels as the settings say, and the cookie is written as they say, by the client's scheme.
#[test]
fn the_settings_say_how_pins_travel() {
    type Edit = fn(&mut ServiceSettings);
    let cases: [(Edit, &str, bool, Option<&str>); 9] = [
        (|_| (), "https", true, None),
        (
            |settings| settings.session_sources.clear(),
            "https",
            true,
            Some("Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure"),
        ),
        (both, "http", true, Some("Path=/; Max-Age=604800; HttpOnly; SameSite=Lax")),
        (|settings| settings.pin.header = HeaderCarrier::Never, "https", false, None),
        (
            |settings| {
                settings.pin = PinSettings {
                    header: HeaderCarrier::Never,
                    cookie: CookieCarrier::Always,
                    ..PinSettings::default()
                }
            },
            "http",
            false,
            Some("Path=/; Max-Age=604800; HttpOnly; SameSite=Lax"),
        ),
        (
            |settings| {
                settings.pin = PinSettings {
                    cookie: CookieCarrier::Always,
                    cookie_secure: CookieSecure::Always,
                    ..PinSettings::default()
                }
            },
            "http",
            true,
            Some("Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure"),
        ),
        (
            |settings| {
                settings.pin = PinSettings {
                    cookie: CookieCarrier::Always,
                    cookie_same_site: SameSite::Strict,
                    ..PinSettings::default()
                }
            },
            "https",
            true,
            Some("Path=/; Max-Age=604800; HttpOnly; SameSite=Strict; Secure"),
        ),
        (
            |settings| {
                settings.pin = PinSettings {
                    cookie: CookieCarrier::Always,
                    cookie_same_site: SameSite::None,
                    cookie_secure: CookieSecure::Always,
                    ..PinSettings::default()
                }
            },
            "http",
            true,
            Some("Path=/; Max-Age=604800; HttpOnly; SameSite=None; Secure"),
        ),
        (
            |settings| {
                settings.pin = PinSettings {
                    cookie: CookieCarrier::Always,
                    cookie_path: CookiePath("/chat".into()),
                    max_age_seconds: 90_000,
                    ..PinSettings::default()
                }
            },
            "http",
            true,
            Some("Path=/chat; Max-Age=90000; HttpOnly; SameSite=Lax"),
        ),
    ];
    for (index, (edit, scheme, header, attributes)) in cases.into_iter().enumerate() {
        let (_proxy, worker) = with_settings(edit);
        let answer = worker.send(Request::new().instead(":scheme", scheme)).answered(&[]);
        assert_eq!(answer.has(HEADER_PIN), header, "case {index}");
        let cookie = answer.text("set-cookie").map(|cookie| cookie.split_once("; ").unwrap().1);
        assert_eq!(cookie, attributes, "case {index}");
    }
}

/// Kept: header and cookie go by the names that the settings give them.
#[test]
fn the_settings_name_the_carriers() {
    let (_proxy, worker) = with_settings(|settings| {
        settings.headers.pin = "x-pin".parse().unwrap();
        settings.pin.cookie = CookieCarrier::Always;
        settings.pin.cookie_name = Some("colour".parse().unwrap());
    });
    let answer = worker.send(Request::new()).answered(&[]);
    let token = answer.text("x-pin").unwrap().to_owned();
    assert!(!answer.has(HEADER_PIN));
    assert!(answer.text("set-cookie").unwrap().starts_with(&format!("colour={token}; ")));
    for request in [Request::new().with("x-pin", &token), Request::new().cookie(&format!("colour={token}"))] {
        let sent = worker.send(request);
        assert_eq!(sent.decision().as_deref(), Some("pin"));
        assert!(!sent.forwarded().has("x-pin") && !sent.forwarded().has("cookie"));
    }
    let sent = worker.send(Request::new().pin(&token));
    assert_eq!(sent.decision().as_deref(), Some("random"), "another header is another header");
}

/// Kept: a carrier that is off is not read either.
#[test]
fn a_carrier_that_is_off_is_not_read() {
    let (proxy, worker) = with_settings(|settings| settings.pin.header = HeaderCarrier::Never);
    let sent = worker.send(Request::new().pin(free_pin(proxy.process.now(), BLUE)));
    assert_eq!(sent.decision().as_deref(), Some("random"));
    assert!(!sent.forwarded().has(HEADER_PIN), "and ends here all the same");
    assert_eq!(proxy.count("tokens_refused.kind.pin.cause.malformed"), 0);
}

/// Kept: what else the agent answers stays as it was, its cookies beside ours.
#[test]
fn the_agents_headers_stay() {
    let (_proxy, worker) = with_settings(both);
    let own = [("set-cookie", "session=1"), ("set-cookie", "theme=dark"), ("x-agent", "yes"), ("content-type", "a/b")];
    let answer = worker.send(Request::new()).answered(&own);
    let kept = answer.iter().filter(|(name, value)| {
        let ours = *name == HEADER_PIN.as_bytes() || value.starts_with(b"agent-pin-chat=");
        !ours && *name != b":status"
    });
    let kept: Vec<_> =
        kept.map(|(name, value)| (str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap())).collect();
    assert_eq!(kept, own);
    assert_eq!(answer.all("set-cookie").len(), 3);
    // Without a pin to hand out nothing is touched at all.
    let pin = answer.get(HEADER_PIN).unwrap().to_vec();
    let answer = worker.send(Request::new().pin(pin)).answered(&own);
    assert_eq!(answer.len(), own.len() + 1);
}

/// Cheap: bodies and trailers of answers pass untouched, and the filter never holds them.
#[test]
fn answers_are_never_held() {
    let (_proxy, worker) = with_settings(both);
    let sent = worker.send(Request::new());
    sent.stream.response_headers_before_body([(":status", "200"), ("content-type", "text/event-stream")]).unwrap();
    assert!(sent.stream.forwarded_response().unwrap().has(HEADER_PIN));
    for chunk in ["data: 1\n\n", "data: 2\n\n"] {
        sent.stream.response_body(chunk).unwrap();
        assert!(!sent.stream.is_response_paused());
    }
    sent.stream.response_body_last("").unwrap();
    assert_eq!(sent.stream.forwarded_response_body(), b"data: 1\n\ndata: 2\n\n");
    sent.stream.finish().unwrap();
}
