//! A stream that is open is a session in use: it counts as seen when it begins, while it lasts, and when it ends.

use colorfast_core::ids::{AssignmentId, Sid};
use colorfast_core::keys::SidHasher;
use colorfast_core::memory::{Bucket, Certainty, Remembered, Visits};
use colorfast_core::names::{self, shared};
use colorfast_core::settings::{AskWaitMs, CookieCarrier};
use colorfast_core::sketch::{MARK_BYTES, Sketch};
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::pin::Claims;
use colorfast_core::wire::reports::{Report, SlotReport};

use crate::proxy::{Proxy, Worker};
use crate::releases::{BLUE, GREEN, blue_live, green_live, keys, rolled_back, service, signer, split};
use crate::request::{Request, Sent};
use crate::sidecar;

/// How long a session may be silent.
const IDLE: u64 = 60;
/// After so long it is written down that it was seen, or that its stream is still open.
const QUARTER: u64 = IDLE / 4;
/// Most streams that are noted at one tick.
const STREAMS_MAX: usize = 64;
/// How soon a worker tells that sessions have come or gone, in seconds.
const TELLS_WITHIN: u64 = 3;

/// The header in which the agent says that a session has ended.
const END: &str = "x-agent-session-end";

fn brief(mut snapshot: Snapshot) -> Snapshot {
    snapshot.settings.pin.idle_timeout_seconds = IDLE as u32;
    snapshot.settings.pin.cookie = CookieCarrier::Always;
    snapshot.settings.session_end_header = Some(END.parse().unwrap());
    snapshot
}

/// Time passes, and these workers tick each second.
fn pass<'a>(proxy: &Proxy, seconds: u64, workers: impl IntoIterator<Item = &'a Worker> + Clone) {
    for _ in 0..seconds {
        proxy.wait(1_000);
        workers.clone().into_iter().for_each(Worker::tick);
    }
}

fn sid(id: &str) -> Sid {
    SidHasher::new(&keys(&[1]).sid).sid(id.as_bytes())
}

/// What the process remembers under an id.
fn remembered(proxy: &Proxy, id: Sid) -> Option<Remembered> {
    let bucket = brief(blue_live(1)).settings.memory.buckets().of(id);
    let (bytes, _) = proxy.process.shared_data(&format!("{}{bucket:x}", shared::memory(&service("chat"))))?;
    Bucket::read(bytes).get(id)
}

/// What a client sends again and again, and never renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Echo {
    Id,
    IdAndPin,
    BoundPin,
    FreeCookie,
}

const ECHOES: [Echo; 4] = [Echo::Id, Echo::IdAndPin, Echo::BoundPin, Echo::FreeCookie];

/// A client that began a session by one request.
struct Client {
    request: Request,
    pin: Option<Claims>,
}

impl Client {
    fn begins(worker: &Worker, echo: Echo, id: &str) -> Self {
        let named = if echo == Echo::FreeCookie { Request::new() } else { Request::new().session(id) };
        let sent = worker.send(named.clone());
        let answer = sent.answered(&[]);
        sent.stream.finish().unwrap();
        let pin = answer.text(names::HEADER_PIN).unwrap();
        let request = match echo {
            Echo::Id => named,
            Echo::IdAndPin => named.pin(pin),
            Echo::BoundPin => Request::new().pin(pin),
            Echo::FreeCookie => Request::new().cookie(&format!("agent-pin-chat={pin}")),
        };
        let claims = signer("chat").read(pin.as_bytes()).unwrap().0;
        Self { request, pin: (echo != Echo::Id).then_some(claims) }
    }

    /// It opens a stream, of which nothing ends but by the client.
    fn opens(&self, worker: &Worker) -> Sent {
        let sent = worker.send(self.request.clone());
        let answer = [(":status", "200"), ("content-type", "text/event-stream")];
        sent.stream.response_headers_before_body(answer).unwrap();
        sent
    }

    /// Where it comes back to, and by which rule.
    fn comes_back(&self, worker: &Worker) -> (String, String) {
        let sent = worker.send(self.request.clone());
        let went = (sent.slot().unwrap(), sent.decision().unwrap());
        sent.answered(&[]);
        sent.stream.finish().unwrap();
        went
    }
}

