//! The fleet's memory against a model, with proxies that ask, report, die with their answers and hear of corrections.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Ids, instances and slots of the story.
const IDS: u64 = 4;
const PROXIES: usize = 3;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Act {
    /// A request comes with an id that the proxy may not know; whether the answer to its question arrives.
    Request { proxy: usize, id: u64, slot: usize, arrives: bool },
    /// An answer hands an id out, or a pin says where it belongs; whether the proxy asks at once or reports.
    Fact { proxy: usize, id: u64, slot: usize, asks: bool },
    /// A newer snapshot is published.
    Publish,
    /// Time passes, and proxies hear of corrections.
    Wait,
    /// What was told is saved.
    Flush,
    /// The sidecar dies with what was not, and proxies tell it again.
    Crash,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let who = || (0..PROXIES, 0..IDS, 0..2_usize, any::<bool>());
    let act = prop_oneof![
        8 => who().prop_map(|(proxy, id, slot, arrives)| Act::Request { proxy, id, slot, arrives }),
        4 => who().prop_map(|(proxy, id, slot, asks)| Act::Fact { proxy, id, slot, asks }),
        2 => Just(Act::Publish),
        2 => Just(Act::Wait),
        2 => Just(Act::Flush),
        1 => Just(Act::Crash),
    ];
    proptest::collection::vec(act, 0..60)
}

/// What the table of the rules says of one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stands {
    assignment: u64,
    fact: bool,
    returned: bool,
    teller: usize,
    /// The version and the moment of a guess that nobody is known to have gone by.
    proposed: Option<(u64, u64)>,
}

/// One word, as the table knows it.
#[derive(Debug, Clone, Copy)]
struct Said {
    proxy: usize,
    id: u64,
    assignment: u64,
    fact: bool,
    /// The version that it is asked under; none where it is reported.
    asked: Option<u64>,
}

/// The table.
#[derive(Debug, Clone, Default)]
struct Table(BTreeMap<u64, Stands>);

impl Table {
    /// The assignment that is answered.
    fn hear(&mut self, said: Said, newest: u64, now: u64) -> Option<u64> {
        let Said { proxy, id, assignment, fact, asked } = said;
        let begun = asked.filter(|_| !fact).map(|version| (version, now));
        let new = Stands { assignment, fact, returned: false, teller: proxy, proposed: begun };
        let stale = begun.is_some_and(|(version, _)| version < newest);
        let Some(known) = self.0.get(&id).copied() else {
            if !stale {
                self.0.insert(id, new);
            }
            return (!stale).then_some(assignment);
        };
        if let (Some((before, at)), Some((version, _))) = (known.proposed, begun)
            && known.teller == proxy
            && !known.returned
            && now - at <= 1_030
        {
            if stale {
                return None;
            }
            if version > before {
                self.0.insert(id, new);
                return Some(assignment);
            }
        }
        let returned = known.returned || known.teller != proxy;
        let same = known.assignment == assignment;
        let stands = if !same && fact && !known.fact {
            Stands { returned, ..new }
        } else {
            let fact = known.fact || (same && fact);
            Stands { fact, returned, proposed: known.proposed.filter(|_| !fact && asked.is_some()), ..known }
        };
        self.0.insert(id, stands);
        Some(stands.assignment)
    }
}

/// One proxy: what it goes by, how certain it is of it, and what it tells again.
#[derive(Debug, Clone, Default)]
struct Proxy {
    knows: BTreeMap<u64, (u64, bool)>,
    tells_again: BTreeMap<u64, (u64, bool)>,
    read: u64,
}

/// All of it.
struct World<'a> {
    rig: &'a Rig,
    sessions: Sessions,
    published: Published,
    slots: [u64; 2],
    began: UnixSeconds,
    now: u64,
    table: Table,
    saved: (Table, Vec<(String, Vec<u8>)>),
    proxies: Vec<Proxy>,
}

impl<'a> World<'a> {
    fn new(rig: &'a Rig, slots: [u64; 2]) -> Self {
        let sessions = small(rig, SESSIONS_MAX);
        let known = sessions.published(&"chat".parse().unwrap()).unwrap();
        let Published { state, snapshot, keys } = known.as_ref();
        let published = Published { state: state.clone(), snapshot: snapshot.clone(), keys: keys.clone() };
        let began = clock::now().seconds();
        let proxies = vec![Proxy::default(); PROXIES];
        Self {
            rig,
            sessions,
            published,
            slots,
            began,
            now: 0,
            table: Table::default(),
            saved: Default::default(),
            proxies,
        }
    }

