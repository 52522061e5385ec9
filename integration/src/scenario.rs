//! Runs the body of one integration test.

use std::future::Future;

use anyhow::Result;

use crate::process;

/// Runs a test's body on a runtime of its own. Where it fails, the logs of the processes that it had started are
/// shown after the error.
///
/// # Panics
/// Where the body answers an error: that is how a test fails.
pub fn scenario(body: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(body));
    let tails = process::take_tails();
    if let Err(error) = outcome {
        panic!("{error:#}\n\n{}", tails.join("\n"));
    }
}
