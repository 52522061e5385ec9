//! One pass through a JSON document that follows all pointers of a plan at once.
//!
//! The pointers that lead to a value are a set of bits. Where none is left a value is passed over; where a container was
//! entered, a frame holds those that may still be met in it. So each byte is looked at once, however many pointers there
//! are.

use super::text::{Piece, Text};
use super::{ID_MAX, Pointer, Search, skip};

/// Pointers, by their places: at most 32.
type Set = u32;

/// The search of one document for the ids that pointers name.
#[derive(Debug, Clone)]
pub struct Scanner {
    state: State,
    /// The containers on the way, from the outermost.
    frames: Vec<Frame>,
    /// The pointers that may still be met.
    open: Set,
    /// The ids that were found, each with the place of its pointer.
    found: Vec<(usize, Vec<u8>)>,
    /// The id that is being read.
    id: Vec<u8>,
}

/// A container on the way.
#[derive(Debug, Clone, Copy)]
struct Frame {
    within: Container,
    /// The pointers that may yet be met in it.
    wanted: Set,
}

#[derive(Debug, Clone, Copy)]
enum Container {
    Object,
    /// With the index of the next value.
    Array(usize),
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum State {
    /// The value that these pointers lead to.
    Value(Set),
    /// The first member of an object, or its end.
    FirstKey,
    /// A member of an object.
    NextKey,
    /// A key: the pointers whose token it fits so far, and how much of it has come.
    Key(Text, Set, usize),
    /// The colon behind a key that these pointers have.
    Colon(Set),
    /// The first value of an array, or its end.
    FirstItem,
    /// What follows a value: a comma, or the end of what it stands in.
    Behind,
    /// The id of these pointers, a string.
    IdText(Text, Set),
    /// The id of these pointers, a number.
    IdNumber(Set),
    /// A string beside the way, within this many brackets that are open there.
    OtherText(Text, u32),
    /// Brackets beside the way.
    OtherBrackets(u32),
    /// A number or word beside the way.
    OtherWord,
    /// All is known.
    Done,
    Malformed,
}

impl Scanner {
    /// A search for the ids of these pointers, by their bits.
    pub fn new(wanted: u32) -> Self {
        let state = if wanted == 0 { State::Done } else { State::Value(wanted) };
        Self { state, frames: Vec::new(), open: wanted, found: Vec::new(), id: Vec::new() }
    }

    /// The bit of the pointer at this place.
    pub fn bit(place: usize) -> u32 {
        u32::try_from(place).ok().and_then(|place| 1u32.checked_shl(place)).unwrap_or(0)
    }

    /// The bits of so many pointers.
    pub fn all(count: usize) -> u32 {
        (0..count).fold(0, |set, place| set | Self::bit(place))
    }

    /// Reads on, until all is known.
    pub fn read(&mut self, pointers: &[Pointer], mut bytes: &[u8]) {
        loop {
            let quiet = match self.state {
                State::Done | State::Malformed => return,
                State::OtherText(text, _) | State::Key(text, 0, _) if text.is_plain() => skip::text(bytes),
                State::OtherBrackets(_) => skip::flat(bytes),
                _ => 0,
            };
            let Some((byte, rest)) = bytes.get(quiet..).and_then(<[u8]>::split_first) else { return };
            self.state = self.step(pointers, *byte);
            bytes = rest;
        }
    }

    /// How far the search for one pointer is.
    pub fn search(&self, place: usize) -> Search {
        match self.state {
            _ if self.id(place).is_some() => Search::Found,
            _ if self.open & Self::bit(place) == 0 => Search::Missing,
            State::Malformed => Search::Malformed,
            _ => Search::Open,
        }
    }

    /// Whether more of the document may tell.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Done | State::Malformed)
    }

    /// The id of one pointer, once it is found.
    pub fn id(&self, place: usize) -> Option<&[u8]> {
        self.found.iter().find(|(found, _)| *found == place).map(|(_, id)| id.as_slice())
    }

