//! Session ids in JSON bodies, found while the bytes pass: nothing is kept but the id.
//!
//! A scanner follows JSON pointers (RFC 6901) into a document that comes in pieces of any size, all of them in one pass. It
//! looks at as much of the grammar as it needs to find its way, and is no judge of documents: what lies beside the way is
//! passed over by its brackets and strings alone. Where a key stands twice the first counts. The token `*` means every
//! element where it meets an array, of which the first that has an id decides, and the key `*` where it meets an object. An
//! id is a string, as it is without its escapes, or a number, as it is written.

mod answer;
mod events;
mod scanner;
mod skip;
mod text;

pub use self::answer::{AnswerPointers, AnswerScan, Media, Searched};
use self::scanner::Scanner;
use crate::ids::JsonPointer;
use crate::plan::Plan;
use crate::seen::Seen;
use crate::settings::{ServiceSettings, SessionSource};

/// Longest id that is taken.
pub const ID_MAX: usize = 4096;

/// A pointer, parted into its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Box<[Box<[u8]>]>);

impl Pointer {
    /// Parts a pointer.
    pub fn new(pointer: &JsonPointer) -> Self {
        let tokens = pointer.as_str().split('/').skip(1);
        Self(tokens.map(unescaped).collect())
    }

    fn token(&self, depth: usize) -> Option<&[u8]> {
        self.0.get(depth).map(|token| &**token)
    }
}

/// A token as it stands in documents. Written out: a search for strings would cost the filter two kilobytes.
fn unescaped(token: &str) -> Box<[u8]> {
    let (mut bytes, mut rest) = (Vec::with_capacity(token.len()), token.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'~' if rest.next() == Some(b'1') => b'/',
            byte => byte,
        });
    }
    bytes.into()
}

/// The pointers of a plan's sources that stand in bodies of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyPointers {
    /// The place of each source in the settings, in their order.
    sources: Vec<usize>,
    pointers: Vec<Pointer>,
}

impl BodyPointers {
    /// Those of these settings.
    pub(crate) fn new(settings: &ServiceSettings) -> Self {
        let sources = settings.session_sources.iter().enumerate();
        let in_body = |(index, source): (usize, &SessionSource)| match source {
            SessionSource::Body(pointer) => Some((index, Pointer::new(pointer))),
            _ => None,
        };
        let (sources, pointers) = sources.filter_map(in_body).unzip();
        Self { sources, pointers }
    }

    /// The place of the first of the sources.
    pub(crate) fn first(&self) -> Option<usize> {
        self.sources.first().copied()
    }
}

/// The search of one body for the ids of all sources of a plan.
#[derive(Debug, Clone)]
pub struct BodyScan(Scanner);

impl BodyScan {
    /// The search for the sources of `plan`.
    pub fn new(plan: &Plan) -> Self {
        Self(Scanner::new(Scanner::all(plan.pointers.pointers.len())))
    }

    /// Reads on, by the plan that this was made for, or another that has the same sources in bodies.
    pub fn read(&mut self, plan: &Plan, bytes: &[u8]) {
        self.0.read(&plan.pointers.pointers, bytes);
    }

    /// How far the search is by those sources that come before the one that `seen` has an id of, and the id with the place
    /// of its source.
    pub fn search(&self, plan: &Plan, seen: &Seen<'_>) -> (Search, Option<(usize, &[u8])>) {
        let mut come_to = Search::Missing;
        for (place, source) in plan.pointers.sources.iter().enumerate() {
            match self.0.search(place) {
                _ if !seen.is_before(*source) => break,
                Search::Missing => {}
                Search::Malformed => come_to = Search::Malformed,
                search => return (search, self.0.id(place).map(|id| (*source, id))),
            }
        }
        (come_to, None)
    }

    /// The first id that was found, with the place of its source, where no more of the body is searched: what sources before
    /// it look for did not come.
    pub fn so_far(&self, plan: &Plan, seen: &Seen<'_>) -> Option<(usize, &[u8])> {
        let mut sources = plan.pointers.sources.iter().enumerate().filter(|(_, source)| seen.is_before(**source));
        sources.find_map(|(place, source)| Some((*source, self.0.id(place)?)))
    }
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// More of the document may tell.
    Open,
    /// The id is there.
    Found,
    /// The document has none in that place.
    Missing,
    /// It is no JSON, as far as it was looked at.
    Malformed,
}

#[cfg(test)]
mod tests;
