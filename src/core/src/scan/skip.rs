//! What is passed over quickly, eight bytes at a time: most of a document lies beside the way.

const WORD: usize = 8;
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many bytes at the beginning are nothing but text of a JSON string: no quotation mark, control character or escape,
/// except escapes of one character that are there whole.
pub fn text(bytes: &[u8]) -> usize {
    let mut count = 0;
    loop {
        let rest = bytes.get(count..).unwrap_or_default();
        count += plain(rest);
        match bytes.get(count..) {
            Some([b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..]) => count += 2,
            _ => return count,
        }
    }
}

fn plain(bytes: &[u8]) -> usize {
    skip(
        bytes,
        |word| zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\')) | controls(word),
        |byte| matches!(byte, b'"' | b'\\' | 0..0x20),
    )
}

/// How many bytes at the beginning neither open nor close a bracket or a string.
pub fn flat(bytes: &[u8]) -> usize {
    // Brackets and braces differ in this bit alone.
    skip(
        bytes,
        |word| {
            let folded = word | every(0x20);
            zeros(folded ^ every(b'{')) | zeros(folded ^ every(b'}')) | zeros(word ^ every(b'"'))
        },
        |byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'),
    )
}

/// How many bytes at the beginning end no line.
pub fn line(bytes: &[u8]) -> usize {
    skip(bytes, |word| zeros(word ^ every(b'\n')) | zeros(word ^ every(b'\r')), |byte| matches!(byte, b'\n' | b'\r'))
}

/// Skips the bytes before the first that stops. Of a word the lowest bit that is set stands in that byte; those above may be
/// wrong.
#[inline]
fn skip(bytes: &[u8], stops_in: impl Fn(u64) -> u64, stops_at: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks::<WORD>();
    let mut count = 0;
    for word in words {
        let stops = stops_in(u64::from_le_bytes(*word));
        if stops != 0 {
            return count + usize::try_from(stops.trailing_zeros() / u8::BITS).unwrap_or_default();
        }
        count += WORD;
    }
    count + rest.iter().take_while(|byte| !stops_at(**byte)).count()
}

const fn every(byte: u8) -> u64 {
    LOW * byte as u64
}

/// Not nought where a byte is nought.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

/// Not nought where a byte is less than a space.
const fn controls(word: u64) -> u64 {
    word.wrapping_sub(every(0x20)) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Kept: nothing that counts is passed over, and all else is.
        #[test]
        fn stops_where_a_slow_reader_does(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x1eu8..0x24, 0x5au8..0x5e, 0x7au8..0x7e, 9u8..14, Just(b'x')], 0..40)) {
            let until = |stops: fn(&u8) -> bool| bytes.iter().position(stops).unwrap_or(bytes.len());
            prop_assert_eq!(plain(&bytes), until(|byte| *byte == b'"' || *byte == b'\\' || *byte < 0x20));
            prop_assert_eq!(flat(&bytes), until(|byte| b"\"[]{}".contains(byte)));
            prop_assert_eq!(line(&bytes), until(|byte| b"\r\n".contains(byte)));
        }
    }
}
