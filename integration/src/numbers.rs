//! Numbers that tests are run with: how many of something, chance that is the same each time, and how long things took.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};

/// The number in an environment variable, `otherwise` where it is not set.
///
/// # Errors
/// Where something else than a number is in it.
pub fn from_environment<N>(variable: &str, otherwise: N) -> Result<N>
where
    N: FromStr<Err: Error + Send + Sync + 'static>,
{
    std::env::var(variable).map_or(Ok(otherwise), |text| text.parse()).context(variable.to_owned())
}

/// Chance that comes out the same each time: a number drawn for `number`, the `nth` of several.
#[must_use]
pub fn chance(number: usize, nth: u64) -> usize {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ nth;
    (mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 33) as usize
}

/// How long something took, of several times: the median, the longest, and how many there are.
#[must_use]
pub fn spread(times: impl IntoIterator<Item = Duration>) -> String {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) => format!("{median:?} (median), {longest:?} (longest) of {}", times.len()),
        _ => "never".to_owned(),
    }
}
