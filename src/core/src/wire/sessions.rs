//! Sessions over the wire: what proxies tell of those that they have learnt, and what the fleet says to one that meets an
//! id which it does not know.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Serialize};

use crate::ids::{ServiceName, Sid};
use crate::json::{Error, FromTree, Tree, record};
use crate::memory::{self, RECORD, Remembered};
use crate::wire::discovery::Node;
use crate::wire::ticket::Ticket;

/// Records of [`crate::memory`] one behind the other, in base64url without padding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Records(
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = (Records::MAX * RECORD * 4).div_ceil(3)), regex(pattern = crate::schema::RECORDS))
    )]
    String,
);

impl Records {
    /// Most records of one document: with all else that a report may hold they stay below what a sidecar reads.
    pub const MAX: usize = 256;

    /// The records in these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Base64UrlUnpadded::encode_string(bytes))
    }

    /// One record.
    pub fn one(id: Sid, what: &Remembered) -> Self {
        Self::of(&memory::record(id, what))
    }

    /// Every session with the keyed hash of its id; `None` where this is no text of whole records, or of too many.
    pub fn sessions(&self) -> Option<Vec<(Sid, Remembered)>> {
        let bytes = Base64UrlUnpadded::decode_vec(&self.0).ok()?;
        let (records, rest) = bytes.as_chunks::<RECORD>();
        (rest.is_empty() && records.len() <= Self::MAX).then(|| records.iter().map(memory::read).collect())
    }

    /// The session, where there is exactly one.
    pub fn only(&self) -> Option<(Sid, Remembered)> {
        let mut bytes = [0; RECORD];
        let decoded = Base64UrlUnpadded::decode(&self.0, &mut bytes).ok()?;
        decoded.try_into().ok().map(memory::read)
    }
}

impl FromTree for Records {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        String::from_tree(tree).map(Self)
    }
}

/// What an instance has learnt of the sessions of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionsReport {
    /// The service.
    pub service: ServiceName,
    /// The sessions.
    #[serde(default)]
    pub records: Records,
    /// The flush of the snapshot that the instance decides by, where all is told that was learnt before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flushed: Option<u64>,
}

/// A proxy asks what the fleet remembers under an id that it does not know, and what it will do where that is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ask {
    /// The proxy.
    pub node: Node,
    /// What proves it.
    pub ticket: Option<Ticket>,
    /// The service.
    pub service: ServiceName,
    /// The session as the proxy would begin it: one record.
    pub proposal: Records,
}

/// What stands in the fleet's memory from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Told {
    /// The session: one record; the proposal where nothing was remembered.
    pub session: Records,
}

record!(Told, PassedOver, (), [session], [], |fields| Self { session: Records::default() });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AssignmentId;
    use crate::time::UnixSeconds;

    /// Records read back, whole and in order; what is none is refused, however long.
    #[test]
    fn records_read_back() {
        let session = |n: u64| {
            let (began, seen) = (UnixSeconds(1_767_225_600), UnixSeconds(1_767_225_600 + n));
            (Sid(n), Remembered { assignment: AssignmentId(n + 7), sid: Sid(n), began, seen })
        };
        let sessions: Vec<_> = (0..5).map(session).collect();
        let bytes: Vec<u8> = sessions.iter().flat_map(|(id, what)| memory::record(*id, what)).collect();
        let records = Records::of(&bytes);
        assert_eq!(records.sessions(), Some(sessions));
        assert_eq!((records.only(), Records::default().only()), (None, None));
        assert_eq!(Records::one(Sid(3), &session(3).1).only(), Some(session(3)));
        let text = serde_json::to_string(&Told { session: records.clone() }).unwrap();
        assert_eq!(crate::json::read::<Told>(text.as_bytes()).unwrap().session, records);
        for bad in ["A", "AAAA", "not base64!", &"A".repeat(43 * 3)] {
            assert_eq!(Records(bad.to_owned()).sessions(), None, "{bad}");
        }
        let many = vec![0; RECORD * (Records::MAX + 1)];
        assert_eq!(Records::of(&many).sessions(), None);
    }
}
