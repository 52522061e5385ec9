//! JSON strings without their escapes, byte by byte.

/// Where in a string the next byte stands; the opening quotation mark has been read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Text {
    at: At,
    /// The first half of a character that is written as two escapes.
    high: Option<u16>,
}

#[derive(Debug, Clone, Copy, Default)]
enum At {
    #[default]
    Plain,
    Escape,
    /// Within the digits of an escape: how many there were, and what they say.
    Digits(u8, u16),
}

/// What one more byte brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// This many bytes of the text.
    Part([u8; 4], usize),
    /// The end of the string.
    End,
    /// It is no string.
    Malformed,
}

impl Piece {
    const NOTHING: Self = Self::Part([0; 4], 0);

    fn byte(byte: u8) -> Self {
        Self::Part([byte, 0, 0, 0], 1)
    }
}

impl Text {
    /// Whether the next byte stands in no escape.
    pub fn is_plain(self) -> bool {
        matches!(self.at, At::Plain)
    }

    /// Takes the next byte. Halves of characters that lack the other half bring nothing.
    pub fn take(&mut self, byte: u8) -> Piece {
        match self.at {
            At::Plain => self.plain(byte),
            At::Escape => self.escape(byte),
            At::Digits(count, value) => self.digit(count, value, byte),
        }
    }

    fn plain(&mut self, byte: u8) -> Piece {
        match byte {
            b'"' => Piece::End,
            b'\\' => {
                self.at = At::Escape;
                Piece::NOTHING
            }
            0..0x20 => Piece::Malformed,
            _ => {
                self.high = None;
                Piece::byte(byte)
            }
        }
    }

    fn escape(&mut self, byte: u8) -> Piece {
        self.at = At::Plain;
        let escaped = match byte {
            b'u' => {
                self.at = At::Digits(0, 0);
                return Piece::NOTHING;
            }
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => return Piece::Malformed,
        };
        self.high = None;
        Piece::byte(escaped)
    }

    fn digit(&mut self, count: u8, value: u16, byte: u8) -> Piece {
        let Some(digit) = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()) else {
            return Piece::Malformed;
        };
        let value = value << 4 | digit;
        if count < 3 {
            self.at = At::Digits(count + 1, value);
            return Piece::NOTHING;
        }
        self.at = At::Plain;
        let character = match (value, self.high.take()) {
            (0xd800..0xdc00, _) => {
                self.high = Some(value);
                None
            }
            (0xdc00..0xe000, Some(high)) => {
                char::from_u32(0x1_0000 + (u32::from(high & 0x3ff) << 10) + u32::from(value & 0x3ff))
            }
            (value, _) => char::from_u32(u32::from(value)),
        };
        let Some(character) = character else { return Piece::NOTHING };
        let mut bytes = [0; 4];
        let count = character.encode_utf8(&mut bytes).len();
        Piece::Part(bytes, count)
    }
}
