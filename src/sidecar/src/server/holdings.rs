//! Who holds the slots of a service: sessions, requests and runs, as far as proxies and runs tell.

use std::sync::Arc;

use colorfast_core::ids::{ServiceName, SlotName};
use colorfast_core::release::{Held, Holding, Reach, SlotState};
use colorfast_core::settings::PinSettings;
use colorfast_core::time::UnixMillis;

use super::accounts::{Account, Accounts};
use super::leases::{Holds, Leases};
use super::members::Members;
use super::reports::Reports;

/// A member that has not reported for so long may know of sessions that nobody else does. It says hello every ten seconds.
const UNHEARD_MS: u64 = 30_000;

/// What holds slots, from wherever it is known.
#[derive(Debug, Clone)]
pub struct Holdings {
    /// Runs.
    pub leases: Leases,
    /// Sessions and requests.
    pub accounts: Arc<Accounts>,
    /// Who must have reported.
    pub members: Arc<Members>,
    /// What they reported.
    pub reports: Arc<Reports>,
    /// Whether anybody reports.
    pub reach: Reach,
}

impl Holdings {
    /// What holds the slots of `service` now.
    pub fn of<'a>(&'a self, service: &'a ServiceName, settings: &'a PinSettings, now: UnixMillis) -> Slots<'a> {
        Slots { holdings: self, service, settings, now, runs: self.leases.of(service, now) }
    }
}

/// What holds the slots of one service.
#[derive(Debug)]
pub struct Slots<'a> {
    holdings: &'a Holdings,
    service: &'a ServiceName,
    settings: &'a PinSettings,
    now: UnixMillis,
    runs: Holds,
}

impl Slots<'_> {
    /// The account of a slot that runs something, where anybody could tell.
    pub fn told(&self, slot: &SlotName, state: &SlotState) -> Option<Account> {
        (state.assignment.is_some() && self.holdings.reach == Reach::Live).then(|| self.account(slot, state))
    }

    fn account(&self, slot: &SlotName, state: &SlotState) -> Account {
        let Some(assignment) = state.assignment else { return Account::default() };
        self.holdings.accounts.of(self.service, slot, assignment, self.settings, self.now)
    }

    /// The runs that hold a slot, and until when.
    pub fn runs(&self, slot: &SlotName, state: &SlotState) -> (u64, Option<UnixMillis>) {
        self.runs.of(slot, state)
    }

    /// The members whose sessions may not all be known.
    fn unheard(&self) -> Vec<String> {
        let Holdings { members, reports, .. } = self.holdings;
        let heard = |record: &super::members::Record| {
            let instances = reports.instances(self.service, &record.member);
            instances.iter().any(|instance| self.now.since(instance.last_seen) < UNHEARD_MS)
        };
        let unheard = members.of(self.service).into_iter().filter(|record| !heard(record));
        unheard.map(|record| record.member.to_string()).collect()
    }
}

impl Holding for Slots<'_> {
    fn of(&self, slot: &SlotName, state: &SlotState) -> Held {
        let Account { held, issued, in_flight, until, .. } = self.account(slot, state);
        let (runs, runs_until) = self.runs(slot, state);
        let (unheard, reach) = (self.unheard(), self.holdings.reach);
        Held { sessions: held, issued, in_flight, sessions_until: until, unheard, reach, runs, runs_until }
    }
}
