//! `colorfast preview-token`.

use std::time::Duration;

use colorfast_core::ids::{ServiceName, SlotName};
use colorfast_core::time::UnixMillis;

use crate::api::{PreviewToken, PreviewTokenRequest};
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::words;

/// Has a token minted, and says how it is used.
///
/// # Errors
/// As the client's, and where the time is no whole number of seconds.
pub async fn run(
    client: &Client,
    output: &Output,
    service: &ServiceName,
    slot: SlotName,
    ttl: Duration,
) -> Result<Exit, Failure> {
    let seconds = u32::try_from(ttl.as_secs()).ok().filter(|seconds| *seconds > 0 && ttl.subsec_nanos() == 0);
    let seconds = seconds.ok_or_else(|| Failure::usage("--ttl: is no whole number of seconds from 1 on"))?;
    let request = PreviewTokenRequest { slot, ttl_seconds: Some(seconds) };
    let made = client.preview_token(service, &request).await?;
    match output.format {
        Format::Json => output.document(&made)?,
        Format::Text => output.text(&text(&made))?,
    }
    Ok(Exit::Done)
}

fn text(made: &PreviewToken) -> String {
    let PreviewToken { token, header, slot, bundle, expires } = made;
    let ends = words::moment(UnixMillis(expires.0.saturating_mul(1000)));
    let line = words::shell(&format!("{header}: {token}"));
    format!(
        "{}\n\nreaches {slot}, which runs {bundle}, until {ends}. A secret: whoever holds it reaches the slot.\n  \
         curl -H {line} http://127.0.0.1:10000/   (the address of a proxy)\n",
        words::tame(token)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::Fake;
    use serde_json::json;

    /// The token stands alone in its line, so that a script can take the first; the curl line can be pasted.
    #[tokio::test]
    async fn prints_the_token_and_its_use() {
        let answer = json!({"token": "IAAB_x-y", "header": "x-agent-preview", "slot": "green", "bundle": "v2",
            "expires": 1_763_719_200});
        let made: PreviewToken = serde_json::from_value(answer.clone()).unwrap();
        let text = text(&made);
        assert_eq!(text.lines().next(), Some("IAAB_x-y"));
        assert!(text.contains("curl -H 'x-agent-preview: IAAB_x-y' http://"), "{text}");
        assert!(text.contains("runs v2, until 2025-11-21T10:00:00Z"), "{text}");
        assert!(!format!("{made:?}").contains("IAAB"));
        let fake = Fake::start(move |_| (200, answer.clone())).await;
        let (service, slot) = ("chat".parse().unwrap(), || "green".parse().unwrap());
        let output = Output::plain();
        let run = |ttl| run(&fake.client, &output, &service, slot(), ttl);
        assert!(run(Duration::from_millis(1_500)).await.is_err());
        assert_eq!(run(Duration::from_secs(600)).await.unwrap(), Exit::Done);
        let asked = fake.asked();
        assert_eq!(asked[0].line, "POST /v1/services/chat/preview-tokens");
        assert_eq!(asked[0].body, json!({"slot": "green", "ttl_seconds": 600}));
    }
}
