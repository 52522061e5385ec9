//! A line on standard error while something takes its time; only on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes no longer says nothing: a line that only flashes up tells nobody anything.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The line, gone when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    appears: Instant,
}

impl Progress {
    /// A line that appears after `patience`, counted from now.
    pub fn after(patience: Duration) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, appears: Instant::now() + patience }
    }

    /// Says `message` while `task` runs, once it is time to.
    pub async fn during<F: Future>(&mut self, message: String, task: F) -> F::Output {
        self.bar.set_message(message);
        tokio::pin!(task);
        if self.bar.is_hidden() {
            tokio::select! {
                biased;
                done = &mut task => return done,
                () = tokio::time::sleep_until(self.appears.into()) => {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                    self.bar.enable_steady_tick(Duration::from_millis(100));
                }
            }
        }
        task.await
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