/// Kept: a session whose stream is open for many times the idle timeout, and ends after a switch, comes back to where it
/// was: by its id or by a pin that was never renewed, at either worker, until it has been silent for the idle timeout.
#[test]
fn a_stream_keeps_its_session() {
    for echo in ECHOES {
        for back_at in [0, 1] {
            let proxy = Proxy::chat();
            let workers = proxy.workers::<2>();
            workers[0].tick();
            workers[0].hear(&brief(blue_live(1)));
            let client = Client::begins(&workers[1], echo, "alpha");
            let stream = client.opens(&workers[1]);
            workers[0].hear(&brief(green_live(2)));
            for _ in 0..3 {
                pass(&proxy, IDLE, &workers);
                stream.stream.response_body("data: still here\n\n").unwrap();
            }
            pass(&proxy, QUARTER / 2, &workers);
            stream.stream.finish().unwrap();
            pass(&proxy, IDLE - 1, &workers);
            let went = client.comes_back(&workers[back_at]);
            assert_eq!(went, ("blue".to_owned(), "memory".to_owned()), "{echo:?} at worker {back_at}");
            pass(&proxy, IDLE, &workers);
            assert_eq!(client.comes_back(&workers[back_at]).0, "green", "{echo:?}: it has been silent since");
        }
    }
}

/// Kept: while the stream is open its session has a place at every other request, too: one that comes then goes where the
/// stream went, and its pin is renewed as the kind that it was.
#[test]
fn a_stream_keeps_its_session_while_it_lasts() {
    for echo in ECHOES {
        let proxy = Proxy::chat();
        let worker = proxy.with(&brief(blue_live(1)));
        let client = Client::begins(&worker, echo, "alpha");
        let stream = client.opens(&worker);
        worker.hear(&brief(green_live(2)));
        pass(&proxy, 2 * IDLE, [&worker]);
        let sent = worker.send(client.request.clone());
        assert_eq!(sent.slot().as_deref(), Some("blue"), "{echo:?}");
        if let Some(before) = client.pin {
            let now = UnixSeconds(worker.now().as_secs());
            assert_eq!(sent.pin(), Some(Claims { refreshed: now, ..before }), "{echo:?}");
        }
        drop(stream);
    }
}

/// Reversible: a stream whose session was broken meanwhile brings it back neither while it lasts nor when it ends.
#[test]
fn a_broken_session_stays_broken() {
    for echo in ECHOES {
        let proxy = Proxy::chat();
        let worker = proxy.with(&brief(green_live(1)));
        let client = Client::begins(&worker, echo, "alpha");
        let stream = client.opens(&worker);
        pass(&proxy, 2 * QUARTER, [&worker]);
        worker.hear(&brief(rolled_back(2)));
        let (slot, _) = client.comes_back(&worker);
        assert_eq!(slot, "blue", "{echo:?}");
        let moved = remembered(&proxy, sid("alpha"));
        pass(&proxy, IDLE - 1, [&worker]);
        stream.stream.finish().unwrap();
        assert_eq!(client.comes_back(&worker).0, "blue", "{echo:?}");
        if matches!(echo, Echo::Id | Echo::IdAndPin) {
            let assignment = moved.map(|session| session.assignment);
            assert_eq!(assignment, Some(BLUE), "{echo:?}");
            assert_eq!(remembered(&proxy, sid("alpha")).map(|session| session.assignment), assignment, "{echo:?}");
        }
    }
}

/// Kept: a session that went on elsewhere meanwhile stays there, and one that the agent has ended stays ended; and where
/// somebody else's session has the id by now, that one keeps it.
#[test]
fn a_stream_takes_nothing_back() {
    let proxy = Proxy::chat();
    let [worker, other] = proxy.workers();
    worker.tick();
    worker.hear(&brief(blue_live(1)));
    let client = Client::begins(&worker, Echo::Id, "alpha");
    let stream = client.opens(&worker);
    pass(&proxy, QUARTER, [&worker, &other]);
    worker.hear(&brief(green_live(2)));
    let ends = other.send(client.request.clone());
    assert_eq!(ends.slot().as_deref(), Some("blue"));
    ends.answered(&[(END, "1")]);
    ends.stream.finish().unwrap();
    pass(&proxy, 2 * QUARTER, [&worker, &other]);
    assert_eq!(remembered(&proxy, sid("alpha")), None);
    assert_eq!(client.comes_back(&other), ("green".to_owned(), "hash".to_owned()));
    pass(&proxy, QUARTER + 1, [&worker, &other]);
    stream.stream.finish().unwrap();
    assert_eq!(client.comes_back(&worker), ("green".to_owned(), "memory".to_owned()));
    assert_eq!(remembered(&proxy, sid("alpha")).map(|session| session.assignment), Some(GREEN));
}

