//! What the requests of one root share while they are decided.

use std::rc::Rc;

use super::body::BodyWaits;
use super::doubled::Doubled;
use super::held::Held;
use crate::sidecar::questions::Questions;
use crate::worker::Worker;

/// What every request of a root goes by.
#[derive(Debug)]
pub struct Common {
    /// The configuration, its services, and the time.
    pub worker: Rc<Worker>,
    /// Questions after sessions.
    pub questions: Questions,
    /// Whether bodies come to requests that wait.
    pub bodies: BodyWaits,
    /// What they hold of bodies together.
    pub held: Held,
    /// Whether the filter stands twice in its chain.
    pub doubled: Doubled,
}
