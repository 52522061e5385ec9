//! Session ids in `:path`: a segment by a template, or a parameter of the query.
//!
//! A template is a path whose segments are texts, `*` (any one segment) and once `{session}`. It takes a path whose first
//! segments are these, as path prefixes of the plugin configuration do: `/threads/{session}` takes `/threads/7/runs`.

use std::borrow::Cow;

use crate::ids::{ParameterName, PathTemplate};
use crate::percent::{self, Plus};

/// The segment that is the session id.
const SESSION: &str = "{session}";
/// Any one segment.
const ANY: &str = "*";
/// Most segments before the session id, and behind it.
const SEGMENTS_MAX: usize = 8;
/// Longest segment of a template.
const SEGMENT_MAX: usize = 64;

/// Whether a text is a template.
pub(crate) fn is_template(text: &str) -> bool {
    let Some(segments) = text.strip_prefix('/') else { return false };
    let mut sides = segments.split('/');
    let before = sides.by_ref().take_while(|segment| *segment != SESSION);
    let Some(before) = count_valid(before) else { return false };
    let Some(behind) = count_valid(sides) else { return false };
    // Where there is no session id all segments stand before it, and the text does not get shorter by one.
    let all = segments.split('/').count();
    before <= SEGMENTS_MAX && behind <= SEGMENTS_MAX && before + behind + 1 == all
}

/// How many segments there are, where each is a text or `*`.
fn count_valid<'a>(mut segments: impl Iterator<Item = &'a str>) -> Option<usize> {
    segments.try_fold(0, |count, segment| {
        let is_text = (1..=SEGMENT_MAX).contains(&segment.len())
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b));
        (is_text || segment == ANY).then_some(count + 1)
    })
}

/// The segment of `path` that `template` says is the session id, as it stands there; empty segments are none.
pub fn session<'a>(path: &'a [u8], template: &PathTemplate) -> Option<&'a [u8]> {
    let path = path.split(|b| *b == b'?').next().unwrap_or_default();
    let mut found = path.strip_prefix(b"/")?.split(|b| *b == b'/');
    let mut session = None;
    for wanted in template.as_str().split('/').skip(1) {
        let segment = found.next().filter(|segment| !segment.is_empty())?;
        match wanted {
            SESSION => session = Some(segment),
            ANY => {}
            text if *percent::decode(segment, Plus::Itself) == *text.as_bytes() => {}
            _ => return None,
        }
    }
    session
}

