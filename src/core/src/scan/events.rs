//! Server-sent events, byte by byte, as far as it takes to tell their data from the rest (WHATWG HTML, section 9.2.6,
//! "Interpreting an event stream").

use super::skip;

/// Where in a stream of events the next byte stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Events {
    line: Line,
    /// Whether the byte before ended a line as a carriage return: a line feed behind it ends none.
    after_return: bool,
}

#[derive(Debug, Clone, Copy)]
enum Line {
    /// In the name of a field, of which this much reads `data`.
    Name(usize),
    /// Right behind the colon of a data field, where one space may stand.
    Colon,
    /// In the value of a data field.
    Data,
    /// In a field of another name, or in a comment.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Name(0)
    }
}

/// What several bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run<'a> {
    /// These of an event's data.
    Data(&'a [u8]),
    /// So many that are none.
    Beside(usize),
}

/// What one more byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A byte of an event's data. A line of data that ends brings a line feed.
    Data(u8),
    /// The end of an event.
    End,
    /// Neither.
    Beside,
}

impl Events {
    const DATA: &[u8] = b"data";

    /// What the bytes at the beginning are that all belong to one line whose kind is known: data, or neither; none where
    /// the next byte must be taken by itself.
    pub fn run<'a>(&mut self, bytes: &'a [u8]) -> Option<Run<'a>> {
        let run = bytes.get(..skip::line(bytes)).filter(|run| !run.is_empty())?;
        let run = match self.line {
            Line::Data => Run::Data(run),
            Line::Other => Run::Beside(run.len()),
            Line::Name(_) | Line::Colon => return None,
        };
        self.after_return = false;
        Some(run)
    }

    /// Takes the next byte.
    pub fn take(&mut self, byte: u8) -> Part {
        let is_second = byte == b'\n' && self.after_return;
        self.after_return = byte == b'\r';
        if is_second {
            return Part::Beside;
        }
        if byte == b'\r' || byte == b'\n' {
            return match std::mem::take(&mut self.line) {
                Line::Name(0) => Part::End,
                Line::Colon | Line::Data => Part::Data(b'\n'),
                Line::Name(_) | Line::Other => Part::Beside,
            };
        }
        let (line, part) = match self.line {
            Line::Name(read) if Self::DATA.get(read) == Some(&byte) => (Line::Name(read + 1), Part::Beside),
            Line::Name(read) if read == Self::DATA.len() && byte == b':' => (Line::Colon, Part::Beside),
            Line::Name(_) | Line::Other => (Line::Other, Part::Beside),
            Line::Colon if byte == b' ' => (Line::Data, Part::Beside),
            Line::Colon | Line::Data => (Line::Data, Part::Data(byte)),
        };
        self.line = line;
        part
    }
}
