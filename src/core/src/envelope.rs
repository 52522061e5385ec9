//! The envelope: a session header that the agent issues and the client must echo carries the pin behind the id.
//!
//! ```text
//! mcp-session-id: <the agent's id>~<pin>
//! ```
//!
//! The client keeps what it was given first, so the pin of an envelope is never refreshed: when its session was seen last,
//! and where it went on after a break, is for memory to say, under the agent's id.

use crate::token::pin::LENGTH as PIN;

/// Between the id and the pin: visible ASCII, as MCP demands of session ids, and no letter of base64url.
const MARK: u8 = b'~';
/// Longest envelope. Clients and agents allow about twice as much for a header line.
const LONGEST: usize = 4096;

/// The id and the pin of what has the form of an envelope; none where the value has not. It is one where the pin verifies:
/// an id of the agent's own may look like it.
pub fn open(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (id, rest) = value.split_at_checked(value.len().checked_sub(PIN + 1)?)?;
    let (mark, pin) = rest.split_first()?;
    let is_pin = || pin.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
    (*mark == MARK && is_pin()).then_some((id, pin))
}

/// The envelope of `id` and `pin`; none where it would be too long, and the id is to be left alone.
pub fn seal(id: &[u8], pin: &str) -> Option<Vec<u8>> {
    let sealed = [id, &[MARK], pin.as_bytes()].concat();
    (sealed.len() <= LONGEST).then_some(sealed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Kept: whatever the agent's id is, it comes out as it went in, with the pin; also out of two envelopes.
        #[test]
        fn an_envelope_gives_back_what_was_put_in(id in proptest::collection::vec(0x21u8..0x7f, 0..300), pin in "[A-Za-z0-9_-]{58}") {
            let sealed = seal(&id, &pin).unwrap();
            prop_assert_eq!(open(&sealed), Some((id.as_slice(), pin.as_bytes())));
            let twice = seal(&sealed, &pin).unwrap();
            prop_assert_eq!(open(&twice), Some((sealed.as_slice(), pin.as_bytes())));
        }

        /// Unforgeable: no value makes the reader panic, and what is no envelope is the id as a whole.
        #[test]
        fn anything_can_be_opened(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((id, pin)) = open(&value) {
                prop_assert_eq!(value.len(), id.len() + 1 + pin.len());
            }
        }
    }

    /// Kept: ids that only look a little like an envelope are ids.
    #[test]
    fn other_ids_are_no_envelopes() {
        let pin = "p".repeat(PIN);
        for value in ["", "a", "a~b", &pin, &format!("a~{pin}="), &format!("a~{}!", &pin[1..]), &format!("a.{pin}")] {
            assert_eq!(open(value.as_bytes()), None, "{value}");
        }
        assert_eq!(seal(&vec![b'x'; LONGEST], &pin), None);
    }
}
