//! Who watches a decision: what every rule said, in the order of the rules. The filter watches nothing, which costs
//! nothing; `why` writes it down.

use crate::decide::{Chosen, Refusal};
use crate::memory::Remembered;
use crate::plan::SlotIndex;
use crate::rendezvous::Key;
use crate::seen::Carrier;
use crate::token::{pin, preview, run};

/// Is told what rules said. A step that needs something tells all it came to before that; the next one tells it anew.
pub trait Observer {
    /// A step begins.
    fn begins(&mut self) {}

    /// An earlier pass of the same request was decided, and that stands.
    fn kept(&mut self, _: Chosen) {}

    /// No key is known, so no token can be read.
    fn unkeyed(&mut self) {}

    /// A preview token, with what it says where its signature is right.
    fn preview(&mut self, _: Option<&preview::Claims>, _: Result<SlotIndex, Refusal>) {}

    /// A run token, likewise; a good one whose bundle no slot runs for it gives no slot.
    fn run(&mut self, _: Option<&run::Claims>, _: Result<Option<SlotIndex>, Refusal>) {}

    /// A pin, likewise.
    fn pin(&mut self, _: Carrier, _: Option<&pin::Claims>, _: Result<SlotIndex, Refusal>) {}

    /// What is remembered of the session.
    fn memory(&mut self, _: &Remembered, _: Result<SlotIndex, Refusal>) {}

    /// Neither a token nor memory decided: the key was placed by weight.
    fn placed(&mut self, _: PlacedBy, _: Key, _: Option<SlotIndex>) {}
}

/// Nobody watches.
impl Observer for () {}

/// What a request is placed by for which neither a token nor memory decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacedBy {
    /// The session id.
    Session,
    /// The id of the run, where the request names no session.
    Run,
    /// The client's trusted address and user agent.
    Client,
    /// Chance.
    Draw,
}
