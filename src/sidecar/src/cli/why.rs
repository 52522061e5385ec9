//! `colorfast why`: where a request goes, and what every rule said of it.

mod logged;

use std::io::Read as _;

use colorfast_core::ids::ServiceName;
use colorfast_core::why::{Explanation, HeaderLine, Outcome, Request, RuleSaid, Share, Verdict};
use serde::Serialize;

use self::logged::Logged;
use crate::api::WhyRequest;
use crate::cli::args::Why;
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, Paint};
use crate::cli::words;

/// Longest log line that is read from standard input.
const LINE_MAX: u64 = 1 << 20;

/// What is asked.
#[derive(Debug)]
pub struct Asked {
    request: Request,
    at: Option<u64>,
    logged: Option<Logged>,
}

/// The answer as a document.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    /// What the log says, and how that compares.
    #[serde(skip_serializing_if = "Option::is_none")]
    logged: Option<Comparison>,
}

/// A logged decision beside the one that was computed.
#[derive(Debug, Serialize)]
struct Comparison {
    decided: Option<String>,
    says: Vec<String>,
}

impl Asked {
    /// Reads what the command line, or the line of a log, asks.
    ///
    /// # Errors
    /// Where the line of the log is none.
    pub fn read(args: Why) -> Result<Self, Failure> {
        let Why { session, pin, header, method, path, host, client_address, from_log, at } = args;
        let Some(line) = from_log else {
            let request = Request { session, pins: pin, method, path, host, headers: header, client_address };
            return Ok(Self { request, at, logged: None });
        };
        let logged = Logged::parse(&if line == "-" { first_line()? } else { line })?;
        Ok(Self { request: logged.request(client_address), at, logged: Some(logged) })
    }

    /// The service that the log names.
    pub fn service(&self) -> Option<&ServiceName> {
        self.logged.as_ref()?.decided.as_ref().map(|decided| &decided.service)
    }
}

/// Reads a header line as clients write it.
pub fn header(line: &str) -> Result<HeaderLine, String> {
    let (name, value) = line
        .split_once(':')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or_else(|| format!("{line:?} is not a header line as in 'x-agent-session: a1'"))?;
    Ok(HeaderLine { name: name.trim().to_owned(), value: value.trim().to_owned() })
}

fn first_line() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(LINE_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.map(str::to_owned).ok_or_else(|| Failure::usage("standard input has no line"))
}

/// Asks, and shows the answer.
///
/// # Errors
/// As the client's.
pub async fn run(client: &Client, output: &Output, service: &ServiceName, asked: Asked) -> Result<Exit, Failure> {
    let Asked { request, at, logged } = asked;
    let mut version = at;
    let mut other_log = None;
    if let (None, Some(decided)) = (at, logged.as_ref().and_then(|logged| logged.decided.as_ref())) {
        let epoch = client.service(service).await?.epoch;
        match decided.version.epoch.0 == epoch {
            true => version = Some(decided.version.version),
            false => other_log = Some(logged::other_log(&decided.version)),
        }
    }
    let time = logged.as_ref().map(|logged| logged.time);
    let explanation = client.why(service, &WhyRequest { request, version, at: time }).await?;
    let compared = logged.map(|logged| Comparison {
        says: other_log.into_iter().chain(logged.compare(&explanation)).collect(),
        decided: logged.decided.map(|decided| decided.to_string()),
    });
    match output.format {
        Format::Json => output.document(&Answer { explanation: &explanation, logged: compared })?,
        Format::Text => output.text(&text(&explanation, compared.as_ref(), output.paint))?,
    }
    Ok(Exit::Done)
}

fn text(explanation: &Explanation, compared: Option<&Comparison>, paint: Paint) -> String {
    let Explanation { service, version, at, outcome, rules, notes } = explanation;
    let mut text = format!("{service} at {version}, {}\n", words::moment(*at));
    text.push_str(&format!("goes to {}\n\n", paint.strong(&goes_to(outcome))));
    for RuleSaid { rule, verdict, said } in rules {
        let mark = match verdict {
            Verdict::Applied => paint.good("yes"),
            Verdict::DidNotApply => "no ".to_owned(),
            Verdict::NotAsked => paint.dim("-  "),
        };
        text.push_str(&format!("  {rule:<8} {mark}  {}\n", words::tame(said)));
    }
    let logged = compared.map(|compared| compared.says.as_slice()).unwrap_or_default();
    for (title, lines) in [("log", logged), ("note", notes.as_slice())] {
        let lines = lines.iter().enumerate();
        for (index, line) in lines {
            let gap = if index == 0 { "\n" } else { "" };
            text.push_str(&format!("{gap}{title}: {}\n", words::tame(line)));
        }
    }
    text
}

fn goes_to(outcome: &Outcome) -> String {
    let runs = |bundle: &Option<_>| bundle.as_ref().map_or("nothing".to_owned(), ToString::to_string);
    match outcome {
        Outcome::Slot { slot, bundle, reason } => format!("{slot}, which runs {}, by {reason}", runs(bundle)),
        Outcome::Chance { shares, reason } => {
            let share = |Share { slot, bundle, weight }: &Share| format!("{slot} (runs {}, {weight})", runs(bundle));
            format!("{}, by {reason}", shares.iter().map(share).collect::<Vec<_>>().join(" or "))
        }
        Outcome::Gone => "nobody: the client is answered 409, since the bundle of its session is gone".to_owned(),
        Outcome::Ended => "nobody: the client is answered 404, since its session has ended".to_owned(),
        Outcome::Unrouted => "the default route, without a stamp: no slot is live".to_owned(),
    }
}

#[cfg(test)]
mod tests;