/// A session that the agent has ended by the head of an answer is not kept by the rest of it.
#[test]
fn an_answer_that_ends_its_session_keeps_nothing() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&brief(blue_live(1)));
    let request = Request::new().session("alpha");
    let sent = worker.send(request.clone());
    sent.stream.response_headers_before_body([(":status", "200"), (END, "1")]).unwrap();
    pass(&proxy, 2 * QUARTER, [&worker]);
    sent.stream.finish().unwrap();
    assert_eq!(remembered(&proxy, sid("alpha")), None);
    assert_eq!(worker.send(request).decision().as_deref(), Some("hash"));
}

/// The report of a worker that is out, once it has come; it is acknowledged.
fn told(proxy: &Proxy, worker: &Worker) -> Option<Report> {
    pass(proxy, TELLS_WITHIN, [worker]);
    let report = sidecar::reports(worker).pop()?;
    let says = report.says.clone();
    let acknowledged = says.sequence;
    report.answer(200, format!(r#"{{"acknowledged":{acknowledged}}}"#));
    Some(says)
}

fn of_blue(report: &Report) -> Option<&SlotReport> {
    report.slots.iter().find(|seen| seen.slot.as_str() == "blue")
}

fn held(report: &Report) -> u64 {
    of_blue(report).map_or(0, |blue| Sketch::of_text(&blue.held).unwrap().count())
}

/// Accounted: a session is held in each part of its window while its stream is open, though it never came back, and told
/// to the fleet as one that was seen; a last time when it ends, and then no more.
#[test]
fn a_stream_is_held_while_it_lasts() {
    for echo in ECHOES {
        let proxy = Proxy::chat();
        let worker = proxy.with(&brief(blue_live(1)));
        let client = Client::begins(&worker, echo, "alpha");
        let stream = client.opens(&worker);
        told(&proxy, &worker);
        let (mut times, mut seen) = (0, Vec::new());
        for _ in 0..3 * IDLE / QUARTER {
            let reports: Vec<_> = (0..QUARTER / TELLS_WITHIN).filter_map(|_| told(&proxy, &worker)).collect();
            times += u64::from(reports.iter().map(held).sum::<u64>() == 1);
            let sessions = reports.iter().flat_map(|report| &report.sessions);
            seen.extend(sessions.flat_map(|told| told.records.sessions().unwrap()));
        }
        assert_eq!(times, 3 * IDLE / QUARTER, "{echo:?}");
        let name = client.pin.map_or(sid("alpha"), |pin| pin.sid);
        let is_seen = |(id, session): &(Sid, Remembered)| *id == name && session.visits == Visits::Returned;
        assert!(seen.iter().all(is_seen), "{echo:?}: {seen:?}");
        assert_eq!(seen.len() as u64, 3 * IDLE / QUARTER, "{echo:?}");
        pass(&proxy, QUARTER / 2, [&worker]);
        stream.stream.finish().unwrap();
        let last: Vec<_> = (0..2).filter_map(|_| told(&proxy, &worker)).collect();
        assert_eq!(last.iter().map(held).sum::<u64>(), 1, "{echo:?}");
        let after: Vec<_> = (0..2 * IDLE / TELLS_WITHIN).filter_map(|_| told(&proxy, &worker)).collect();
        assert!(after.iter().all(|report| held(report) == 0 && report.sessions.is_empty()), "{echo:?}");
    }
}

/// Cheap: ten thousand open streams cost no host call while they are young, and a bounded number at each tick when they are
/// not; all are noted, and requests that end at once leave nothing behind.
#[test]
fn many_streams_cost_little_at_a_time() {
    const STREAMS: usize = 10_000;
    let proxy = Proxy::chat();
    let worker = proxy.with(&brief(blue_live(1)));
    // How often shared data is read and written at each of so many ticks.
    let ticks = |times: usize| -> Vec<[u64; 2]> {
        let tick = |_| {
            worker.reset_host_calls();
            worker.tick();
            ["proxy_get_shared_data", "proxy_set_shared_data"].map(|call| worker.host_calls_of(call))
        };
        (0..times).map(tick).collect()
    };
    let most = |ticks: &[[u64; 2]]| ticks.iter().map(|[reads, writes]| reads + writes).max().unwrap();
    let client = Client::begins(&worker, Echo::IdAndPin, "alpha");
    let open: Vec<_> = (0..STREAMS).map(|n| worker.send(Request::new().session(format!("stream-{n}")))).collect();
    (0..STREAMS).for_each(|_| drop(client.comes_back(&worker)));
    let quiet = most(&ticks(100));
    proxy.wait(QUARTER * 1_000 - 1);
    let young = most(&ticks(100));
    proxy.wait(1);
    // Behind the streams that are open some stand that have ended.
    let noted = ticks(STREAMS.div_ceil(STREAMS_MAX) + 2);
    let writes: u64 = noted.iter().map(|[_, writes]| writes).sum();
    let after = most(&ticks(100));
    let busiest = most(&noted);
    println!(
        "{STREAMS} streams: {quiet} calls at a tick while they are young, {young} at last, {busiest} when they are due"
    );
    assert!(young <= quiet + 2, "{young}, {quiet}");
    assert!(busiest <= quiet + 2 * STREAMS_MAX as u64, "{busiest}, {quiet}");
    assert!(writes >= STREAMS as u64, "{writes}: each is written down");
    assert!(after <= quiet + 2, "{after}: once in a quarter");
    drop(open);
}

/// Kept: the stream was at another proxy. A pin that is idle is asked after by its sid, with what it says as a fact; the
/// session goes on where the fleet has seen it since, and begins anew where it has not.
#[test]
fn the_fleet_has_seen_the_stream() {
    for known in [true, false] {
        let asking = |mut snapshot: Snapshot| {
            snapshot.settings.memory.ask_wait_ms = AskWaitMs(20);
            snapshot.flush = Some(snapshot.version);
            brief(snapshot)
        };
        let proxy = Proxy::chat();
        let worker = proxy.with(&brief(blue_live(1)));
        let client = Client::begins(&worker, Echo::FreeCookie, "alpha");
        let pin = client.pin.unwrap();
        worker.hear(&asking(green_live(2)));
        pass(&proxy, 2 * IDLE, [&worker]);
        let sent = worker.send(client.request.clone());
        let asked = sidecar::asks(&worker).pop().expect("a question");
        let (id, proposal) = asked.proposal();
        assert_eq!((id, proposal.sid, proposal.certainty), (pin.sid, pin.sid, Certainty::Fact));
        let now = UnixSeconds(worker.now().as_secs());
        let version = asked.says.version_info.parse().unwrap();
        let stands = [(id, Remembered { seen: UnixSeconds(now.0 - 1), ..proposal })];
        asked.say(if known { &stands } else { &[] }, version);
        let (slot, reason) = if known { ("blue", "memory") } else { ("green", "random") };
        assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some(slot), Some(reason)));
        let renewed = Claims { refreshed: now, ..pin };
        assert_eq!(sent.pin() == Some(renewed), known);
    }
}

