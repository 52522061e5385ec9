//! What happened to a service, or to what is of all services: told to whoever lost to it.

use colorfast_core::ids::ServiceName;
use colorfast_core::release::Entry;

use super::Control;
use super::log::entry;
use crate::api::Change;
use crate::server::authority::VerbError;
use crate::server::problem::ApiError;

/// Most changes that are told.
const CHANGES_MAX: usize = 10;
/// Most entries that are read for them: those of other services stand between.
const ENTRIES_MAX: u64 = 200;

impl Control {
    /// The error of a verb on a service, or on what is of all (none), with what has happened to it that the operator may
    /// not have seen: since the version that was expected, or else the last act.
    pub(super) async fn lost(&self, service: Option<&ServiceName>, error: VerbError) -> ApiError {
        let versions = match service {
            Some(service) => self.directory.watch(service).map(|service| {
                let published = service.borrow();
                (published.state.acted, published.snapshot.version)
            }),
            None => Some(self.directory.application().version).map(|version| (version, version)),
        };
        let Some((acted, current)) = versions else { return error.into() };
        let (after, last, most) = match &error {
            VerbError::Stale { expected, .. } => (*expected, current, CHANGES_MAX),
            VerbError::Refused(_) => (acted.saturating_sub(1), acted, 1),
            VerbError::KeyReused(_) | VerbError::Outage(_) => return error.into(),
        };
        let concerns = |entry: &Entry| match service {
            Some(service) => entry.changes(service),
            None => entry.service.is_none(),
        };
        match self.changes(after, last, most, concerns).await {
            Ok(changes) => ApiError::from(error).after(current, changes),
            // The refusal is the news; that the log cannot be read is told to whoever asks for the log.
            Err(_) => error.into(),
        }
    }

    /// The last changes that are of concern, from after `after` up to `last`, at most `most`.
    async fn changes(
        &self,
        after: u64,
        last: u64,
        most: usize,
        concerns: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Change>, ApiError> {
        let begin = after.max(last.saturating_sub(ENTRIES_MAX));
        let number = usize::try_from(last.saturating_sub(begin)).unwrap_or_default();
        let mut changes = Vec::new();
        for record in self.log.read(begin, number).await? {
            let entry = entry(&record)?;
            if concerns(&entry) {
                let event = entry.event.name().to_owned();
                changes.push(Change { version: entry.seq, event, principal: entry.principal, at: entry.at });
            }
        }
        Ok(changes.split_off(changes.len().saturating_sub(most)))
    }
}
