//! Waiting on conditions, never on the clock alone: every wait has a deadline, and says what it waited for.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// What most waits are given: long enough for a busy machine, short enough that a hung test is noticed.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The first pause between two looks; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// An error that ends a wait at once, because waiting longer cannot help (the process is gone, say).
#[derive(Debug)]
pub struct Never(pub String);

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Never {}

/// Waits until `probe` answers `Ok` and hands that on. An `Err` means "not yet" and is kept for the message,
/// unless it is a [`Never`].
///
/// # Errors
/// After `limit`: names what was waited for, how long, and the last reason why not.
pub async fn until_ok<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let why = match probe().await {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        if why.is::<Never>() {
            return Err(why.context(format!("gave up waiting for {what}")));
        }
        if start.elapsed() >= limit {
            return Err(anyhow!("waited {limit:?} in vain for {what}; the last look said: {why:#}"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits until `holds` answers true. Where there is a reason to tell, use [`until_ok`].
///
/// # Errors
/// After `limit`: names what was waited for.
pub async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    until_ok(what, limit, || {
        let seen = holds();
        async move { if seen { Ok(()) } else { Err(anyhow!("it does not hold")) } }
    })
    .await
}
