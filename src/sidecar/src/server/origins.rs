//! Where sessions stand in the store, and which session is meant by one that a proxy began under an id that it did not know.
//!
//! An agent hands an id out in a session at one proxy; while nobody asks the fleet, another proxy that meets the id begins a
//! session under it, and hands out further ids in that. None of them is a second session: all lead back to the first.

use colorfast_core::ids::{ServiceName, Sid};
use colorfast_core::memory::{Certainty, RECORD, Record, Remembered, read};

use crate::store::Ephemera;

/// What keys of sessions begin with.
pub const PREFIX: &str = "session/";
/// How far a session is traced back.
const STEPS: usize = 16;

/// Where what is remembered under an id stands.
pub fn key(service: &ServiceName, id: Sid) -> String {
    format!("{PREFIX}{service}/{:016x}", id.0)
}

/// The session that `session` really is: a session is known by the id that it began under, so what stands under that id
/// leads on to the one in which the id was handed out.
pub fn trace(ephemera: &dyn Ephemera, service: &ServiceName, session: Remembered) -> Remembered {
    let mut origin = session;
    for _ in 0..STEPS {
        let before = ephemera.get(&key(service, origin.sid)).and_then(|bytes| {
            let kept: &Record = bytes.get(..RECORD)?.try_into().ok()?;
            Some(read(kept).1)
        });
        match before {
            Some(before)
                if before.sid != origin.sid
                    && before.assignment == session.assignment
                    && before.certainty == Certainty::Fact =>
            {
                origin = before;
            }
            _ => break,
        }
    }
    Remembered { sid: origin.sid, began: origin.began, ..session }
}