    /// The ids that have been found, each with the place of its pointer.
    pub fn found(&self) -> &[(usize, Vec<u8>)] {
        &self.found
    }

    fn step(&mut self, pointers: &[Pointer], byte: u8) -> State {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.state {
            State::Key(text, fits, length) => self.key(pointers, text, (fits, length), byte),
            State::IdText(text, set) => self.id_text(text, set, byte),
            State::IdNumber(set) => match byte {
                b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E' => self.keep(&[byte], State::IdNumber(set)),
                b',' | b'}' | b']' => match self.ends(set) {
                    State::Behind => self.behind(pointers, byte),
                    state => state,
                },
                _ if is_space => self.ends(set),
                _ => State::Malformed,
            },
            State::OtherText(mut text, open) => match text.take(byte) {
                Piece::End if open == 0 => State::Behind,
                Piece::End => State::OtherBrackets(open),
                Piece::Malformed => State::Malformed,
                Piece::Part(..) => State::OtherText(text, open),
            },
            State::OtherBrackets(open) => match byte {
                b'"' => State::OtherText(Text::default(), open),
                b'{' | b'[' => State::OtherBrackets(open.saturating_add(1)),
                b'}' | b']' if open <= 1 => State::Behind,
                b'}' | b']' => State::OtherBrackets(open - 1),
                _ => State::OtherBrackets(open),
            },
            State::OtherWord if is_space => State::Behind,
            state if is_space => state,
            State::Value(set) => self.value(pointers, set, byte),
            State::FirstKey if byte == b'}' => self.leave(),
            State::FirstKey | State::NextKey if byte == b'"' => {
                State::Key(Text::default(), self.frames.last().map_or(0, |frame| frame.wanted), 0)
            }
            State::Colon(set) if byte == b':' => State::Value(set),
            State::FirstItem if byte == b']' => self.leave(),
            State::FirstItem => match self.item(pointers) {
                State::Value(set) => self.value(pointers, set, byte),
                state => state,
            },
            State::OtherWord if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => State::OtherWord,
            State::OtherWord | State::Behind => self.behind(pointers, byte),
            State::Done | State::Malformed => self.state,
            State::FirstKey | State::NextKey | State::Colon(_) => State::Malformed,
        }
    }

    /// The first byte of the value that pointers lead to.
    fn value(&mut self, pointers: &[Pointer], set: Set, byte: u8) -> State {
        let depth = self.frames.len();
        let ends = of(pointers, set, |pointer| pointer.token(depth).is_none());
        let (within, state) = match byte {
            b'"' if ends != 0 => return self.only(ends, State::IdText(Text::default(), ends)),
            b'0'..=b'9' | b'-' if ends != 0 => {
                let next = self.only(ends, State::IdNumber(ends));
                return self.keep(&[byte], next);
            }
            b'"' => return self.only(0, State::OtherText(Text::default(), 0)),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => return self.only(0, State::OtherWord),
            b'{' => (Container::Object, State::FirstKey),
            b'[' => (Container::Array(0), State::FirstItem),
            _ => return State::Malformed,
        };
        let wanted = set & !ends;
        if wanted == 0 {
            return self.only(0, State::OtherBrackets(1));
        }
        self.frames.push(Frame { within, wanted });
        self.only(0, state)
    }

    /// Goes on where more than what stands in the frames is still to be met, or `set` is: else all is known.
    fn only(&mut self, set: Set, state: State) -> State {
        self.open = self.frames.iter().fold(set, |open, frame| open | frame.wanted);
        if self.open == 0 { State::Done } else { state }
    }

