//! Many clients that hold conversations until they are told to stop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use crate::agent::Reply;
use crate::client::{Conversation, Failure, Manner, Place};
use crate::http::Line;
use crate::report::{Record, Report, Served, Session};
use crate::wait;

/// After a failure a client waits this long, so that a closed port is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// Which Envoy a client asks, where there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Always the same one.
    Home,
    /// The next one at every turn: sessions are kept by what they carry, not by where they go.
    EachTurn,
}

/// What load to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The Envoys.
    pub targets: Vec<SocketAddr>,
    /// Which of them a client asks.
    pub spread: Spread,
    /// Where conversations are held.
    pub place: Place,
    /// How the clients behave, in turn.
    pub manners: Vec<Manner>,
    /// How many clients there are.
    pub clients: usize,
    /// The longest that a conversation gets before its client begins another one. Lengths vary from client to
    /// client and from session to session, up to this.
    pub longest: u32,
    /// Of so many clients one holds a single conversation for as long as the load lasts; 0 for none.
    pub endless_each: usize,
    /// How long a client thinks between two turns.
    pub think: Duration,
    /// What session ids begin with, so that two loads do not share any.
    pub prefix: String,
}

impl Plan {
    /// 64 clients of all manners that carry their pin, conversations of up to 40 turns, every fourth client with
    /// one that never ends, alternating over the Envoys.
    #[must_use]
    pub fn new(targets: Vec<SocketAddr>) -> Self {
        Self {
            targets,
            spread: Spread::EachTurn,
            place: Place::default(),
            manners: Manner::pinned(),
            clients: 64,
            longest: 40,
            endless_each: 4,
            think: Duration::from_millis(2),
            prefix: "s".to_owned(),
        }
    }
}

/// A load that is running.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    stop: AtomicBool,
    requests: AtomicU64,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    sessions: Vec<Session>,
    records: Vec<Record>,
    /// Each text once: bundles, slots and decisions are few, records are many.
    texts: HashMap<String, Arc<str>>,
    live: Live,
}

/// How a load stands at this moment, for a live view.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Requests that have ended.
    pub requests: u64,
    /// Of these, the ones that got no reply of an agent.
    pub failures: u64,
    /// Turns that an agent could not follow.
    pub broken: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Which bundle served the latest turn of each client; `None` before the first.
    pub clients: Vec<Option<Arc<str>>>,
}

impl Load {
    /// Starts the clients.
    ///
    /// # Errors
    /// Where the plan has no target, no manner, or conversations of no turn.
    pub fn start(plan: Plan) -> Result<Self> {
        if plan.targets.is_empty() || plan.manners.is_empty() || plan.longest == 0 {
            bail!("a load needs targets, manners, and conversations of one turn at least: {plan:?}");
        }
        let clients = plan.clients;
        let ledger = Ledger { live: Live { clients: vec![None; clients], ..Live::default() }, ..Ledger::default() };
        let shared = Arc::new(Shared {
            plan,
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            ledger: Mutex::new(ledger),
        });
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            tasks.spawn(converse(Arc::clone(&shared), client));
        }
        Ok(Self { shared, clients: tasks })
    }

    /// How many requests have ended so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Waits until so many requests have ended since the start.
    ///
    /// # Errors
    /// Where they have not within `limit`.
    pub async fn reach(&self, requests: u64, limit: Duration) -> Result<()> {
        wait::until_ok(&format!("{requests} requests"), limit, || async {
            let now = self.requests();
            if now < requests {
                bail!("{now} have ended");
            }
            Ok(())
        })
        .await
    }

    /// Waits until so many more requests have ended.
    ///
    /// # Errors
    /// Where they have not within `limit`.
    pub async fn advance(&self, requests: u64, limit: Duration) -> Result<()> {
        self.reach(self.requests() + requests, limit).await
    }

    /// How it stands at this moment.
    #[must_use]
    pub fn live(&self) -> Live {
        Live { requests: self.requests(), ..self.shared.ledger().live.clone() }
    }

    /// All that has happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let ledger = self.shared.ledger();
        Report::new(ledger.sessions.clone(), ledger.records.clone())
    }

    /// Lets every client end its turn, and answers all that has happened.
    ///
    /// # Errors
    /// Where a client has crashed, which is a fault of the harness.
    pub async fn stop(mut self) -> Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(self.report())
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The number of turns of a client's nth session: anything from 1 to the longest, the same in every run.
    fn length(&self, client: usize, nth: usize) -> u32 {
        let plan = &self.plan;
        if plan.endless_each > 0 && client.is_multiple_of(plan.endless_each) {
            return u32::MAX;
        }
        let spread = (client * 7 + nth * 13) % plan.longest as usize;
        u32::try_from(spread).map_or(1, |spread| spread + 1)
    }
}

impl Ledger {
    fn record(
        &mut self,
        client: usize,
        outcome: Result<Reply, Failure>,
        record: impl FnOnce(Result<Served, Failure>) -> Record,
    ) {
        let outcome = outcome.map(|reply| Served {
            bundle: self.intern(reply.bundle),
            slot: self.intern(reply.slot),
            stamped: self.intern(reply.stamped),
            decision: self.intern(reply.decision),
            broken: reply.broken,
        });
        match &outcome {
            Ok(served) => {
                self.live.broken += u64::from(served.broken);
                self.live.clients[client] = Some(Arc::clone(&served.bundle));
            }
            Err(_) => self.live.failures += 1,
        }
        self.records.push(record(outcome));
    }

    fn intern(&mut self, text: String) -> Arc<str> {
        Arc::clone(self.texts.entry(text).or_insert_with_key(|text| Arc::from(text.as_str())))
    }
}

/// One client: conversation after conversation.
async fn converse(shared: Arc<Shared>, client: usize) {
    let plan = &shared.plan;
    // Which manner a client has must not go in step with which clients are endless.
    let manner = plan.manners[(client + client / plan.manners.len()) % plan.manners.len()];
    let mut lines: Vec<Line> = plan.targets.iter().map(|target| Line::new(*target, manner.protocol)).collect();
    let mut asked = client;
    for nth in 0.. {
        let name = format!("{}-{client}-{nth}", plan.prefix);
        let session = {
            let mut ledger = shared.ledger();
            ledger.live.sessions += 1;
            ledger.sessions.push(Session { name: name.clone(), client, manner });
            ledger.sessions.len() - 1
        };
        let mut conversation = Conversation::new(&name, manner);
        while conversation.turns() < shared.length(client, nth) {
            if shared.stopped() {
                return;
            }
            let target = asked % lines.len();
            if plan.spread == Spread::EachTurn {
                asked += 1;
            }
            let started = Instant::now();
            let outcome = conversation.turn(&mut lines[target], &plan.place).await;
            let took = started.elapsed();
            let failed = outcome.is_err();
            let turn = conversation.turns() + u32::from(failed);
            shared.ledger().record(client, outcome, |outcome| Record { session, turn, target, started, took, outcome });
            shared.requests.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(if failed { AFTER_FAILURE } else { plan.think }).await;
        }
    }
}
