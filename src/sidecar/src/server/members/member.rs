//! One member: what is kept of it, and what only this process knows.

use std::collections::VecDeque;

use colorfast_core::ids::{Epoch, ServiceName, SnapshotVersion};
use colorfast_core::time::UnixMillis;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::id::MemberId;
use crate::server::tickets::TicketKey;

/// Responses whose answer may still come. A proxy answers the last one; a few more belong to leaders that changed.
const SENT_MAX: usize = 8;
/// Polls of one proxy that are held open side by side, while its leaders change.
const POLLS_MAX: usize = 4;
/// Longest account of a refusal that is kept, in characters.
const ERROR_MAX: usize = 512;

/// What is kept of a member over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who it is.
    pub member: MemberId,
    /// The log that the numbers below belong to.
    pub epoch: Epoch,
    /// The version of the service when it became a member.
    pub joined: u64,
    /// What it decides by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// What it held when that was newer than anything of this log: the number may come to pass here too, but for
    /// another snapshot. For as long as it holds exactly that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Held>,
    /// What it refused, while it has taken nothing newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The key of the ticket that it has shown: from then on it is heard with its ticket only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<TicketKey>,
    /// When it was heard last.
    pub seen: UnixMillis,
    /// It lapsed when the service was at this version, and lacks it: kept, so that the version is never called
    /// confirmed over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapsed: Option<u64>,
}

/// A snapshot version as it is kept: `<epoch>.<version>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Held(pub SnapshotVersion);

impl TryFrom<String> for Held {
    type Error = colorfast_core::error::ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Held> for String {
    fn from(held: Held) -> String {
        held.0.to_string()
    }
}

/// A snapshot that a member refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    #[serde(rename = "held")]
    version_info: Held,
    /// The field and the rule, as the proxy said.
    pub error: String,
    /// It could not be read as it came, so it is sent again.
    #[serde(default)]
    pub retried: bool,
}

impl Refused {
    /// What a proxy said of `version`, cut to a bearable length and to one line.
    pub fn new(version: SnapshotVersion, said: &str, retried: bool) -> Self {
        let printable = said.chars().map(|c| if c.is_control() { ' ' } else { c });
        let error: String = printable.take(ERROR_MAX).collect();
        let error = error.trim();
        let error = if error.is_empty() { "it did not say why" } else { error };
        Self { version_info: Held(version), error: error.to_owned(), retried }
    }

    /// Which.
    pub fn version(&self) -> SnapshotVersion {
        self.version_info.0
    }
}

impl Record {
    /// Where the members of a service are kept.
    pub fn prefix(service: &ServiceName) -> String {
        format!("member/{service}/")
    }

    /// Where a member is kept. What has a fixed length comes first, so that no node id can reach another's place.
    pub fn key(service: &ServiceName, id: &MemberId) -> String {
        format!("member/{service}/{}/{}", id.process(), id.node())
    }

    /// A member of another log that becomes one of the log `epoch`, the service being at `version`. What it holds is of
    /// the other log until it says otherwise.
    pub fn carried(self, epoch: Epoch, version: u64) -> Self {
        Self { epoch, joined: version, foreign: None, refused: None, ..self }
    }

    /// What it decides by, as it says.
    pub fn held(&self) -> Option<SnapshotVersion> {
        self.held.map(|held| held.0)
    }

    /// What it decides by, unless that is known to be no snapshot of this log.
    pub fn held_of_ours(&self) -> Option<SnapshotVersion> {
        self.held.filter(|_| self.held != self.foreign).map(|held| held.0)
    }

    /// It says what it decides by, this log being at `current`.
    pub fn hold(&mut self, held: Option<SnapshotVersion>, current: u64) {
        self.held = held.map(Held);
        if held.is_some_and(|held| held.epoch == self.epoch && held.version > current) {
            self.foreign = self.held;
        }
        self.foreign = self.foreign.filter(|_| self.foreign == self.held);
    }
}

/// A member in this process.
#[derive(Debug)]
pub struct Member {
    /// What is kept.
    pub record: Record,
    /// When this process heard it last.
    pub heard: Option<Instant>,
    /// When it lapses; for one that has lapsed, when it is not named any more either.
    pub deadline: Instant,
    /// What it refused in the life of this process: not sent again. A restarted sidecar may have learnt to write
    /// that version better, and tries once.
    withheld: Option<SnapshotVersion>,
    sent: VecDeque<(String, SnapshotVersion)>,
    polls: VecDeque<oneshot::Sender<()>>,
}

impl Member {
    /// A member with nothing but what is kept.
    pub fn new(record: Record, deadline: Instant) -> Self {
        Self { record, heard: None, deadline, withheld: None, sent: VecDeque::new(), polls: VecDeque::new() }
    }

    /// Whether it is a member now, and not only named.
    pub fn is_live(&self) -> bool {
        self.record.lapsed.is_none()
    }

    /// Books a response, unless the member has refused that version.
    pub fn send(&mut self, version: SnapshotVersion, nonce: &str) -> super::Sending {
        if self.withheld == Some(version) {
            return super::Sending::Withheld;
        }
        self.sent.push_back((nonce.to_owned(), version));
        let excess = self.sent.len().saturating_sub(SENT_MAX);
        self.sent.drain(..excess);
        super::Sending::Booked
    }

    /// Takes a refusal in, where it answers a response that was sent and was not told before.
    ///
    /// Without a nonce the proxy could not even read that much: the response was damaged on the way. It counts for the
    /// last one sent, which is sent again: what is known of it now is not the member's last word.
    pub fn refuse(&mut self, nonce: &str, said: &str) -> Option<&Refused> {
        let retried = nonce.is_empty();
        let answered = match retried {
            true => self.sent.back(),
            false => self.sent.iter().find(|(sent, _)| sent == nonce),
        };
        let version = answered?.1;
        if !retried {
            self.withheld = Some(version);
        }
        let refused = Refused::new(version, said, retried);
        if self.record.refused.as_ref() == Some(&refused) {
            return None;
        }
        Some(self.record.refused.insert(refused))
    }

    /// Opens a poll; of too many, the oldest ends.
    pub fn open_poll(&mut self) -> oneshot::Receiver<()> {
        self.polls.retain(|poll| !poll.is_closed());
        while self.polls.len() >= POLLS_MAX {
            self.polls.pop_front();
        }
        let (end, ends) = oneshot::channel();
        self.polls.push_back(end);
        ends
    }
}