    /// The fleet and the table hear the same, and answer the same.
    fn hear(&mut self, said: Said) -> Option<u64> {
        let Said { proxy, id, assignment, fact, asked } = said;
        let certainty = if fact { Certainty::Fact } else { Certainty::Guess };
        let (began, visits) = (self.began, Visits::First);
        let session =
            Remembered { assignment: AssignmentId(assignment), sid: Sid(id), began, seen: began, certainty, visits };
        let member = json!({"id": "edge", "metadata": {"process_id": format!("{proxy:016x}")}});
        let member = MemberId::of(&serde_json::from_value(member).unwrap()).unwrap();
        let epoch = self.published.snapshot.epoch;
        let how = asked.map_or(How::Reported, |version| How::Asked(SnapshotVersion { epoch, version }));
        let word = Word { session, teller: Teller::of(&member, INSTANCE), how };
        let now = UnixMillis(self.began.0 * 1000 + self.now);
        let answer = self.sessions.hear(&self.published, Sid(id), &word, now).map(|session| session.assignment.0);
        assert_eq!(answer, self.table.hear(said, self.published.snapshot.version, self.now), "{said:?}");
        answer
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Request { proxy, id, slot, arrives } => self.request(proxy, id, self.slots[slot], arrives),
            Act::Fact { proxy, id, slot, asks } => {
                // An alias is written only where nothing that holds is known for certain.
                let known = self.proxies[proxy].knows.get(&id).copied();
                if known.is_some_and(|(_, fact)| fact) {
                    return;
                }
                let assignment = self.slots[slot];
                let asked = asks.then_some(self.published.snapshot.version);
                let answer = self.hear(Said { proxy, id, assignment, fact: true, asked });
                let goes_by = if asks { answer.unwrap() } else { assignment };
                self.proxies[proxy].knows.insert(id, (goes_by, true));
                self.proxies[proxy].tells_again.insert(id, (goes_by, true));
            }
            Act::Publish => self.published.snapshot.version += 1,
            Act::Wait => {
                self.now += 700;
                self.correct();
            }
            Act::Flush => {
                self.correct();
                self.saved = (self.table.clone(), self.sessions.ephemera.scan(PREFIX));
                self.proxies.iter_mut().for_each(|proxy| proxy.tells_again.clear());
            }
            Act::Crash => self.crash(),
        }
    }

    /// A request of a session that its proxy may not know. Its question is made under the newest snapshot but one, and so
    /// may have to be made again.
    fn request(&mut self, proxy: usize, id: u64, assignment: u64, arrives: bool) {
        if self.proxies[proxy].knows.contains_key(&id) {
            return;
        }
        let newest = self.published.snapshot.version;
        let ask = |version| Said { proxy, id, assignment, fact: false, asked: Some(version) };
        let answer = self.hear(ask(newest - 1)).or_else(|| self.hear(ask(newest))).filter(|_| arrives);
        // Without an answer it goes by its own, and says so.
        let goes_by = answer.unwrap_or(assignment);
        if answer.is_none() {
            self.hear(Said { asked: None, ..ask(newest) });
        }
        self.proxies[proxy].knows.insert(id, (goes_by, false));
        self.proxies[proxy].tells_again.insert(id, (goes_by, false));
    }

    /// Every proxy reads the corrections that it has not read.
    fn correct(&mut self) {
        let service = &self.published.snapshot.service;
        for proxy in &mut self.proxies {
            loop {
                let page = self.sessions.corrections.after(service, proxy.read);
                let corrected = page.records.sessions().unwrap();
                proxy.read += corrected.len() as u64;
                for (id, stands) in &corrected {
                    let fact = stands.certainty == Certainty::Fact;
                    proxy.knows.entry(id.0).and_modify(|known| *known = (stands.assignment.0, fact));
                    proxy.tells_again.entry(id.0).and_modify(|known| *known = (stands.assignment.0, fact));
                }
                if corrected.is_empty() {
                    break;
                }
            }
        }
    }

    fn crash(&mut self) {
        self.sessions = small(self.rig, SESSIONS_MAX);
        self.sessions.corrections = Arc::new(Corrections::new(self.sessions.corrections.incarnation().clone()));
        let (table, saved) = self.saved.clone();
        saved.into_iter().for_each(|(key, bytes)| self.sessions.ephemera.put(&key, bytes, None));
        self.table = table;
        for proxy in 0..PROXIES {
            self.proxies[proxy].read = 0;
            for (id, (assignment, fact)) in self.proxies[proxy].tells_again.clone() {
                self.hear(Said { proxy, id, assignment, fact, asked: None });
            }
        }
    }
}

/// Kept: whatever proxies propose, know and report, under whatever snapshots, and whenever the sidecar dies, what stands is
/// what the table of the rules says; and once corrections are read, no proxy goes by anything else.
#[tokio::test]
async fn what_stands_is_what_the_table_says() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
    let slots = assignments(&rig).await;
    let mut runner = TestRunner::new(Config::with_cases(2_000));
    let told = runner.run(&acts(), |acts| {
        let mut world = World::new(&rig, slots);
        // Each story has corrections of its own.
        world.sessions.corrections = Arc::new(Corrections::new(world.sessions.corrections.incarnation().clone()));
        acts.iter().for_each(|act| world.act(act));
        world.correct();
        for id in 0..IDS {
            let stands = world.sessions.get(&world.published, Sid(id));
            let found = stands.map(|session| {
                let (fact, returned) = (session.certainty == Certainty::Fact, session.visits == Visits::Returned);
                (session.assignment.0, fact, returned)
            });
            let wanted = world.table.0.get(&id).map(|known| (known.assignment, known.fact, known.returned));
            prop_assert_eq!(found, wanted, "{}", id);
            for proxy in &world.proxies {
                if let Some((goes_by, _)) = proxy.knows.get(&id) {
                    prop_assert_eq!(Some(*goes_by), wanted.map(|(assignment, ..)| assignment), "{}", id);
                }
            }
        }
        Ok(())
    });
    told.unwrap();
}
