//! Sessions that this worker has met of late, so that their next request is not one more look into shared data.
//!
//! What stands there counts, and this is a copy of a few records of it. A copy is good for as long as the process has
//! counted no change since: whoever replaces or forgets a record counts one (see [`super::published`]), in the key that
//! every request reads anyway. So a session that another worker has ended or moved is not met here any more at the next
//! request that begins.

use colorfast_core::ids::Sid;
use colorfast_core::memory::Remembered;

/// Most sessions of one service; 56 bytes each, from the first on.
const ROOM: usize = 4_096;

/// The copies, each at the place that its id hash says: one that comes to it later takes it.
#[derive(Debug, Default)]
pub struct Recent(Vec<Option<Copy>>);

#[derive(Debug, Clone, Copy)]
struct Copy {
    id: Sid,
    session: Remembered,
    /// How many changes the process had counted before it was made.
    changes: u64,
}

impl Recent {
    /// What is remembered under `id`, where there is a copy and the process has counted no more than `changes`.
    pub fn get(&self, id: Sid, changes: u64) -> Option<Remembered> {
        let copy = self.0.get(place(id))?.filter(|copy| copy.id == id && copy.changes == changes)?;
        Some(copy.session)
    }

    /// Keeps a copy of what was read or written after the process had counted `changes`.
    pub fn keep(&mut self, id: Sid, session: Remembered, changes: u64) {
        if self.0.is_empty() {
            self.0.resize(ROOM, None);
        }
        if let Some(at) = self.0.get_mut(place(id)) {
            *at = Some(Copy { id, session, changes });
        }
    }
}

/// By other bits than those that choose a bucket of shared data.
fn place(id: Sid) -> usize {
    (id.0 >> 32) as usize % ROOM
}
