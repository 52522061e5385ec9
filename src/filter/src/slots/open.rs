//! Streams that are under way, and the sessions that they are of, so that one which lasts is noted now and then. It costs a
//! request one place in a queue, and no host call.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use colorfast_core::ids::Sid;
use colorfast_core::memory::Remembered;
use colorfast_core::time::UnixMillis;

use crate::cell::SharedCell;

/// The queue is cleared of streams that have ended when it is as long as this, and twice as long as it was after the last
/// time.
const ROOM: usize = 64;

/// A stream that is under way.
#[derive(Debug)]
pub struct OpenStream {
    /// The session that it is of, as it was when it began.
    pub session: Remembered,
    /// Under which id memory has the session, or would.
    pub name: Sid,
    stood: Cell<Stood>,
    began: UnixMillis,
    noted: Cell<UnixMillis>,
}

/// Whether memory had the session when it was looked at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stood {
    /// As one that has come back: where it is gone it has ended.
    Surely,
    /// It was not looked at, or might have made way.
    Perhaps,
}

impl OpenStream {
    /// One that begins now.
    pub fn new(session: Remembered, name: Sid, stood: Stood, now: UnixMillis) -> Self {
        Self { session, name, stood: Cell::new(stood), began: now, noted: Cell::new(now) }
    }

    /// Whether memory had the session.
    pub fn stood(&self) -> Stood {
        self.stood.get()
    }

    /// Memory has the session now.
    pub fn stands(&self) {
        self.stood.set(Stood::Surely);
    }

    /// Whether it has been open for so long.
    pub fn has_lasted(&self, millis: u64, now: UnixMillis) -> bool {
        !now.is_within(millis, self.began)
    }
}

/// The open streams of one service, from the one that was noted longest ago.
#[derive(Debug, Default)]
pub struct OpenStreams(SharedCell<Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// With streams that have ended: those are in nobody else's hands.
    streams: VecDeque<Rc<OpenStream>>,
    room: usize,
}

impl OpenStreams {
    /// A stream begins. It ends when it is dropped.
    pub fn begin(&self, stream: OpenStream) -> Option<Rc<OpenStream>> {
        self.0.with(|queue| queue.push(stream))
    }

    /// Those that began, or were noted last, so long ago; each is noted now. At most `most` are looked at.
    pub fn due(&self, most: usize, millis: u64, now: UnixMillis) -> Vec<Rc<OpenStream>> {
        self.0.with(|queue| (0..most).map_while(|_| queue.next(millis, now)).flatten().collect()).unwrap_or_default()
    }
}

impl Queue {
    fn push(&mut self, stream: OpenStream) -> Rc<OpenStream> {
        // Most requests end before the next one begins: it takes their place.
        if let Some(last) = self.streams.back_mut()
            && let Some(ended) = Rc::get_mut(last)
        {
            *ended = stream;
            return Rc::clone(last);
        }
        if self.streams.len() >= self.room {
            self.streams.retain(is_open);
            self.room = (2 * self.streams.len()).max(ROOM);
        }
        let stream = Rc::new(stream);
        self.streams.push_back(Rc::clone(&stream));
        stream
    }

    /// The next one that is due, noted; nothing where it has ended. None where none is due.
    fn next(&mut self, millis: u64, now: UnixMillis) -> Option<Option<Rc<OpenStream>>> {
        let stream = self.streams.pop_front_if(|stream| !now.is_within(millis, stream.noted.get()))?;
        if !is_open(&stream) {
            return Some(None);
        }
        stream.noted.set(now);
        self.streams.push_back(Rc::clone(&stream));
        Some(Some(stream))
    }
}

fn is_open(stream: &Rc<OpenStream>) -> bool {
    Rc::strong_count(stream) > 1
}
