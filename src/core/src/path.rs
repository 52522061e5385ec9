//! Session ids in `:path`: a segment by a template, or a parameter of the query.
//!
//! A template is a path whose segments are texts, `*` (any one segment) and one that holds `{session}`, with text before or
//! behind it: `/tasks/{session}:cancel`. `{session!search!count}` takes no segment that is `search` or `count`. A template
//! takes a path whose first segments are these, as path prefixes of the plugin configuration do: `/threads/{session}` takes
//! `/threads/7/runs`. One that begins with `/**/` may have up to 8 segments of any kind in front.

use std::borrow::Cow;

use crate::ids::{ParameterName, PathTemplate};
use crate::percent::{self, Plus};

/// Any one segment.
const ANY: &str = "*";
/// Any segments in front, as a template begins.
const ANYWHERE: &str = "/**";
/// Most segments before the session id, and behind it.
const SEGMENTS_MAX: usize = 8;
/// Longest text of a segment, before the session id, behind it, or taken out.
const TEXT_MAX: usize = 64;
/// Most segments that a template takes out.
const OTHERS_MAX: usize = 16;

/// One segment of a template.
enum Segment<'t> {
    /// Any.
    Any,
    /// This one.
    Text(&'t str),
    /// The session id between two texts.
    Session(Place<'t>),
}

/// Where in a segment the session id stands.
struct Place<'t> {
    before: &'t str,
    behind: &'t str,
    /// What is no session id, each text behind a `!`.
    others: &'t str,
}

impl<'t> Segment<'t> {
    fn read(text: &'t str) -> Self {
        let place = || {
            let (before, rest) = text.split_once("{session")?;
            let (others, behind) = rest.split_once('}')?;
            Some(Self::Session(Place { before, behind, others }))
        };
        if text == ANY { Self::Any } else { place().unwrap_or(Self::Text(text)) }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Text(text) => !text.is_empty() && is_text(text),
            Self::Session(place) => is_text(place.before) && is_text(place.behind) && place.are_others_valid(),
        }
    }
}

impl<'t> Place<'t> {
    fn others(&self) -> impl Iterator<Item = &'t str> {
        self.others.split('!').skip(1)
    }

    fn are_others_valid(&self) -> bool {
        let begins = self.others.is_empty() || self.others.starts_with('!');
        begins && self.others().count() <= OTHERS_MAX && self.others().all(|text| !text.is_empty() && is_text(text))
    }

    /// The session id in a segment of a path.
    fn find<'p>(&self, segment: &'p [u8]) -> Option<Cow<'p, [u8]>> {
        let within = |text: &[u8]| {
            let from = text.strip_prefix(self.before.as_bytes()).map(|_| self.before.len())?;
            let to = text.strip_suffix(self.behind.as_bytes())?.len();
            let id = text.get(from..to).filter(|id| !id.is_empty())?;
            (!self.others().any(|other| other.as_bytes() == id)).then_some(from..to)
        };
        match percent::decode(segment, Plus::Itself) {
            Cow::Borrowed(text) => text.get(within(text)?).map(Cow::Borrowed),
            Cow::Owned(text) => text.get(within(&text)?).map(|id| Cow::Owned(id.to_vec())),
        }
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= TEXT_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~:@-".contains(&b))
}

/// Whether a text is a template.
pub(crate) fn is_template(text: &str) -> bool {
    let Some(segments) = text.strip_prefix(ANYWHERE).unwrap_or(text).strip_prefix('/') else { return false };
    let mut sides = [0, 0];
    let mut sessions = 0;
    for segment in segments.split('/').map(Segment::read) {
        if !segment.is_valid() {
            return false;
        }
        match (segment, &mut sides) {
            (Segment::Session(_), _) => sessions += 1,
            (_, [before, _]) if sessions == 0 => *before += 1,
            (_, [_, behind]) => *behind += 1,
        }
    }
    sessions == 1 && sides.iter().all(|side| *side <= SEGMENTS_MAX)
}

/// The session id in `path` by `template`, without its encoding; one that is empty is none.
pub fn session<'a>(path: &'a [u8], template: &PathTemplate) -> Option<Cow<'a, [u8]>> {
    let path = path.split(|b| *b == b'?').next().unwrap_or_default().strip_prefix(b"/")?;
    let Some(template) = template.as_str().strip_prefix(ANYWHERE) else {
        return session_at(path, template.as_str());
    };
    let mut rest = Some(path);
    for _ in 0..=SEGMENTS_MAX {
        let from = rest?;
        if let Some(id) = session_at(from, template) {
            return Some(id);
        }
        rest = from.iter().position(|b| *b == b'/').and_then(|slash| from.get(slash + 1..));
    }
    None
}

