//! The system's entropy.

/// A random number; `None` where the host gives none.
pub fn random() -> Option<u64> {
    getrandom::u64().ok()
}
