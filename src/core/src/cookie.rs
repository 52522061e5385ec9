//! Cookies in header bytes: found, cut out and written without trusting what stands around them.

use std::borrow::Cow;

use crate::settings::{CookieSecure, PinSettings, SameSite};

/// The values of all cookies called `name` in one `cookie` header line.
pub fn find<'a>(line: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    line.split(|b| *b == b';').filter_map(move |pair| value_of(pair, name))
}

/// The line without any cookie called `name`; `None` where it holds none, and an empty line where it held nothing else.
fn without(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    find(line, name).next()?;
    let mut rest = Vec::with_capacity(line.len());
    for pair in line.split(|b| *b == b';').filter(|pair| value_of(pair, name).is_none()) {
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        rest.extend_from_slice(pair.trim_ascii());
    }
    Some(rest)
}

/// Cookie lines without any cookie called `name`; lines that hold nothing else, or nothing at all, are left out.
pub fn lines_without<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let rest = lines.map(move |line| without(line, name).map_or(Cow::Borrowed(line), Cow::Owned));
    rest.filter(|line| !line.is_empty())
}

fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")
}

/// The `set-cookie` value that carries `token` for `max_age_seconds` more.
pub fn set(name: &str, token: &str, max_age_seconds: u64, settings: &PinSettings, https: Scheme) -> String {
    let path = &settings.cookie_path.0;
    let same_site = match settings.cookie_same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    };
    let secure = match (settings.cookie_secure, https) {
        (CookieSecure::Always, _) | (CookieSecure::Auto, Scheme::Https) => "; Secure",
        (CookieSecure::Auto, Scheme::Http) => "",
    };
    format!("{name}={token}; Path={path}; Max-Age={max_age_seconds}; HttpOnly; SameSite={same_site}{secure}")
}

/// The `set-cookie` value that takes back a token: no client would let it go by itself.
pub fn take_back(name: &str, settings: &PinSettings, https: Scheme) -> String {
    set(name, "", 0, settings, https)
}

/// How the client reached the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cookie is found by its whole name only, as often as it stands there, and leaves its neighbours as they were.
    #[test]
    fn finds_and_cuts() {
        let cases: [(&str, &[&str], Option<&str>); 8] = [
            ("", &[], None),
            ("pin=1", &["1"], Some("")),
            ("a=b; pin=1; c=d", &["1"], Some("a=b; c=d")),
            ("pin=1;pin=2;x=3", &["1", "2"], Some("x=3")),
            ("xpin=1; pinx=2; pin", &[], None),
            ("  pin=a=b ;;", &["a=b"], None),
            ("pin=\"1\"", &["\"1\""], Some("")),
            ("PIN=1", &[], None),
        ];
        for (line, values, rest) in cases {
            let found: Vec<_> = find(line.as_bytes(), b"pin").collect();
            assert_eq!(found, values.iter().map(|v| v.as_bytes()).collect::<Vec<_>>(), "{line}");
            if let Some(rest) = rest {
                assert_eq!(without(line.as_bytes(), b"pin").as_deref(), Some(rest.as_bytes()), "{line}");
            } else if values.is_empty() {
                assert_eq!(without(line.as_bytes(), b"pin"), None, "{line}");
            }
        }
    }

    /// The cookie is Secure by scheme or by setting, and never readable by scripts.
    #[test]
    fn writes_attributes() {
        let mut settings = PinSettings::default();
        assert_eq!(
            set("agent-pin-chat", "tok", 60, &settings, Scheme::Http),
            "agent-pin-chat=tok; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
        assert!(set("n", "t", 60, &settings, Scheme::Https).ends_with("SameSite=Lax; Secure"));
        settings.cookie_secure = CookieSecure::Always;
        settings.cookie_same_site = SameSite::None;
        assert!(set("n", "t", 60, &settings, Scheme::Http).ends_with("SameSite=None; Secure"));
    }
}