/// The values of all parameters called `name` in the query of `path`, as they stand there.
pub fn parameters<'a>(path: &'a [u8], name: &ParameterName) -> impl Iterator<Item = &'a [u8]> {
    let query = path.iter().position(|b| *b == b'?').and_then(|mark| path.get(mark + 1..)).unwrap_or_default();
    query.split(|b| *b == b'&').filter_map(move |pair| {
        let (key, value) = pair.split_at_checked(pair.iter().position(|b| *b == b'=')?)?;
        let key: Cow<'_, [u8]> = percent::decode(key, Plus::Space);
        (*key == *name.as_str().as_bytes()).then(|| value.get(1..).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found<'a>(template: &str, path: &'a str) -> Option<&'a str> {
        session(path.as_bytes(), &template.parse().unwrap()).map(|id| str::from_utf8(id).unwrap())
    }

    /// Bad templates are refused: a path without the id, or with two, would place every request alike or by chance.
    #[test]
    fn templates_have_one_session() {
        let long = format!("/{}/{{session}}", "x".repeat(65));
        let many = format!("{}/{{session}}", "/a".repeat(9));
        for bad in ["", "/", "/a", "{session}", "a/{session}", "/{session}/", "//{session}", "/{session}/{session}"]
            .into_iter()
            .chain(["/{id}", "/a{session}", "/{session}b", "/a b/{session}", "/**/{session}", "/a?b={session}"])
            .chain([long.as_str(), many.as_str()])
        {
            let error = bad.parse::<PathTemplate>().unwrap_err().to_string();
            assert!(error.contains("/threads/{session}/runs"), "{bad}: {error}");
        }
        for good in ["/{session}", "/threads/{session}/runs", "/*/v1.2/{session}/*", "/a/{session}/b/c"] {
            assert_eq!(good.parse::<PathTemplate>().unwrap().as_str(), good);
        }
    }

    /// Kept: the id is the segment in its place, whatever follows, and nothing where the path is another.
    #[test]
    fn finds_the_segment() {
        let cases = [
            ("/threads/{session}/runs", "/threads/t-1/runs", Some("t-1")),
            ("/threads/{session}/runs", "/threads/t-1/runs/stream?x=/a/b", Some("t-1")),
            ("/threads/{session}/runs", "/threads/t-1/runs?x", Some("t-1")),
            ("/threads/{session}/runs", "/threads/t-1/run", None),
            ("/threads/{session}/runs", "/threads/t-1/runsx", None),
            ("/threads/{session}/runs", "/threads/t-1", None),
            ("/threads/{session}/runs", "/threads//runs", None),
            ("/threads/{session}/runs", "/v1/threads/t-1/runs", None),
            ("/threads/{session}/runs", "/thr%65ads/t-1/runs", Some("t-1")),
            ("/threads/{session}", "/threads/t-1/state", Some("t-1")),
            ("/threads/{session}", "/threads", None),
            ("/threads/{session}", "/threads/", None),
            ("/*/{session}", "/any/x%2Fy", Some("x%2Fy")),
            ("/*/{session}", "//x", None),
            ("/{session}", "/?a/b", None),
            ("/{session}", "*", None),
            ("/{session}", "", None),
        ];
        for (template, path, wanted) in cases {
            assert_eq!(found(template, path), wanted, "{template} on {path}");
        }
    }

    /// Kept: a parameter is found by its whole name, in whatever place and spelling.
    #[test]
    fn finds_the_parameter() {
        let cases: [(&str, &[&str]); 8] = [
            ("/a?thread=1", &["1"]),
            ("/a?x=2&thread=1&thread=3", &["1", "3"]),
            ("/a?threads=1&xthread=2&thread", &[]),
            ("/a?thr%65ad=1", &["1"]),
            ("/a?b?thread=1", &[]),
            ("/a?x=y?thread=1&thread==", &["="]),
            ("/thread=1", &[]),
            ("/a?", &[]),
        ];
        let name = "thread".parse().unwrap();
        for (path, wanted) in cases {
            let found: Vec<_> = parameters(path.as_bytes(), &name).map(|id| str::from_utf8(id).unwrap()).collect();
            assert_eq!(found, wanted, "{path}");
        }
    }

    proptest! {
        /// Kept: a path that is made by a template gives back the id that it was made of, with anything behind it.
        #[test]
        fn reads_what_a_template_writes(
            before in proptest::collection::vec("[A-Za-z0-9._~-]{1,8}|\\*", 0..4),
            behind in proptest::collection::vec("[A-Za-z0-9._~-]{1,8}|\\*", 0..4),
            id in "[^/?]{1,16}",
            rest in "(/[a-z/]{0,8})?(\\?[a-z/?=]{0,8})?",
        ) {
            let segments = |id: &str| [before.clone(), vec![id.to_owned()], behind.clone()].concat().join("/");
            let template = format!("/{}", segments(SESSION));
            let path = format!("/{}{rest}", segments(&id));
            prop_assert_eq!(found(&template, &path), Some(id.as_str()));
        }

        /// Total: no path is too odd.
        #[test]
        fn total(path in proptest::collection::vec(any::<u8>(), 0..64)) {
            let id = session(&path, &"/*/{session}".parse().unwrap());
            prop_assert!(id.is_none_or(|id| !id.is_empty() && !id.contains(&b'/')));
        }
    }
}
