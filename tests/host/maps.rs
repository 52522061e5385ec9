//! The wire form of a header map, as it crosses the border between host and guest.
//!
//! ```text
//! count | (name length, value length) × count | (name 0 value 0) × count      all numbers u32, little-endian
//! ```

use crate::HeaderMap;

/// Writes a map as the host hands it to a guest.
pub fn encode(map: &HeaderMap) -> Vec<u8> {
    let mut wire = Vec::new();
    wire.extend((map.len() as u32).to_le_bytes());
    for (name, value) in map.iter() {
        wire.extend((name.len() as u32).to_le_bytes());
        wire.extend((value.len() as u32).to_le_bytes());
    }
    for part in map.iter().flat_map(|(name, value)| [name, value]) {
        wire.extend(part);
        wire.push(0);
    }
    wire
}

/// Reads a map that a guest sent. No bytes at all are an empty map; `None` is anything that is not
/// exactly one map, of which Envoy would read no header at all.
pub fn decode(wire: &[u8]) -> Option<HeaderMap> {
    if wire.is_empty() {
        return Some(HeaderMap::new());
    }
    let mut lengths = Reader(wire);
    let count = lengths.u32()?;
    let mut parts = Reader(wire.get(4usize.checked_add(count.checked_mul(8)?)?..)?);
    let mut map = HeaderMap::new();
    for _ in 0..count {
        let name = lengths.u32()?;
        let value = lengths.u32()?;
        let name = parts.terminated(name)?;
        map.add(name, parts.terminated(value)?);
    }
    parts.0.is_empty().then_some(map)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u32(&mut self) -> Option<usize> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number) as usize)
    }

    /// A part of this length and the zero byte after it.
    fn terminated(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        let (zero, rest) = rest.split_first()?;
        self.0 = rest;
        (*zero == 0).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes are those that the SDK writes and reads.
    #[test]
    fn wire_form_is_that_of_the_abi() {
        let map = HeaderMap::from([("a", "bc"), ("d", "")]);
        let mut wire = vec![2, 0, 0, 0];
        wire.extend([1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        wire.extend(b"a\0bc\0d\0\0");
        assert_eq!(encode(&map), wire);
        assert_eq!(decode(&wire), Some(map));
    }

    /// Duplicates, zero bytes inside a value and bytes that are not text survive the way there and back.
    #[test]
    fn any_bytes_survive() {
        let map = HeaderMap::from([("x", &b"\xff\xfe"[..]), ("x", b"a\0b"), ("y", b"")]);
        assert_eq!(decode(&encode(&map)), Some(map));
    }

    /// A guest's broken map is refused whole, never read beyond its end.
    #[test]
    fn broken_maps_are_refused() {
        let whole = encode(&HeaderMap::from([("name", "value")]));
        for cut in 1..whole.len() {
            assert_eq!(decode(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(decode(&[whole, vec![0]].concat()), None, "a byte too many");
        assert_eq!(decode(&u32::MAX.to_le_bytes()), None, "a count without entries");
    }

    /// Nothing and a count of zero are both the empty map.
    #[test]
    fn empty_maps() {
        assert_eq!(decode(&[]), Some(HeaderMap::new()));
        assert_eq!(decode(&[0, 0, 0, 0]), Some(HeaderMap::new()));
    }
}
