//! Properties that the proxy offers to the guest, by path.

use std::collections::BTreeMap;

/// Values by path; a path is its parts with a zero byte between them, as on the wire.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Properties {
    pub(crate) fn set(&mut self, path: &[&str], value: &[u8]) {
        self.values.insert(path.join("\0").into_bytes(), value.to_vec());
    }

    /// Offers a value where the test offered none itself.
    pub(crate) fn set_default(&mut self, path: &[&str], value: &[u8]) {
        self.values.entry(path.join("\0").into_bytes()).or_insert_with(|| value.to_vec());
    }

    /// Looks up a path as the guest wrote it: with or without a zero byte at its end.
    pub(crate) fn get(&self, path: &[u8]) -> Option<&[u8]> {
        let path = path.strip_suffix(&[0]).unwrap_or(path);
        self.values.get(path).map(Vec::as_slice)
    }
}
