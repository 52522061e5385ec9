//! Sessions whose streams last. Nobody writes down that such a session is seen, since no request of it comes: so that is
//! done for its open streams, after a quarter of the idle timeout each, and when they end.

use colorfast_core::decide::{InUse, Reason, in_use};
use colorfast_core::settings::PinSettings;
use colorfast_core::time::UnixMillis;

use super::{Current, Learnt, Service};
use crate::slots::open::{OpenStream, Stood};
use crate::slots::sessions::{Flight, is_young};

/// Most streams that are noted at one tick.
const STREAMS_MAX: usize = 64;
/// How often a session is written down anew after another write to its bucket.
const TRIES: usize = 4;

impl Service {
    /// Notes the streams that have been open for long enough.
    pub fn note_open(&self, current: &Current, now: UnixMillis) {
        let streams = self.open.due(STREAMS_MAX, stale_millis(&current.plan.settings.pin), now);
        streams.iter().for_each(|stream| self.note_stream(stream, current, now));
    }

    /// A request ends that was decided by `settings`. The session of one that has lasted was in use until now.
    pub fn ends(&self, flight: &Flight, settings: &PinSettings, now: UnixMillis) {
        let lasted = flight.stream().filter(|stream| stream.has_lasted(stale_millis(settings), now));
        if let Some(stream) = lasted
            && let Some(current) = self.current()
        {
            self.note_stream(stream, &current, now);
        }
    }

    /// The session of an open stream is in use: it holds its slot, and was seen now.
    fn note_stream(&self, stream: &OpenStream, current: &Current, now: UnixMillis) {
        let (plan, session, seconds) = (&current.plan, &stream.session, now.seconds());
        let ages = &plan.settings.pin;
        // What is broken needs no look.
        if plan.honours(session.assignment).is_none() {
            return;
        }
        let mut place = self.memory.look_up(&plan.settings, stream.name);
        for _ in 0..TRIES {
            let known = place.known();
            if known.is_none() && stream.stood() == Stood::Surely {
                return;
            }
            let (slot, learnt) = match in_use(plan, session, known.as_ref(), seconds) {
                InUse::Over => return,
                InUse::Holds(slot) => (slot, Learnt::Noted),
                InUse::Writes(slot, seen) => match self.remember(&mut place, &seen, ages, seconds) {
                    Ok(learnt) => {
                        stream.stands();
                        (slot, learnt)
                    }
                    // What somebody else has written there is weighed as what stood there before.
                    Err(_) => continue,
                },
            };
            let counts = learnt == Learnt::Lost || !is_young(session, Reason::Memory, now);
            if let Some(watch) = current.watch(slot).filter(|_| counts) {
                watch.counts(session, Reason::Memory, ages, now);
            }
            return;
        }
    }
}

/// How long a stream is open before it is noted, and from then on until it is noted again.
fn stale_millis(settings: &PinSettings) -> u64 {
    settings.stale_seconds().max(1) * 1000
}
