//! Header maps with the behaviour of Envoy's: ordered, duplicates kept, names in lower case, values
//! of any bytes.

use std::fmt;

/// An ordered list of headers.
///
/// Built from arrays, vectors or slices of pairs of anything that is bytes:
///
/// ```
/// use wasm_host::HeaderMap;
/// let mut headers = HeaderMap::from([(":path", "/"), ("X-Tag", "one"), ("x-tag", "two")]);
/// assert_eq!(headers.text("x-tag"), Some("one"));
/// headers.replace("x-tag", "three");
/// assert_eq!(headers.all("x-tag"), [b"three"]);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderMap {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl HeaderMap {
    /// A map without headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of a header, as host calls see it.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.all(name).into_iter().next()
    }

    /// The first value of a header, where it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// Every value of a header, in order.
    pub fn all(&self, name: impl AsRef<[u8]>) -> Vec<&[u8]> {
        let name = name.as_ref().to_ascii_lowercase();
        self.entries.iter().filter(|(key, _)| *key == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// Whether the header is there at all.
    pub fn has(&self, name: impl AsRef<[u8]>) -> bool {
        self.get(name).is_some()
    }

    /// Adds a value after those already there.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let entry = (name.as_ref().to_ascii_lowercase(), value.as_ref().to_vec());
        // Pseudo-headers stand before all others, whenever they are added.
        let place = match entry.0.starts_with(b":") {
            true => self.entries.iter().take_while(|(key, _)| key.starts_with(b":")).count(),
            false => self.entries.len(),
        };
        self.entries.insert(place, entry);
    }

    /// Leaves exactly one header of this name.
    pub fn replace(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.remove(name.as_ref());
        self.add(name, value);
    }

    /// Removes every header of this name; none is fine too.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        self.entries.retain(|(key, _)| *key != name);
    }

    /// How many headers there are, duplicates counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }
}

/// As lines that a person reads, whatever bytes the values hold.
impl fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |(name, value): (&[u8], &[u8])| format!("{}: {}", name.escape_ascii(), value.escape_ascii());
        f.debug_list().entries(self.iter().map(line)).finish()
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, V)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map = Self::new();
        for (name, value) in pairs {
            map.add(name, value);
        }
        map
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>, const N: usize> From<[(K, V); N]> for HeaderMap {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> From<Vec<(K, V)>> for HeaderMap {
    fn from(pairs: Vec<(K, V)>) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> From<&[(K, V)]> for HeaderMap {
    fn from(pairs: &[(K, V)]) -> Self {
        pairs.iter().map(|(name, value)| (name, value)).collect()
    }
}

impl From<&HeaderMap> for HeaderMap {
    fn from(map: &HeaderMap) -> Self {
        map.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are compared without case, and duplicates keep their order.
    #[test]
    fn duplicates_are_kept_in_order() {
        let headers = HeaderMap::from([("Cookie", "a=1"), ("x", "-"), ("cookie", "b=2")]);
        assert_eq!(headers.all("COOKIE"), [b"a=1", b"b=2"]);
        assert_eq!(headers.text("cookie"), Some("a=1"));
    }

    /// A value need not be text.
    #[test]
    fn values_may_be_any_bytes() {
        let headers = HeaderMap::from([("x", [0xff, 0xfe])]);
        assert_eq!(headers.get("x"), Some([0xff, 0xfe].as_slice()));
        assert_eq!(headers.text("x"), None);
    }

    /// Replacing leaves one header; a pseudo-header stays in front.
    #[test]
    fn replace_leaves_one() {
        let mut headers = HeaderMap::from([(":path", "/"), ("x", "1"), ("X", "2")]);
        headers.replace("x", "3");
        headers.replace(":path", "/new");
        let list: Vec<_> = headers.iter().collect();
        assert_eq!(list, [(&b":path"[..], &b"/new"[..]), (b"x", b"3")]);
    }
}
