//! Ephemera: what may be lost for a second.

use std::fmt;

use colorfast_core::time::UnixMillis;

use super::Answer;

/// What becomes of a value, given the one that is there; `None` leaves it alone.
pub type Merge<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// Members, acknowledgements, reports: values by key that answer from memory and are saved behind.
///
/// A crash may lose the last second. `expires` is when a value may go; `None` keeps it until it is removed.
pub trait Ephemera: fmt::Debug + Send + Sync {
    /// The value under `key`.
    fn get(&self, key: &str) -> Option<Vec<u8>>;

    /// Writes `value`, whatever was there.
    fn put(&self, key: &str, value: Vec<u8>, expires: Option<UnixMillis>);

    /// Writes `value` where there is none, else gives the one that is there.
    #[allow(dead_code, reason = "part of the contract: the first proposal for a session wins")]
    fn put_if_absent(&self, key: &str, value: Vec<u8>, expires: Option<UnixMillis>) -> Option<Vec<u8>>;

    /// Writes what `merge` makes of the value that is there, in one step. What is left alone keeps its lifetime too.
    fn merge(&self, key: &str, expires: Option<UnixMillis>, merge: &mut Merge<'_>);

    /// Removes the value under `key`.
    fn remove(&self, key: &str);

    /// Every key that starts with `prefix`, with its value, in order of key.
    fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)>;

    /// The next `most` keys from `from` on that start with `prefix`, with their values; behind the last comes the first.
    fn sample(&self, prefix: &str, from: &str, most: usize) -> Vec<(String, Vec<u8>)>;

    /// How many keys start with `prefix`. Goes through all of them, though nobody else waits for that: a blocking call.
    fn count(&self, prefix: &str) -> usize;

    /// Removes what has expired by `now`. Goes through everything, though nobody else waits for that: a blocking call.
    fn expire(&self, now: UnixMillis);

    /// Saves what has changed since the last call.
    ///
    /// # Errors
    /// Where it could not; the next call tries again.
    fn flush(&self) -> Answer<'_, ()>;
}

impl dyn Ephemera {
    /// [`Ephemera::merge`] of what takes long: it is made while others come in between, and anew where it was overtaken.
    pub fn merge_aside(
        &self,
        key: &str,
        expires: Option<UnixMillis>,
        merge: impl Fn(Option<&[u8]>) -> Option<Vec<u8>>,
    ) {
        let before = self.get(key);
        let mut made = Some(merge(before.as_deref()));
        self.merge(key, expires, &mut |known| {
            let made = made.take().filter(|_| known == before.as_deref());
            made.unwrap_or_else(|| merge(known))
        });
    }
}
