//! An agent that keeps conversations in memory, so that a session which hops is visibly broken.
//!
//! One agent stands for one bundle. What it answers is chosen by the last segment of the path:
//!
//! | path | answer |
//! | --- | --- |
//! | `…/turn` | one turn of a conversation, see [`Turn`] and [`Reply`] |
//! | `…/stream?events=N` | server-sent events, one at once, the others as [`Agent::release`] lets them go |
//! | `…/open?name=N` | ids of a new conversation: `N-issued` in `mcp-session-id`, `N-header` in `x-conversation`, `N-body` in JSON |
//! | `…/open?name=N&as=events` | the same, but `N-event` in the last of its server-sent events |
//! | `…/respond` | an id of the agent's own making, fresh at every turn, in the JSON body, which comes in pieces |
//! | `…/respond?id=header` | the same, in `x-conversation` before the body; `id=none`: an answer without any |
//! | `…/respond?as=events` | a stream of events, the first of which hands the id out, where it stands in no header |
//! | `…/sign-in?name=N` | who served it, and the cookie `JSESSIONID=N` |
//! | `…/socket` | for an upgrade: whatever is sent comes back, until either side ends it |
//! | `…/held` | the same as any other, but only once [`Agent::release`] lets it go |
//! | `…/public` | an answer that shared caches may keep |
//! | `…/redirect?to=URL` | a 302 |
//! | `…/status?code=N` | that status |
//! | anything else | who served it |
//!
//! Every answer says which slot the agent was asked as, and what baggage it was handed, see [`crate::names`].

mod answers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::names;
use crate::server::serve;

pub use answers::{Reply, Turn};

/// How many of the latest requests an agent remembers in full; the counts go on for ever.
const REMEMBERED: usize = 20_000;

/// A running agent of one bundle.
#[derive(Debug)]
pub struct Agent {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    bundle: String,
    memory: Mutex<Memory>,
    /// Counts the releases; what waits, waits for a higher count than it found.
    releases: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Memory {
    trailers: Vec<String>,
    /// The last turn of each conversation.
    conversations: HashMap<String, u32>,
    stamps: BTreeMap<Stamp, u64>,
    latest: VecDeque<Seen>,
    attested: Option<String>,
    waiting: usize,
    /// How many ids `…/respond` has handed out.
    handed: u64,
}

/// What a request was stamped with, several values of one header joined by commas; empty where there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// `x-agent-slot`
    pub slot: String,
    /// `x-agent-bundle`
    pub bundle: String,
}

/// A request as the agent got it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it came.
    pub at: Instant,
    /// Path and query.
    pub path: String,
    /// The headers that are ours to judge: all of `x-agent-…` (or `x_agent_…`), `cookie`, `baggage` and
    /// `mcp-session-id`. Values are the bytes that came.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    /// The first value of a header, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8_lossy(&found.1).into_owned())
    }
}

impl Agent {
    /// Starts an agent of a bundle on a free port; it speaks HTTP/1.1 and HTTP/2 with prior knowledge.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(bundle: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state =
            Arc::new(State { bundle: bundle.to_owned(), memory: Mutex::default(), releases: watch::Sender::new(0) });
        let memory = Arc::clone(&state);
        let server = tokio::spawn(serve(listener, move |request| answers::answer(Arc::clone(&memory), request)));
        Ok(Self { address, state, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bundle that it runs.
    #[must_use]
    pub fn bundle(&self) -> &str {
        &self.state.bundle
    }

    /// Has the agent say on every answer what it runs (`x-agent-bundle-id`), truthfully or not.
    pub fn attest(&self, bundle: Option<&str>) {
        self.state.memory().attested = bundle.map(str::to_owned);
    }

    /// Lets go what waits at this moment: held answers, and one more event of every stream.
    pub fn release(&self) {
        self.state.releases.send_modify(|count| *count += 1);
    }

    /// How many answers and streams wait for [`Agent::release`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.memory().waiting
    }

    /// How many requests came with which stamp.
    #[must_use]
    pub fn stamps(&self) -> BTreeMap<Stamp, u64> {
        self.state.memory().stamps.clone()
    }

    /// How many requests came in all.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.memory().stamps.values().sum()
    }

    /// The latest requests, oldest first (20,000 at most).
    #[must_use]
    pub fn latest(&self) -> Vec<Seen> {
        self.state.memory().latest.iter().cloned().collect()
    }

    /// The names of all trailers that came behind bodies, other than those of turns.
    #[must_use]
    pub fn trailers(&self) -> Vec<String> {
        self.state.memory().trailers.clone()
    }

    /// Forgets the latest requests and the stamps, not the conversations.
    pub fn forget_requests(&self) {
        let mut memory = self.state.memory();
        memory.latest.clear();
        memory.stamps.clear();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Its connections belong to the server's task and end with it.
        self.server.abort();
    }
}

impl State {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn note(&mut self, request: &Request<Incoming>) -> Stamp {
        let headers = request.headers();
        let stamp = Stamp { slot: joined(headers, names::SLOT), bundle: joined(headers, names::BUNDLE) };
        *self.stamps.entry(stamp.clone()).or_default() += 1;
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        let is_ours = |name: &str| {
            name.replace('_', "-").starts_with("x-agent-") || ["cookie", "baggage", "mcp-session-id"].contains(&name)
        };
        let ours = headers.iter().filter(|(name, _)| is_ours(name.as_str()));
        self.latest.push_back(Seen {
            at: Instant::now(),
            path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            headers: ours.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
        });
        stamp
    }
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect::<Vec<_>>().join(",")
}
