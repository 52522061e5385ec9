//! Cookies in header bytes: found, cut out and written without trusting what stands around them.

use std::borrow::Cow;

use crate::settings::{CookieSecure, PinSettings, SameSite};

/// The values of all cookies called `name` in one `cookie` header line.
pub fn find<'a>(line: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    line.split(|b| *b == b';').filter_map(move |pair| value_of(pair, name))
}

/// The value that one `set-cookie` line gives the cookie `name`; none where it takes the cookie back, by an empty value or a
/// `Max-Age` of nothing (RFC 6265, section 5.2.2).
pub fn handed_out<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut parts = line.split(|b| *b == b';');
    let value = value_of(parts.next()?, name)?;
    let is_over = |part: &[u8]| {
        let (key, age) = part.split_at_checked(part.iter().position(|b| *b == b'=')?)?;
        let age = age.get(1..)?.trim_ascii();
        let is_age = key.trim_ascii().eq_ignore_ascii_case(b"max-age");
        Some(is_age && (age.starts_with(b"-") || (!age.is_empty() && age.iter().all(|b| *b == b'0'))))
    };
    (!value.is_empty() && !parts.any(|part| is_over(part) == Some(true))).then_some(value)
}

/// A value without the quotation marks that some clients put around it (RFC 6265, section 4.1.1).
pub fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// The line without any cookie called `name`; `None` where it holds none, and an empty line where it held nothing else.
/// What stays is as it was, byte for byte.
fn without(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    find(line, name).next()?;
    let mut rest = Vec::with_capacity(line.len());
    let mut others = line.split(|b| *b == b';').filter(|pair| value_of(pair, name).is_none());
    if let Some(first) = others.next() {
        // A header value begins with no white space.
        rest.extend_from_slice(first.trim_ascii_start());
    }
    for pair in others {
        rest.push(b';');
        rest.extend_from_slice(pair);
    }
    let holds_one = rest.iter().any(|byte| *byte != b';' && !byte.is_ascii_whitespace());
    Some(if holds_one { rest } else { Vec::new() })
}

/// Cookie lines without any cookie called `name`; lines that hold nothing else, or nothing at all, are left out.
pub fn lines_without<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let rest = lines.map(move |line| without(line, name).map_or(Cow::Borrowed(line), Cow::Owned));
    rest.filter(|line| !line.is_empty())
}

/// White space around name and value is none of them (RFC 6265, section 5.2).
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = pair.trim_ascii().strip_prefix(name)?.trim_ascii_start();
    rest.strip_prefix(b"=").map(<[u8]>::trim_ascii_start)
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
        let cases: [(&str, &[&str], Option<&str>); 14] = [
            ("", &[], None),
            ("pin=1", &["1"], Some("")),
            ("a=b; pin=1; c=d", &["1"], Some("a=b; c=d")),
            ("pin=1;pin=2;x=3", &["1", "2"], Some("x=3")),
            ("a=1;b=2;pin=1", &["1"], Some("a=1;b=2")),
            ("a=1;pin=1;b=2;  c=3 ", &["1"], Some("a=1;b=2;  c=3 ")),
            ("pin=1; a=1;;b", &["1"], Some("a=1;;b")),
            ("pin =1; a=2", &["1"], Some("a=2")),
            ("a=2; pin\t= 1", &["1"], Some("a=2")),
            ("pin x=1", &[], None),
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

    /// A cookie that an answer sets is handed out; one that it takes back is not.
    #[test]
    fn tells_what_is_handed_out() {
        let cases = [
            ("JSESSIONID=1", Some("1")),
            ("JSESSIONID=1; Path=/; HttpOnly; Max-Age=60", Some("1")),
            ("JSESSIONID=a=b;max-age=010", Some("a=b")),
            ("JSESSIONID=; Path=/", None),
            ("JSESSIONID=1; MAX-AGE = 0", None),
            ("JSESSIONID=1; Max-Age=-5", None),
            ("JSESSIONID=1; Max-Age=", Some("1")),
            ("other=1; JSESSIONID=2", None),
            ("jsessionid=1", None),
            ("", None),
        ];
        for (line, wanted) in cases {
            assert_eq!(handed_out(line.as_bytes(), b"JSESSIONID"), wanted.map(str::as_bytes), "{line}");
        }
    }

    /// Quotation marks come off in pairs only.
    #[test]
    fn unquotes() {
        for (value, wanted) in [("\"a\"", "a"), ("\"\"", ""), ("\"a", "\"a"), ("a\"", "a\""), ("\"", "\""), ("", "")] {
            assert_eq!(unquoted(value.as_bytes()), wanted.as_bytes(), "{value}");
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