    /// The next value of the array in which pointers are looked for.
    fn item(&mut self, pointers: &[Pointer]) -> State {
        let depth = self.frames.len().saturating_sub(1);
        let Some(Frame { within: Container::Array(next), wanted }) = self.frames.last_mut() else {
            return State::Malformed;
        };
        let index = *next;
        *next = index.saturating_add(1);
        let any = of(pointers, *wanted, |pointer| pointer.token(depth) == Some(b"*"));
        let here = of(pointers, *wanted & !any, |pointer| pointer.token(depth).and_then(index_of) == Some(index));
        *wanted &= !here;
        State::Value(any | here)
    }

    fn key(&mut self, pointers: &[Pointer], mut text: Text, (fits, length): (Set, usize), byte: u8) -> State {
        let depth = self.frames.len().saturating_sub(1);
        match text.take(byte) {
            Piece::Malformed => State::Malformed,
            Piece::End => {
                let here =
                    of(pointers, fits, |pointer| pointer.token(depth).is_some_and(|token| token.len() == length));
                // Where a key is there twice the first counts.
                if let Some(frame) = self.frames.last_mut() {
                    frame.wanted &= !here;
                }
                State::Colon(here)
            }
            Piece::Part(bytes, count) => {
                let part = bytes.get(..count).unwrap_or_default();
                let still = of(pointers, fits, |pointer| {
                    let rest = pointer.token(depth).and_then(|token| token.get(length..));
                    rest.is_some_and(|rest| rest.starts_with(part))
                });
                State::Key(text, still, length + count)
            }
        }
    }

    fn id_text(&mut self, mut text: Text, set: Set, byte: u8) -> State {
        match text.take(byte) {
            Piece::Malformed => State::Malformed,
            Piece::End => self.ends(set),
            Piece::Part(bytes, count) => self.keep(bytes.get(..count).unwrap_or_default(), State::IdText(text, set)),
        }
    }

    /// Keeps a piece of the id; one that is too long is none.
    fn keep(&mut self, part: &[u8], next: State) -> State {
        if self.id.len() + part.len() <= ID_MAX {
            self.id.extend_from_slice(part);
            return next;
        }
        self.id.clear();
        match next {
            State::IdText(text, _) => self.only(0, State::OtherText(text, 0)),
            _ => self.only(0, State::OtherWord),
        }
    }

    /// The id has come whole; an empty one is none.
    fn ends(&mut self, set: Set) -> State {
        if !self.id.is_empty() {
            self.found.extend(places(set).map(|place| (place, self.id.clone())));
            self.frames.iter_mut().for_each(|frame| frame.wanted &= !set);
            self.id.clear();
        }
        self.only(0, State::Behind)
    }

    /// The innermost container is over.
    fn leave(&mut self) -> State {
        self.frames.pop();
        self.only(0, State::Behind)
    }

    /// What follows a value. Where nothing more is looked for in a container, the rest of it is passed over.
    fn behind(&mut self, pointers: &[Pointer], byte: u8) -> State {
        let Some(frame) = self.frames.last() else { return State::Malformed };
        match (byte, frame.within) {
            (b'}', Container::Object) | (b']', Container::Array(_)) => self.leave(),
            (b',', _) if frame.wanted == 0 => {
                self.frames.pop();
                State::OtherBrackets(1)
            }
            (b',', Container::Object) => State::NextKey,
            (b',', Container::Array(_)) => self.item(pointers),
            _ => State::Malformed,
        }
    }
}

/// The places of the pointers in a set.
fn places(mut set: Set) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = usize::try_from(set.trailing_zeros()).ok().filter(|_| set != 0)?;
        set &= set.wrapping_sub(1);
        Some(place)
    })
}

/// Those of a set that are so.
fn of(pointers: &[Pointer], set: Set, is_so: impl Fn(&Pointer) -> bool) -> Set {
    let those = places(set).filter(|place| pointers.get(*place).is_some_and(&is_so));
    those.fold(0, |found, place| found | Scanner::bit(place))
}

/// The token as an index of an array: digits without a leading zero.
fn index_of(token: &[u8]) -> Option<usize> {
    let text = str::from_utf8(token).ok()?;
    let is_index = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    text.parse().ok().filter(|_| is_index)
}
