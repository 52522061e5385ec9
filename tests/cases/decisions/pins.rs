//! Pins as the tables describe them, turned into tokens and back.

use colorfast_core::ids::{AssignmentId, KeyId, Sid};
use colorfast_core::keys::SidHasher;
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::pin::{Claims, Kind, Signer};
use serde::Deserialize;

use super::table::{Bytes, Case, PinWanted};
use crate::releases::{self, Forger, ring_key, service};

/// The sid of every free pin in the tables.
const FREE: Sid = Sid(0x0123_4567_89ab_cdef);

/// A pin that a request carries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinGiven {
    /// The assignment that it names.
    pub assignment: u64,
    /// The session id that it is bound to; a free pin where there is none.
    #[serde(default)]
    pub bound_to: Option<Bytes>,
    /// Seconds since its session began.
    #[serde(default)]
    pub began: i64,
    /// Seconds since it was issued.
    #[serde(default)]
    pub refreshed: i64,
    /// The key that signed it.
    #[serde(default = "first_key")]
    pub key: u16,
    /// The service that it was signed for.
    #[serde(default = "chat")]
    pub service: String,
    /// What was done to it.
    #[serde(default)]
    pub spoil: Spoil,
}

/// What was done to a token on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoil {
    /// Nothing.
    #[default]
    Nothing,
    /// The last character is missing.
    Truncated,
    /// A character follows.
    Extended,
    /// Nothing is left of it.
    Emptied,
    /// One bit of what it says is another.
    ClaimFlipped,
    /// One bit of its signature is another.
    MacFlipped,
    /// It claims to be of a kind that is not known.
    UnknownKind,
    /// Another key of the same id signed it.
    ForeignKey,
    /// The same bytes in another spelling: the unused bits of the last character are set.
    Respelt,
    /// The same bytes in upper-case hexadecimal digits.
    InHex,
    /// With the padding of base64.
    Padded,
    /// In quotation marks.
    Quoted,
    /// Bytes that are no text.
    Noise,
}

fn first_key() -> u16 {
    1
}

fn chat() -> String {
    "chat".to_owned()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl PinGiven {
    /// The token, at this time.
    pub fn token(&self, now: UnixSeconds) -> Vec<u8> {
        let forger = if matches!(self.spoil, Spoil::ForeignKey) { Forger::Somebody } else { Forger::Nobody };
        let id = KeyId(self.key);
        let key = ring_key(id, forger);
        let signer = Signer::new(&service(&self.service), id, [(id, &key)]).unwrap();
        let (kind, sid) = identity(self.bound_to.as_ref());
        let claims = Claims {
            kind,
            sid,
            assignment: AssignmentId(self.assignment),
            began: before(now, self.began),
            refreshed: before(now, self.refreshed),
        };
        self.spoil.done_to(signer.mint(&claims).into_bytes())
    }
}

impl Spoil {
    /// The token after that.
    pub fn done_to(self, mut token: Vec<u8>) -> Vec<u8> {
        // Character 8 stands in what is claimed, the last but seven in the MAC, the first in the kind.
        match self {
            Self::Nothing | Self::ForeignKey => {}
            Self::Truncated => drop(token.pop()),
            Self::Extended => token.push(b'A'),
            Self::Emptied => token.clear(),
            Self::ClaimFlipped => flip(&mut token[8], 1),
            Self::MacFlipped => {
                let in_mac = token.len() - 8;
                flip(&mut token[in_mac], 1);
            }
            Self::UnknownKind => flip(&mut token[0], 0b10_0000),
            Self::Respelt => flip(token.last_mut().unwrap(), 1),
            Self::InHex => token = token.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect(),
            Self::Padded => token.extend_from_slice(b"=="),
            Self::Quoted => token = [b"\"", token.as_slice(), b"\""].concat(),
            Self::Noise => token = vec![0xff; token.len()],
        }
        token
    }
}

/// Flips a bit of the six that a character stands for.
fn flip(character: &mut u8, bit: usize) {
    let value = ALPHABET.iter().position(|c| c == character).unwrap();
    *character = ALPHABET[value ^ bit];
}

fn identity(bound_to: Option<&Bytes>) -> (Kind, Sid) {
    match bound_to {
        Some(id) => (Kind::Bound, SidHasher::new(&releases::keys(&[1]).sid).sid(&id.bytes())),
        None => (Kind::Free, FREE),
    }
}

/// So many seconds before (below 0: after) a time.
pub fn before(now: UnixSeconds, seconds: i64) -> UnixSeconds {
    UnixSeconds(now.0.checked_add_signed(-seconds).unwrap())
}

/// Compares a pin that was handed out with what was wanted. `arrived` is when the request came, `decided` when it went
/// on; `chosen` is the assignment of the slot that it went to.
pub fn compare(case: &Case, found: Option<Claims>, arrived: UnixSeconds, decided: UnixSeconds, chosen: Option<u64>) {
    let name = &case.name;
    let (wanted, found) = match (&case.wanted.pin, found) {
        (None, None) => return,
        (Some(wanted), Some(found)) => (wanted, found),
        (wanted, found) => panic!("{name}: handed out {found:?}, wanted {wanted:?}"),
    };
    let PinWanted { assignment, bound_to, began } = wanted;
    let (kind, sid) = identity(bound_to.as_ref());
    assert_eq!(found.kind, kind, "{name}: kind");
    assert_eq!(Some(found.assignment.0), assignment.or(chosen), "{name}: assignment");
    assert_eq!(found.began, began.map_or(decided, |ago| before(arrived, ago)), "{name}: began");
    assert_eq!(found.refreshed, decided, "{name}: refreshed");
    // A session that goes on keeps its sid; a free one that begins draws a new one.
    assert_eq!(found.sid == sid, kind == Kind::Bound || began.is_some(), "{name}: {sid:?} and {:?}", found.sid);
}
