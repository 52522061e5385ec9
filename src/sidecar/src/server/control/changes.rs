//! What happened to a service: told to whoever lost to it.

use colorfast_core::ids::ServiceName;
use colorfast_core::release::Event;

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
    /// The error of a verb, with what has happened to the service that the operator may not have seen: since the
    /// version that was expected, or else the last change.
    pub(super) async fn lost(&self, service: &ServiceName, error: VerbError) -> ApiError {
        let (after, most) = match &error {
            VerbError::Stale { expected, .. } => (*expected, CHANGES_MAX),
            VerbError::Refused(_) => (0, 1),
            VerbError::KeyReused(_) | VerbError::Outage(_) => return error.into(),
        };
        let Some(current) = self.directory.watch(service).map(|service| service.borrow().snapshot.version) else {
            return error.into();
        };
        match self.changes(service, after, current, most).await {
            Ok(changes) => ApiError::from(error).after(current, changes),
            // The refusal is the news; that the log cannot be read is told to whoever asks for the log.
            Err(_) => error.into(),
        }
    }

    /// The last changes of a service up to the version `last`, at most `most`, those after `after` alone.
    async fn changes(
        &self,
        service: &ServiceName,
        after: u64,
        last: u64,
        most: usize,
    ) -> Result<Vec<Change>, ApiError> {
        let begin = after.max(last.saturating_sub(if most == 1 { 1 } else { ENTRIES_MAX }));
        let number = usize::try_from(last.saturating_sub(begin)).unwrap_or_default();
        let mut changes = Vec::new();
        for record in self.log.read(begin, number).await? {
            let entry = entry(&record)?;
            // A restored log's genesis is of every service.
            let of_all = matches!(entry.event, Event::Genesis { restored: Some(_), .. });
            if of_all || entry.service.as_ref() == Some(service) {
                let event = entry.event.name().to_owned();
                changes.push(Change { version: entry.seq, event, principal: entry.principal, at: entry.at });
            }
        }
        Ok(changes.split_off(changes.len().saturating_sub(most)))
    }
}
