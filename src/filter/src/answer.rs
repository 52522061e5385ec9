//! A discovery answer before it is parsed: what must be known of one that may be poison, or wrong in every way.

use std::hash::{DefaultHasher, Hasher};

/// Longest nonce that is repeated.
const NONCE_MAX: usize = 128;

/// An answer, parted at its nonce: all else is the same where the same snapshot is sent again.
#[derive(Debug)]
pub struct Answer<'a> {
    before: &'a [u8],
    nonce: &'a [u8],
    after: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Parts `answer` at the value of its last field `nonce`, written without white space as the sidecar does. Within
    /// a JSON string the quotation marks would be escaped, so no value is taken for the field.
    pub fn part(answer: &'a [u8]) -> Self {
        Self::at_nonce(answer).unwrap_or(Self { before: answer, nonce: b"", after: b"" })
    }

    fn at_nonce(answer: &'a [u8]) -> Option<Self> {
        const FIELD: &[u8] = b"\"nonce\":\"";
        let field = answer.windows(FIELD.len()).rposition(|window| window == FIELD)?;
        let (before, rest) = answer.split_at_checked(field + FIELD.len())?;
        let end = rest.iter().take(NONCE_MAX).position(|byte| *byte == b'"')?;
        let (nonce, after) = rest.split_at_checked(end)?;
        Some(Self { before, nonce, after })
    }

    /// The nonce, empty where none is found.
    pub fn nonce(&self) -> String {
        String::from_utf8_lossy(self.nonce).into_owned()
    }

    /// A hash of all but the nonce, the same in every VM of the process.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.before);
        hasher.write(self.after);
        hasher.finish()
    }
}
