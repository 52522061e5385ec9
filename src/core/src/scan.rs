//! Session ids in JSON bodies, found while the bytes pass: nothing is kept but the id.
//!
//! A scanner follows a JSON pointer (RFC 6901) into a document that comes in pieces of any size. It looks at as much of
//! the grammar as it needs to find its way, and is no judge of documents: what lies beside the way is passed over by its
//! brackets and strings alone. Where a key stands twice the first counts. An id is a string, as it is without its escapes,
//! or a number, as it is written.

mod answer;
mod events;
mod text;

pub use self::answer::{AnswerScan, Media, Searched};
use self::text::{Piece, Text};
use crate::ids::JsonPointer;
use crate::plan::Plan;
use crate::seen::Seen;
use crate::settings::{AnswerSource, ServiceSettings, SessionSource};

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

/// The pointers of the sources that stand in bodies, each with the source's place.
pub(crate) fn pointers(settings: &ServiceSettings) -> Vec<(usize, Pointer)> {
    let sources = settings.session_sources.iter().enumerate();
    let in_body = |(index, source): (usize, &SessionSource)| match source {
        SessionSource::Body(pointer) => Some((index, Pointer::new(pointer))),
        _ => None,
    };
    sources.filter_map(in_body).collect()
}

/// The pointers of the sources that stand in the bodies of answers, each with the kind of body.
pub(crate) fn answer_pointers(settings: &ServiceSettings) -> Vec<(Media, Pointer)> {
    let in_body = |source: &AnswerSource| match source {
        AnswerSource::Body(pointer) => Some((Media::Json, Pointer::new(pointer))),
        AnswerSource::Event(pointer) => Some((Media::EventStream, Pointer::new(pointer))),
        AnswerSource::Header(_) => None,
    };
    settings.learn_from.iter().filter_map(in_body).collect()
}

/// The searches of one body for the ids of all sources of a plan.
#[derive(Debug, Clone)]
pub struct BodyScan(Vec<Scanner>);

impl BodyScan {
    /// The searches for the sources of `plan`.
    pub fn new(plan: &Plan) -> Self {
        Self(plan.pointers.iter().map(|_| Scanner::default()).collect())
    }

    /// Reads on, by the plan that this was made for.
    pub fn read(&mut self, plan: &Plan, bytes: &[u8]) {
        for ((_, pointer), scanner) in plan.pointers.iter().zip(&mut self.0) {
            scanner.read(pointer, bytes);
        }
    }

