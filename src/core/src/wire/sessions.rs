//! Sessions over the wire: what proxies tell of those that they have learnt, and what the fleet says to one that meets an
//! id which it does not know.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Serialize};

use crate::ids::{ServiceName, Sid};
use crate::json::{Error, FromTree, Tree, record};
use crate::memory::{self, RECORD, Remembered};
use crate::wire::discovery::Node;
use crate::wire::incarnation::Incarnation;
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

/// A proxy says what it would do, or has done, under ids of one service, and asks what stands in the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ask {
    /// The proxy.
    pub node: Node,
    /// What proves it.
    pub ticket: Option<Ticket>,
    /// The VM instance that asks, as in its reports: 16 hex digits.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::DRAWN)))]
    pub instance: String,
    /// The service.
    pub service: ServiceName,
    /// The snapshot that the proposals were made under.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::HELD)))]
    pub version_info: String,
    /// One record for each id, none twice: a guess asks to be taken unless the fleet knows better, a fact tells.
    pub proposals: Records,
}

/// What stands in the fleet's memory from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Told {
    /// What stands under each id that was asked for, in the order of the proposals. An id is left out where its proposal
    /// was made under an older snapshot than the newest: it is to be decided anew, by that one at least.
    pub sessions: Records,
    /// The newest snapshot of the service.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::HELD)))]
    pub version_info: String,
    /// Which life of the sidecar answers.
    pub incarnation: Incarnation,
}

record!(Told, PassedOver, (), [sessions, version_info, incarnation], [], |fields| Self {
    sessions: Records::default(),
    version_info: String::new(),
    incarnation: Incarnation::default()
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AssignmentId;
    use crate::memory::{Certainty, Visits};
    use crate::time::UnixSeconds;

    /// Records read back, whole and in order; what is none is refused, however long.
    #[test]
    fn records_read_back() {
        let session = |n: u64| {
            let (began, seen) = (UnixSeconds(1_767_225_600), UnixSeconds(1_767_225_600 + n));
            let (certainty, visits) = (Certainty::Fact, Visits::First);
            (Sid(n), Remembered { assignment: AssignmentId(n + 7), sid: Sid(n), began, seen, certainty, visits })
        };
        let sessions: Vec<_> = (0..5).map(session).collect();
        let bytes: Vec<u8> = sessions.iter().flat_map(|(id, what)| memory::record(*id, what)).collect();
        let records = Records::of(&bytes);
        assert_eq!(records.sessions(), Some(sessions));
        assert_eq!((records.only(), Records::default().only()), (None, None));
        assert_eq!(Records::one(Sid(3), &session(3).1).only(), Some(session(3)));
        let incarnation: Incarnation = serde_json::from_str(r#""00000000000000aa""#).unwrap();
        let told = Told { sessions: records, version_info: "5.7".to_owned(), incarnation };
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(crate::json::read::<Told>(text.as_bytes()).unwrap(), told);
        for bad in ["A", "AAAA", "not base64!", &"A".repeat(43 * 3)] {
            assert_eq!(Records(bad.to_owned()).sessions(), None, "{bad}");
        }
        let many = vec![0; RECORD * (Records::MAX + 1)];
        assert_eq!(Records::of(&many).sessions(), None);
    }
}