/// Whether these sessions of blue are told: as held and as issued by marks, and as records.
fn counted(proxy: &Proxy, worker: &Worker) -> (u64, u64, Vec<(Sid, Remembered)>) {
    let report = told(proxy, worker).expect("a report");
    let issued = of_blue(&report).map_or(0, |blue| Sketch::of_text(&blue.issued).unwrap().count());
    let records = report.sessions.iter().flat_map(|told| told.records.sessions().unwrap()).collect();
    (held(&report), issued, records)
}

/// Accounted: a session that began a moment ago by the hash of its id is told by its record alone, and so is its first
/// return: the sidecar counts it. Whoever has a pin, and whoever comes back later, is marked here.
#[test]
fn young_guesses_are_told_by_their_records() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&brief(blue_live(1)));
    told(&proxy, &worker);
    let client = Client::begins(&worker, Echo::Id, "alpha");
    proxy.wait(1_000);
    (0..3).for_each(|_| drop(client.comes_back(&worker)));
    let (held, issued, records) = counted(&proxy, &worker);
    assert_eq!((held, issued), (0, 0));
    let visits: Vec<_> = records.iter().map(|(id, session)| (*id, session.visits)).collect();
    assert_eq!(visits, [(sid("alpha"), Visits::First), (sid("alpha"), Visits::Returned)]);
    client.comes_back(&worker);
    assert_eq!(counted(&proxy, &worker), (1, 0, Vec::new()), "it is no younger than three seconds now");
    Client::begins(&worker, Echo::IdAndPin, "beta").comes_back(&worker);
    let sessionless = worker.send(Request::new());
    sessionless.stream.finish().unwrap();
    let (held, issued, _) = counted(&proxy, &worker);
    assert_eq!((held, issued), (1, 1), "by its pin, and one that has no id");
}

