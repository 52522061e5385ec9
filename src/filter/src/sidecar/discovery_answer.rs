//! A discovery answer before it is parsed: what must be known of one that may be poison, or wrong in every way.

use std::hash::{DefaultHasher, Hasher};

/// Longest value that is looked for: a nonce, or a ticket.
const VALUE_MAX: usize = 128;
/// The last field, written without white space as the sidecar does. Within a JSON string the quotation marks would be
/// escaped, so no value is taken for a field.
const NONCE: &[u8] = b"\"nonce\":\"";
/// The field right before it, where there is one.
const TICKET: &[u8] = b"\"ticket\":\"";
/// The field before both, where there is one: it is no part of the snapshot.
const CORRECTIONS: &[u8] = b",\"corrections\":{";
/// What stands between the two.
const BETWEEN: &[u8] = b"\",";

/// An answer, parted at its ticket and its nonce: all else is the same where the same snapshot is sent again.
#[derive(Debug)]
pub struct DiscoveryAnswer<'a> {
    before: &'a [u8],
    ticket: &'a [u8],
    nonce: &'a [u8],
    after: &'a [u8],
}

impl<'a> DiscoveryAnswer<'a> {
    /// Parts `answer`.
    pub fn part(answer: &'a [u8]) -> Self {
        let Some((before, nonce, after)) = last(answer, NONCE) else {
            return Self { before: answer, ticket: b"", nonce: b"", after: b"" };
        };
        let (before, ticket) = at_ticket(before).unwrap_or((before, b""));
        Self { before, ticket, nonce, after }
    }

    /// The ticket, empty where none is found.
    pub fn ticket(&self) -> &'a [u8] {
        self.ticket
    }

    /// The nonce, empty where none is found.
    pub fn nonce(&self) -> String {
        String::from_utf8_lossy(self.nonce).into_owned()
    }

    /// A hash of the snapshot, without what else an answer brings: the same in every VM of the process.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let corrections = self.before.windows(CORRECTIONS.len()).rposition(|window| window == CORRECTIONS);
        hasher.write(self.before.get(..corrections.unwrap_or(self.before.len())).unwrap_or_default());
        hasher.write(self.after);
        hasher.finish()
    }
}

/// The ticket at the end of what stands before the nonce, and what stands before it in turn.
fn at_ticket(before: &[u8]) -> Option<(&[u8], &[u8])> {
    let tail = before.len().saturating_sub(TICKET.len() + VALUE_MAX + BETWEEN.len());
    let (head, tail) = before.split_at_checked(tail)?;
    let (within, ticket, rest) = last(tail, TICKET)?;
    (rest == BETWEEN).then_some(())?;
    Some((before.get(..head.len() + within.len())?, ticket))
}

/// What stands before the last `field`, its value, and what follows.
fn last<'a>(text: &'a [u8], field: &[u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
    let at = text.windows(field.len()).rposition(|window| window == field)?;
    let (before, rest) = text.split_at_checked(at)?;
    let value = rest.get(field.len()..)?;
    let end = value.iter().take(VALUE_MAX).position(|byte| *byte == b'"')?;
    let (value, after) = value.split_at_checked(end)?;
    Some((before, value, after))
}
