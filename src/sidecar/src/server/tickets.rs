//! Tickets of members: what proves that a poll or a report is of the process that it names.
//!
//! A ticket is a MAC of the member's id under a key that never leaves the store, so it is checked without any memory of
//! having been given out, over restarts too. Which members have shown theirs is kept in their records.

use std::fmt;

use anyhow::{Context, Result};
use colorfast_core::wire::ticket::Ticket;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::members::MemberId;
use super::problem::{ApiError, Kind};
use crate::store::{PutError, Secrets};

/// Where the key is kept.
const PLACE: &str = "access/ticket-key";
/// Bytes of the key.
const KEY_BYTES: usize = 32;
/// Bytes of the name of a key.
const NAME_BYTES: usize = 8;
/// What a MAC is of, so that none of one kind is taken for one of another.
const OF_MEMBER: &[u8] = b"colorfast/ticket/1\0";
const OF_KEY: &[u8] = b"colorfast/ticket-key/1\0";

/// The name of a ticket key, from which nothing of it can be learnt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TicketKey(String);

/// Gives tickets out, and knows them again.
#[derive(Clone)]
pub struct Tickets {
    mac: Hmac<Sha256>,
    key: TicketKey,
}

impl Tickets {
    /// Tickets under the key that is kept; drawn where there is none.
    ///
    /// # Errors
    /// Where it can be neither read nor written.
    pub async fn load(secrets: &dyn Secrets) -> Result<Self> {
        if let Some(found) = secrets.get(PLACE).await? {
            return Self::of_key(&found.value);
        }
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).context("cannot draw a ticket key")?;
        match secrets.put_if_version(PLACE, 0, key.to_vec()).await {
            Ok(_) => Self::of_key(&key),
            Err(PutError::Moved(_)) => {
                let found = secrets.get(PLACE).await?.context("the ticket key is gone")?;
                Self::of_key(&found.value)
            }
            Err(PutError::Outage(outage)) => Err(outage.into()),
        }
    }

    fn of_key(key: &[u8]) -> Result<Self> {
        let key: [u8; KEY_BYTES] = key.try_into().ok().context("the ticket key has another length than a key")?;
        let mac = Hmac::new_from_slice(&key).context("the ticket key cannot be used")?;
        let name = Mac::chain_update(mac.clone(), OF_KEY).finalize().into_bytes();
        let name = name.get(..NAME_BYTES).unwrap_or_default();
        Ok(Self { key: TicketKey(HEXLOWER.encode(name)), mac })
    }

    /// The key that tickets are of now.
    pub fn key(&self) -> &TicketKey {
        &self.key
    }

    /// The ticket of a member.
    pub fn of(&self, member: &MemberId) -> Ticket {
        Ticket::new(BASE64URL_NOPAD.encode(&self.mac_of(member).finalize().into_bytes()))
    }

    /// Whether `shown` is the ticket of `member`. Takes as long for a nearly right one as for a wrong one.
    pub fn proves(&self, member: &MemberId, shown: Option<&Ticket>) -> bool {
        let shown = shown.and_then(|shown| BASE64URL_NOPAD.decode(shown.as_str().as_bytes()).ok());
        shown.is_some_and(|shown| self.mac_of(member).verify_slice(&shown).is_ok())
    }

    /// Admits what a member says under its ticket alone; `what` is that, as in "a report".
    ///
    /// # Errors
    /// Where `shown` is not the member's.
    pub fn admit(&self, member: &MemberId, shown: Option<&Ticket>, what: &str) -> Result<(), ApiError> {
        if self.proves(member, shown) {
            return Ok(());
        }
        let detail = format!("{what} of {member} must show its ticket, which came with its first snapshot");
        Err(ApiError::new(Kind::TICKET, detail).at("ticket"))
    }

    /// The process id has a fixed length, so no two ids make one text.
    fn mac_of(&self, member: &MemberId) -> Hmac<Sha256> {
        let mac = Mac::chain_update(self.mac.clone(), OF_MEMBER);
        mac.chain_update(member.process()).chain_update(member.node())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use colorfast_core::wire::discovery::{Node, NodeMetadata};

    use super::*;
    use crate::store::sqlite::Sqlite;

    fn id(node: &str, process: u64) -> MemberId {
        let metadata = NodeMetadata { process_id: format!("{process:016x}") };
        MemberId::of(&Node { id: node.to_owned(), metadata }).unwrap()
    }

    /// A ticket proves its member and nobody else, over a restart; under another key it is worth nothing.
    #[tokio::test]
    async fn tickets_prove_one_member() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Arc::new(Sqlite::open(&folder.path().join("store.db")).unwrap());
        let tickets = Tickets::load(open().as_ref()).await.unwrap();
        let ticket = tickets.of(&id("edge", 1));
        let again = Tickets::load(open().as_ref()).await.unwrap();
        assert_eq!((again.of(&id("edge", 1)), again.key()), (ticket.clone(), tickets.key()));
        assert!(again.proves(&id("edge", 1), Some(&ticket)));
        for other in [id("edge", 2), id("edge-1", 1), id("edg", 1)] {
            assert!(!again.proves(&other, Some(&ticket)));
        }
        assert!(!again.proves(&id("edge", 1), None));
        let text = ticket.as_str();
        for wrong in ["", "x", &text[1..], &format!("{text}A"), &text.to_uppercase(), &format!("{text}=")] {
            assert!(!again.proves(&id("edge", 1), Some(&Ticket::new(wrong.to_owned()))), "{wrong}");
        }
        let other = Tickets::of_key(&[7; KEY_BYTES]).unwrap();
        assert!(!other.proves(&id("edge", 1), Some(&ticket)));
        assert_ne!(other.key(), tickets.key());
        assert!(!format!("{ticket:?} {tickets:?}").contains(text));
    }
}