/// Accounted: where so many sessions begin that the fleet cannot be told of each, the others are marked, so that none is
/// none.
#[test]
fn what_cannot_be_told_is_marked() {
    /// Most records that wait to be told.
    const ROOM: usize = 8_192;
    let proxy = Proxy::chat();
    let worker = proxy.with(&brief(blue_live(1)));
    told(&proxy, &worker);
    let begins = |n: usize| worker.send(Request::new().session(format!("session-{n}"))).stream.finish().unwrap();
    (0..ROOM + 10).for_each(begins);
    assert_eq!(proxy.count("memory_untold"), 10);
    let report = told(&proxy, &worker).expect("a report");
    let marks = of_blue(&report).map_or(0, |blue| blue.issued.len() * 3 / 4 / MARK_BYTES);
    assert_eq!(marks, 10);
}

/// Kept: sessions that have come back outlive those that never did: of 200 none makes way for 6,000 ids of one use, with room
/// for 1,024.
#[test]
fn who_came_back_outlives_ids_of_one_use() {
    const SESSIONS: usize = 200;
    let roomy = |mut snapshot: Snapshot| {
        snapshot.settings.memory.sessions = colorfast_core::settings::SessionRoom(1_024);
        snapshot
    };
    let proxy = Proxy::chat();
    let worker = proxy.with(&roomy(split(1, 5_000)));
    let goes = |request: Request| {
        let sent = worker.send(request);
        let went = sent.slot().unwrap();
        let learns = sent.answered(&[]);
        sent.stream.finish().unwrap();
        (went, learns.text(names::HEADER_PIN).map(str::to_owned))
    };
    let id = |n: usize| format!("live-{n}");
    let began: Vec<_> = (0..SESSIONS).map(|n| goes(Request::new().session(id(n))).0).collect();
    (0..SESSIONS).for_each(|n| assert_eq!(goes(Request::new().session(id(n))).0, began[n]));
    proxy.wait(1_000);
    (0..6_000).for_each(|n| drop(goes(Request::new().session(format!("once-{n}")))));
    let pushed_out = proxy.count("memory_evictions");
    assert!(pushed_out > 3_000, "{pushed_out} made way");
    let still = |n: &usize| worker.send(Request::new().session(id(*n))).decision().as_deref() == Some("memory");
    assert_eq!((0..SESSIONS).filter(still).count(), SESSIONS);
}

/// Kept: likewise where a free pin and the id that its agent has handed out come back together.
#[test]
fn a_free_pin_brings_its_session_back() {
    let proxy = Proxy::chat();
    let mut snapshot = brief(blue_live(1));
    snapshot.settings.learn_from = vec![colorfast_core::settings::AnswerSource::Header("x-thread".parse().unwrap())];
    let worker = proxy.with(&snapshot);
    let sent = worker.send(Request::new());
    let pin = sent.answered(&[("x-thread", "alpha")]).text(names::HEADER_PIN).unwrap().to_owned();
    assert_eq!(remembered(&proxy, sid("alpha")).map(|session| session.visits), Some(Visits::First));
    let back = worker.send(Request::new().session("alpha").pin(&pin));
    assert_eq!(back.decision().as_deref(), Some("pin"));
    let known = remembered(&proxy, sid("alpha")).unwrap();
    assert_eq!((known.visits, known.assignment), (Visits::Returned, AssignmentId(BLUE.0)));
}
