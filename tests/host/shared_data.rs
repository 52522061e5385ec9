//! The shared data of one proxy process: keys with a compare-and-swap number, seen by every VM of
//! one `vm_id`.

use std::collections::BTreeMap;

use crate::Status;

/// Keys and values with Envoy's exact rules, odd ones included:
///
/// - a `cas` of zero overwrites whatever is there;
/// - a `cas` that is not the key's current number is refused;
/// - on a *missing* key any `cas` creates it, so that `u32::MAX` means "put if absent";
/// - there is no delete.
#[derive(Debug)]
pub struct SharedData {
    keys: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    next_cas: u32,
    rivals: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Default for SharedData {
    fn default() -> Self {
        // Zero means "no number" on the wire, so it is never given out.
        Self { keys: BTreeMap::new(), next_cas: 1, rivals: BTreeMap::new() }
    }
}

impl SharedData {
    /// A key's value and its current number.
    pub fn get(&self, vm_id: &str, key: &[u8]) -> Option<(&[u8], u32)> {
        let (value, cas) = self.keys.get(&(vm_id.to_owned(), key.to_vec()))?;
        Some((value, *cas))
    }

    /// Writes a key; see [`SharedData`] for the rules of `cas`.
    ///
    /// # Errors
    /// [`Status::CasMismatch`] where the key was written since that number was read.
    pub fn set(&mut self, vm_id: &str, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        let place = (vm_id.to_owned(), key.to_vec());
        if let Some((_, current)) = self.keys.get(&place)
            && cas != 0
            && cas != *current
        {
            return Err(Status::CasMismatch);
        }
        self.keys.insert(place, (value.to_vec(), self.next_cas));
        self.next_cas = self.next_cas.checked_add(1).unwrap_or(1);
        Ok(())
    }

    /// Has a rival write a key right after it is read next: what a race comes to, every time.
    pub fn plan_rival(&mut self, key: &[u8], value: &[u8]) {
        self.rivals.insert(key.to_vec(), value.to_vec());
    }

    /// The key was read: a rival that waits for that writes it now.
    pub fn was_read(&mut self, vm_id: &str, key: &[u8]) {
        if let Some(value) = self.rivals.remove(key) {
            let _ = self.set(vm_id, key, &value, 0);
        }
    }

    /// The keys of one `vm_id`, sorted; those that are not text are shown as near as text comes.
    pub fn keys(&self, vm_id: &str) -> Vec<String> {
        self.keys
            .keys()
            .filter(|(owner, _)| owner == vm_id)
            .map(|(_, key)| String::from_utf8_lossy(key).into_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(data: &'a SharedData, key: &str) -> &'a [u8] {
        data.get("vm", key.as_bytes()).expect("the key").0
    }

    /// Without a number, the last writer wins.
    #[test]
    fn zero_overwrites() {
        let mut data = SharedData::default();
        data.set("vm", b"k", b"1", 0).unwrap();
        data.set("vm", b"k", b"2", 0).unwrap();
        assert_eq!(value(&data, "k"), b"2");
    }

    /// Only the current number writes, and each write makes a new one.
    #[test]
    fn a_stale_number_is_refused() {
        let mut data = SharedData::default();
        data.set("vm", b"k", b"1", 0).unwrap();
        let (_, cas) = data.get("vm", b"k").unwrap();
        data.set("vm", b"k", b"2", cas).unwrap();
        assert_eq!(data.set("vm", b"k", b"3", cas), Err(Status::CasMismatch));
        assert_eq!(value(&data, "k"), b"2");
    }

    /// Any number creates a missing key: "not found, then set" elects two leaders.
    #[test]
    fn any_number_creates_a_missing_key() {
        let mut data = SharedData::default();
        assert_eq!(data.set("vm", b"k", b"1", 77), Ok(()));
        assert_eq!(value(&data, "k"), b"1");
    }

    /// The highest number is "put if absent": the second writer learns that it lost.
    #[test]
    fn the_highest_number_puts_if_absent() {
        let mut data = SharedData::default();
        assert_eq!(data.set("vm", b"k", b"first", u32::MAX), Ok(()));
        assert_eq!(data.set("vm", b"k", b"second", u32::MAX), Err(Status::CasMismatch));
        assert_eq!(value(&data, "k"), b"first");
    }

    /// A rival writes between a read and the write that follows it, once.
    #[test]
    fn a_rival_writes_after_a_read() {
        let mut data = SharedData::default();
        data.set("vm", b"k", b"1", 0).unwrap();
        data.plan_rival(b"k", b"rival");
        let (_, cas) = data.get("vm", b"k").unwrap();
        data.was_read("vm", b"k");
        assert_eq!(data.set("vm", b"k", b"2", cas), Err(Status::CasMismatch));
        assert_eq!(value(&data, "k"), b"rival");
        let (_, cas) = data.get("vm", b"k").unwrap();
        data.was_read("vm", b"k");
        assert_eq!(data.set("vm", b"k", b"2", cas), Ok(()));
    }

    /// VMs of another id see nothing of it.
    #[test]
    fn ids_are_apart() {
        let mut data = SharedData::default();
        data.set("vm", b"k", b"1", 0).unwrap();
        assert_eq!(data.get("other", b"k"), None);
        assert_eq!(data.keys("vm"), ["k"]);
    }
}
