//! The end of the process, told to whoever holds a request open.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether the process is about to end. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Ending(Arc<watch::Sender<bool>>);

impl Ending {
    /// Not yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// The process is about to end: whoever waits should not.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the process is about to end.
    pub async fn begun(&self) {
        // The sender lives in `self`, so the watch cannot close first.
        self.0.subscribe().wait_for(|ending| *ending).await.ok();
    }
}
