//! What a stream may do, on its way to the agent or back.

/// What a stream may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Goes,
    /// Wait.
    Waits,
    /// Nothing any more: its answer is on the way back.
    Ends,
}