/// The session id by `template` in a path whose segments begin with `path`.
fn session_at<'a>(path: &'a [u8], template: &str) -> Option<Cow<'a, [u8]>> {
    let mut found = path.split(|b| *b == b'/');
    let mut session = None;
    for wanted in template.split('/').skip(1) {
        let segment = found.next().filter(|segment| !segment.is_empty())?;
        match Segment::read(wanted) {
            Segment::Session(place) => session = Some(place.find(segment)?),
            Segment::Any => {}
            Segment::Text(text) if *percent::decode(segment, Plus::Itself) == *text.as_bytes() => {}
            Segment::Text(_) => return None,
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

    fn found(template: &str, path: &str) -> Option<String> {
        session(path.as_bytes(), &template.parse().unwrap()).map(|id| String::from_utf8(id.into_owned()).unwrap())
    }

    /// Bad templates are refused: a path without the id, or with two, would place every request alike or by chance.
    #[test]
    fn templates_have_one_session() {
        let long = format!("/{}/{{session}}", "x".repeat(65));
        let many = format!("{}/{{session}}", "/a".repeat(9));
        for bad in ["", "/", "/a", "{session}", "a/{session}", "/{session}/", "//{session}", "/{session}/{session}"]
            .into_iter()
            .chain(["/{id}", "/{session}{session}", "/a b/{session}", "/a/**/{session}", "/**", "/a?b={session}"])
            .chain([
                "/{session!}",
                "/{session!a!}",
                "/{session a}",
                "/{sessiona}",
                "/{session!a b}",
                "/{session",
                "/**{session}",
            ])
            .chain([long.as_str(), many.as_str()])
        {
            let error = bad.parse::<PathTemplate>().unwrap_err().to_string();
            assert!(error.contains("/threads/{session}/runs"), "{bad}: {error}");
        }
        for good in [
            "/{session}",
            "/threads/{session}/runs",
            "/*/v1.2/{session}/*",
            "/a/{session}/b/c",
            "/**/tasks/{session}:subscribe",
            "/**/{session}",
            "/run-{session!all}.json/a",
            "/message:send/{session!search!count}",
        ] {
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
            ("/*/{session}", "/any/x%2Fy", Some("x/y")),
            ("/*/{session}", "//x", None),
            ("/{session}", "/?a/b", None),
            ("/{session}", "*", None),
            ("/{session}", "", None),
            ("/v1/tasks/{session}:subscribe", "/v1/tasks/t-1:subscribe", Some("t-1")),
            ("/v1/tasks/{session}:subscribe", "/v1/tasks/t-1%3Asubscribe?x", Some("t-1")),
            ("/v1/tasks/{session}:subscribe", "/v1/tasks/t-1", None),
            ("/v1/tasks/{session}:subscribe", "/v1/tasks/:subscribe", None),
            ("/aa{session}aa", "/aaa", None),
            ("/aa{session}aa", "/aaxaa", Some("x")),
            ("/threads/{session!search!count}", "/threads/search", None),
            ("/threads/{session!search!count}", "/threads/c%6Funt/x", None),
            ("/threads/{session!search!count}", "/threads/searches", Some("searches")),
            ("/**/threads/{session!search}", "/threads/t-1", Some("t-1")),
            ("/**/threads/{session!search}", "/agents/a/v1/threads/t-1/runs", Some("t-1")),
            ("/**/threads/{session!search}", "/threads/search", None),
            ("/**/threads/{session!search}", "/threads/threads/t-1", Some("threads")),
            ("/**/threads/{session}", "/1/2/3/4/5/6/7/8/threads/t-1", Some("t-1")),
            ("/**/threads/{session}", "/1/2/3/4/5/6/7/8/9/threads/t-1", None),
        ];
        for (template, path, wanted) in cases {
            assert_eq!(found(template, path).as_deref(), wanted, "{template} on {path}");
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
            id in "[^/?%]{1,16}",
            (left, right) in ("[a-z:-]{0,4}", "[a-z:-]{0,4}"),
            rest in "(/[a-z/]{0,8})?(\\?[a-z/?=]{0,8})?",
        ) {
            let segments = |id: &str| [before.clone(), vec![id.to_owned()], behind.clone()].concat().join("/");
            let template = format!("/{}", segments(&format!("{left}{{session}}{right}")));
            let path = format!("/{}{rest}", segments(&format!("{left}{id}{right}")));
            prop_assert_eq!(found(&template, &path), Some(id.clone()));
            let mounted = found(&format!("/**/a{template}"), &format!("/any/where/a{path}"));
            prop_assert_eq!(mounted, Some(id));
        }

        /// Total: no path is too odd.
        #[test]
        fn total(path in proptest::collection::vec(any::<u8>(), 0..64)) {
            for template in ["/*/{session}", "/**/a/{session!b}:c"] {
                let id = session(&path, &template.parse().unwrap());
                prop_assert!(id.is_none_or(|id| !id.is_empty()));
            }
        }
    }
}