    /// How far the searches are by those sources that come before the one that `seen` has an id of, and the id
    /// with the place of its source.
    pub fn search(&self, plan: &Plan, seen: &Seen<'_>) -> (Search, Option<(usize, &[u8])>) {
        let mut come_to = Search::Missing;
        for ((source, _), scanner) in plan.pointers.iter().zip(&self.0) {
            match scanner.search() {
                _ if !seen.is_before(*source) => break,
                Search::Missing => {}
                Search::Malformed => come_to = Search::Malformed,
                search => return (search, scanner.id().map(|id| (*source, id))),
            }
        }
        (come_to, None)
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

/// One search for the id that one pointer names.
#[derive(Debug, Clone)]
pub struct Scanner {
    state: State,
    /// How many tokens of the pointer have been followed.
    depth: usize,
    /// The container in which the next token is looked for, and the index of its next value.
    within: Container,
    id: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Container {
    Object,
    Array(usize),
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum State {
    /// The value that the tokens so far lead to.
    Value,
    /// A value beside the way.
    Other,
    /// The first member of an object, or its end.
    FirstKey,
    /// A member of an object.
    NextKey,
    /// A key, of which this much fits the token; none where it does not.
    Key(Text, Option<usize>),
    /// The colon behind a key, and whether that is the token.
    Colon(Leads),
    /// The first value of an array, or its end.
    FirstItem,
    /// A value of an array.
    NextItem,
    /// The comma behind a value beside the way, or the end of what it stands in.
    Behind,
    /// The id, a string.
    IdText(Text),
    /// The id, a number.
    IdNumber,
    /// A string beside the way, within this many brackets that are open there.
    OtherText(Text, u32),
    /// Brackets beside the way.
    OtherBrackets(u32),
    /// A number or word beside the way.
    OtherWord,
    Done(Search),
}

/// Whether a key leads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    On,
    Aside,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { state: State::Value, depth: 0, within: Container::Object, id: Vec::new() }
    }
}

impl Scanner {
    /// Reads on, until it is known what there is.
    pub fn read(&mut self, pointer: &Pointer, bytes: &[u8]) -> Search {
        for byte in bytes {
            if let State::Done(search) = self.state {
                return search;
            }
            self.state = self.step(pointer, *byte);
        }
        self.search()
    }

    /// How far the search is.
    pub fn search(&self) -> Search {
        match self.state {
            State::Done(search) => search,
            _ => Search::Open,
        }
    }

    /// The id, once it is found.
    pub fn id(&self) -> Option<&[u8]> {
        (self.search() == Search::Found).then_some(self.id.as_slice())
    }

    fn step(&mut self, pointer: &Pointer, byte: u8) -> State {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.state {
            State::Key(text, fits) => self.key(pointer, text, fits, byte),
            State::IdText(text) => self.id_text(text, byte),
            State::IdNumber => match byte {
                b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E' => self.keep(&[byte], State::IdNumber),
                b',' | b'}' | b']' => State::Done(Search::Found),
                _ if is_space => State::Done(Search::Found),
                _ => State::Done(Search::Malformed),
            },
            State::OtherText(mut text, open) => match text.take(byte) {
                Piece::End if open == 0 => State::Behind,
                Piece::End => State::OtherBrackets(open),
                Piece::Malformed => State::Done(Search::Malformed),
                Piece::Part(..) => State::OtherText(text, open),
            },
            State::OtherBrackets(open) => match byte {
                b'"' => State::OtherText(Text::default(), open),
                b'{' | b'[' => State::OtherBrackets(open.saturating_add(1)),
                b'}' | b']' if open <= 1 => State::Behind,
                b'}' | b']' => State::OtherBrackets(open - 1),
                _ => State::OtherBrackets(open),
            },
            _ if is_space => match self.state {
                State::OtherWord => State::Behind,
                state => state,
            },
            State::Value => self.value(pointer, byte),
            State::Other => Self::other(byte),
            State::FirstKey if byte == b'}' => State::Done(Search::Missing),
            State::FirstKey | State::NextKey if byte == b'"' => State::Key(Text::default(), Some(0)),
            State::Colon(leads) if byte == b':' => match leads {
                Leads::On => self.follow(),
                Leads::Aside => State::Other,
            },
            State::FirstItem if byte == b']' => State::Done(Search::Missing),
            State::FirstItem | State::NextItem => self.item(pointer, byte),
            State::OtherWord if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => State::OtherWord,
            State::OtherWord | State::Behind => self.behind(byte),
            State::Done(_) => self.state,
            State::FirstKey | State::NextKey | State::Colon(_) => State::Done(Search::Malformed),
        }
    }

    /// The first byte of the value that the tokens so far lead to.
    fn value(&mut self, pointer: &Pointer, byte: u8) -> State {
        let is_id = pointer.token(self.depth).is_none();
        match byte {
            b'"' if is_id => State::IdText(Text::default()),
            b'0'..=b'9' | b'-' if is_id => self.keep(&[byte], State::IdNumber),
            b'{' if !is_id => {
                self.within = Container::Object;
                State::FirstKey
            }
            b'[' if !is_id => {
                self.within = Container::Array(0);
                State::FirstItem
            }
            b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => State::Done(Search::Missing),
            _ => State::Done(Search::Malformed),
        }
    }

    /// The first byte of a value beside the way.
    fn other(byte: u8) -> State {
        match byte {
            b'"' => State::OtherText(Text::default(), 0),
            b'{' | b'[' => State::OtherBrackets(1),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => State::OtherWord,
            _ => State::Done(Search::Malformed),
        }
    }

    /// The first byte of a value of the array in which the next token is looked for.
    fn item(&mut self, pointer: &Pointer, byte: u8) -> State {
        let Container::Array(index) = self.within else { return State::Done(Search::Malformed) };
        self.within = Container::Array(index.saturating_add(1));
        if pointer.token(self.depth).is_some_and(|token| index_of(token) == Some(index)) {
            self.depth += 1;
            return self.value(pointer, byte);
        }
        Self::other(byte)
    }

    fn follow(&mut self) -> State {
        self.depth += 1;
        State::Value
    }

    fn key(&mut self, pointer: &Pointer, mut text: Text, fits: Option<usize>, byte: u8) -> State {
        let token = pointer.token(self.depth).unwrap_or_default();
        match text.take(byte) {
            Piece::Malformed => State::Done(Search::Malformed),
            Piece::End if fits == Some(token.len()) => State::Colon(Leads::On),
            Piece::End => State::Colon(Leads::Aside),
            Piece::Part(bytes, count) => {
                let part = bytes.get(..count).unwrap_or_default();
                let rest = fits.and_then(|fits| token.get(fits..));
                let fits = fits.filter(|_| rest.is_some_and(|rest| rest.starts_with(part))).map(|fits| fits + count);
                State::Key(text, fits)
            }
        }
    }

    fn id_text(&mut self, mut text: Text, byte: u8) -> State {
        match text.take(byte) {
            Piece::Malformed => State::Done(Search::Malformed),
            Piece::End if self.id.is_empty() => State::Done(Search::Missing),
            Piece::End => State::Done(Search::Found),
            Piece::Part(bytes, count) => self.keep(bytes.get(..count).unwrap_or_default(), State::IdText(text)),
        }
    }

    /// Keeps a piece of the id; one that is too long is none.
    fn keep(&mut self, part: &[u8], next: State) -> State {
        if self.id.len() + part.len() > ID_MAX {
            return State::Done(Search::Missing);
        }
        self.id.extend_from_slice(part);
        next
    }

    /// What stands behind a value beside the way.
    fn behind(&self, byte: u8) -> State {
        match (byte, self.within) {
            (b',', Container::Object) => State::NextKey,
            (b',', Container::Array(_)) => State::NextItem,
            (b'}', Container::Object) | (b']', Container::Array(_)) => State::Done(Search::Missing),
            _ => State::Done(Search::Malformed),
        }
    }
}

/// The token as an index of an array: digits without a leading zero.
fn index_of(token: &[u8]) -> Option<usize> {
    let text = str::from_utf8(token).ok()?;
    let is_index = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    text.parse().ok().filter(|_| is_index)
}

#[cfg(test)]
mod tests;
