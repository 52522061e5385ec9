//! Who holds a slot, as far as this VM has seen: sessions that came back, those that were handed out, and requests that
//! are under way. None of it costs a host call.

use std::cell::Cell;
use std::rc::Rc;

use colorfast_core::decide::Reason;
use colorfast_core::memory::Remembered;
use colorfast_core::settings::PinSettings;
use colorfast_core::sketch::{self, Tally};
use colorfast_core::time::{UnixMillis, UnixSeconds};

use super::open::OpenStream;

/// How old a session is, at most, that the sidecar counts by its record.
const YOUNG_SECONDS: u64 = 3;

/// Whether a session began just now and is found by an id. Its record tells the sidecar, which waits whether it comes back at
/// another proxy, or the id was handed out in a session elsewhere, and counts it once.
pub fn is_young(session: &Remembered, reason: Reason, now: UnixMillis) -> bool {
    matches!(reason, Reason::Hash | Reason::Memory) && now.seconds().since(session.began) < YOUNG_SECONDS
}

/// The sessions of one assignment.
#[derive(Debug, Default)]
pub struct Sessions {
    held: Window,
    issued: Window,
    /// When the oldest began that came back in this window.
    oldest: UnixSeconds,
}

/// Sessions of some time. In the next one, those that are still there are told anew.
#[derive(Debug, Default)]
struct Window {
    tally: Tally,
    since: UnixMillis,
}

impl Window {
    /// Begins the next window where this one is over; tells whether it did.
    fn turn(&mut self, seconds: u32, now: UnixMillis) -> bool {
        let over = !now.is_within(sketch::part_millis(seconds), self.since);
        if over {
            self.since = now;
            self.tally.begin_anew();
        }
        over
    }
}

impl Sessions {
    /// Notes a session of which a request comes, and by which rule: one that does not begin with it has come back.
    pub fn note(&mut self, session: &Remembered, reason: Reason, settings: &PinSettings, now: UnixMillis) {
        match reason.begins_a_session() {
            false => {
                if self.held.turn(settings.idle_timeout_seconds, now) || session.began < self.oldest {
                    self.oldest = session.began;
                }
                self.held.tally.note(session.sid);
            }
            true => {
                self.issued.turn(settings.first_return_seconds.0, now);
                self.issued.tally.note(session.sid);
            }
        }
    }

    /// What was told may be lost: it is told again.
    pub fn tell_again(&mut self) {
        self.held.tally.tell_again();
        self.issued.tally.tell_again();
    }

    /// Whether some were not told yet.
    pub fn has_news(&self) -> bool {
        self.held.tally.has_news() || self.issued.tally.has_news()
    }

    /// The marks of those that came back and of those that were handed out, `most` at most, and when the oldest began.
    pub fn take(&mut self, most: &mut usize) -> (Vec<u8>, Vec<u8>, UnixSeconds) {
        let mut take = |window: &mut Window| {
            let marks = window.tally.take(*most);
            *most = most.saturating_sub(marks.len() / sketch::MARK_BYTES);
            marks
        };
        (take(&mut self.held), take(&mut self.issued), self.oldest)
    }
}

/// How many requests a slot has, whatever it ran when they began.
pub type InFlight = Rc<Cell<u32>>;

/// One of them, until its stream is gone.
#[derive(Debug)]
pub struct Flight {
    slot: InFlight,
    stream: Option<Rc<OpenStream>>,
}

impl Flight {
    /// A request begins, as this stream of its session; none where it is nobody's.
    pub fn begin(slot: &InFlight, stream: Option<Rc<OpenStream>>) -> Self {
        slot.set(slot.get().saturating_add(1));
        Self { slot: Rc::clone(slot), stream }
    }

    /// The stream that it is of its session.
    pub fn stream(&self) -> Option<&OpenStream> {
        self.stream.as_deref()
    }

    /// Its session has ended: the stream, should it go on, is nobody's.
    pub fn let_go(&mut self) {
        self.stream = None;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.slot.set(self.slot.get().saturating_sub(1));
    }
}
