//! A line of the access log as `envoy/bootstrap.yaml` writes it, and how a decision compares with it.

use colorfast_core::decide::Reason;
use colorfast_core::decided::Decided;
use colorfast_core::ids::SnapshotVersion;
use colorfast_core::time::UnixMillis;
use colorfast_core::why::{Explanation, Outcome, Request};
use serde::Deserialize;

use crate::cli::error::Failure;

/// What a line says of the decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// When the request began.
    pub time: UnixMillis,
    /// What was decided; none where nothing was.
    pub decided: Option<Decided>,
    session: Option<String>,
    method: Option<String>,
    authority: Option<String>,
    path: Option<String>,
}

/// The fields that matter here; the others are left alone.
#[derive(Deserialize)]
struct Line {
    time: String,
    #[serde(default)]
    decided: Option<String>,
    #[serde(default, rename = "gen_ai.conversation.id")]
    session: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    authority: Option<String>,
    #[serde(default)]
    path: Option<String>,
}

impl Logged {
    /// Reads a line.
    ///
    /// # Errors
    /// Says what is wrong with it, and what would be right.
    pub fn parse(line: &str) -> Result<Self, Failure> {
        let wrong = |what: String| {
            Failure::usage(format!("--from-log: {what}"))
                .next("a JSON line of the access log, with the fields that envoy/bootstrap.yaml writes")
        };
        let line: Line =
            serde_json::from_str(line.trim()).map_err(|error| wrong(format!("is no such line: {error}")))?;
        let time: jiff::Timestamp = line.time.parse().map_err(|error| wrong(format!("time: {error}")))?;
        let time = UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or_default());
        // Envoy writes null, or a dash, where there is no value.
        let known = |value: Option<String>| value.filter(|value| value != "-");
        let decided = known(line.decided).map(|text| text.parse()).transpose();
        let decided = decided.map_err(|error| wrong(format!("decided: {error}")))?;
        let (session, method) = (known(line.session), known(line.method));
        Ok(Self { time, decided, session, method, authority: known(line.authority), path: known(line.path) })
    }

    /// The request as far as the log knows it.
    pub fn request(&self, client_address: Option<String>) -> Request {
        Request {
            session: self.session.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            host: self.authority.clone(),
            client_address,
            ..Request::default()
        }
    }

    /// How what was computed compares with what was logged, in sentences.
    pub fn compare(&self, explained: &Explanation) -> Vec<String> {
        let Some(logged) = &self.decided else {
            return vec![match explained.outcome {
                Outcome::Unrouted => "as logged: nothing was decided".to_owned(),
                _ => {
                    "nothing was decided then: no service of its listener took the request, no slot was live there, or \
                      it ended before the filter"
                        .to_owned()
                }
            }];
        };
        let mut says = vec![format!("logged: {}, which ran {}, by {}", logged.slot, logged.bundle, logged.reason)];
        says.push(match (&explained.outcome, logged.reason) {
            (_, Reason::Pin) => {
                "it was decided by a pin, and pins stand in no log: above is where the request goes without one".to_owned()
            }
            (_, Reason::Memory) => "it was decided by what the proxy remembered of the session, which stands in no log: above \
                                    is where a proxy sends it that does not remember it"
                .to_owned(),
            (_, Reason::Preview | Reason::Run) => format!(
                "it was decided by a {} token, which stands in no log: above is where the request goes without one",
                logged.reason
            ),
            (Outcome::Slot { slot, bundle, reason }, _)
                if *slot == logged.slot && bundle.as_ref() == Some(&logged.bundle) && *reason == logged.reason =>
            {
                "as computed".to_owned()
            }
            (Outcome::Chance { shares, reason }, _)
                if *reason == logged.reason && shares.iter().any(|share| share.slot == logged.slot) =>
            {
                "as computed: chance chose that one of the slots above".to_owned()
            }
            (Outcome::Chance { .. } | Outcome::Slot { reason: Reason::Random, .. }, Reason::Hash) => {
                "it was placed by a session id that is not in the log: the log has one source of ids alone, and a run or \
                 another source may have named it"
                    .to_owned()
            }
            _ if explained.version != logged.version.to_string() => format!(
                "the difference is the version: it was decided by {}, and above by {}",
                logged.version, explained.version
            ),
            _ => "it differs, though the version is the same: the request had more to go by than the log shows, or passed \
                  an internal redirect"
                .to_owned(),
        });
        says
    }
}

/// What is said where a line was logged under another log of events.
pub fn other_log(version: &SnapshotVersion) -> String {
    format!(
        "it was decided by {version}, which is of another log than the service has now; above by the newest version"
    )
}
