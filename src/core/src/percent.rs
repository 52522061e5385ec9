//! Percent-encoding (RFC 3986, section 2.1): what stands in a URL or in baggage, as it was before.

use std::borrow::Cow;

/// What a plus sign stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plus {
    /// A space, as forms and queries write it.
    Space,
    /// Itself.
    Itself,
}

/// The text without its encoding. What is no escape stays as it is.
pub fn decode(text: &[u8], plus: Plus) -> Cow<'_, [u8]> {
    if !text.iter().any(|b| *b == b'%' || (*b == b'+' && plus == Plus::Space)) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = if *first == b'%' { behind.split_first_chunk().and_then(|(two, _)| byte_of(*two)) } else { None };
        decoded.push(match (first, escaped) {
            (_, Some(byte)) => byte,
            (b'+', None) if plus == Plus::Space => b' ',
            (other, None) => *other,
        });
        rest = if escaped.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    Cow::Owned(decoded)
}

fn byte_of(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? << 4 | low?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kept: escapes are read in either case, and what is none is left alone.
    #[test]
    fn reads_escapes() {
        let cases: [(&str, &str, &str); 8] = [
            ("", "", ""),
            ("plain", "plain", "plain"),
            ("a%20b", "a b", "a b"),
            ("%41%6a%6A", "Ajj", "Ajj"),
            ("a+b", "a+b", "a b"),
            ("%", "%", "%"),
            ("%4", "%4", "%4"),
            ("%%41%g0%+1", "%A%g0%+1", "%A%g0% 1"),
        ];
        for (text, itself, space) in cases {
            assert_eq!(decode(text.as_bytes(), Plus::Itself), itself.as_bytes(), "{text}");
            assert_eq!(decode(text.as_bytes(), Plus::Space), space.as_bytes(), "{text}");
        }
    }

    proptest! {
        /// Kept: whatever bytes an id has, it is the same once encoded and decoded.
        #[test]
        fn reads_what_was_encoded(id in proptest::collection::vec(any::<u8>(), 0..64)) {
            let encoded: String = id.iter().map(|b| format!("%{b:02X}")).collect();
            prop_assert_eq!(decode(encoded.as_bytes(), Plus::Space), id.as_slice());
            prop_assert_eq!(decode(encoded.as_bytes(), Plus::Itself), id.as_slice());
        }

        /// Total: no bytes are too odd, and nothing grows.
        #[test]
        fn total(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(decode(&text, Plus::Space).len() <= text.len());
        }
    }
}
