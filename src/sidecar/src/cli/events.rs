//! `colorfast events` and `colorfast verify-log`.

use std::time::Duration;

use colorfast_core::ids::{ServiceName, SlotName};
use colorfast_core::release::{Entry, Event, KeyStep, Left, Restored};

use crate::api;
use crate::cli::args;
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, Paint};
use crate::cli::progress::{PATIENCE, Progress};
use crate::cli::words;

/// Entries of one request; the log of a service has some thousands after years.
const PAGE: u32 = 500;
/// A sidecar that is away is asked again this often.
const RETRY: Duration = Duration::from_millis(500);

/// Shows entries of the log, and goes on with new ones where asked to.
///
/// # Errors
/// As the client's.
pub async fn run(
    client: &Client,
    output: &Output,
    service: Option<&ServiceName>,
    args: &args::Events,
) -> Result<Exit, Failure> {
    let shown = match args.after {
        Some(after) => client.events(service, after, args.limit).await?,
        None => last(client, service, args.limit).await?,
    };
    if output.format == Format::Json && !args.follow {
        output.document(&shown)?;
        return Ok(Exit::Done);
    }
    if shown.entries.is_empty() && !args.follow {
        output.line("no entries")?;
    }
    let mut after = args.after.unwrap_or_default();
    for entry in &shown.entries {
        show(output, entry)?;
        after = entry.seq;
    }
    if args.follow { follow(client, output, service, after).await } else { Ok(Exit::Done) }
}

fn show(output: &Output, entry: &Entry) -> Result<(), Failure> {
    match output.format {
        Format::Json => output.document_line(entry),
        Format::Text => output.line(&line(entry, output.paint)),
    }
}

/// Shows each new entry as it is appended. A follower outlives a restart of the sidecar.
async fn follow(
    client: &Client,
    output: &Output,
    service: Option<&ServiceName>,
    mut after: u64,
) -> Result<Exit, Failure> {
    loop {
        let failure = match client.follow(service, after).await {
            Ok(mut entries) => loop {
                match entries.next::<Entry>().await {
                    Ok(entry) => {
                        show(output, &entry)?;
                        after = entry.seq;
                    }
                    Err(failure) => break failure,
                }
            },
            Err(failure) => failure,
        };
        if failure.exit() != Exit::Outage {
            return Err(failure);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The last `limit` entries.
async fn last(client: &Client, service: Option<&ServiceName>, limit: u32) -> Result<api::Events, Failure> {
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page = client.events(service, after, PAGE).await?;
        let more = page.entries.len() >= size(PAGE);
        entries.extend(page.entries);
        let excess = entries.len().saturating_sub(size(limit));
        entries.drain(..excess);
        if !more {
            return Ok(api::Events { entries, head: page.head });
        }
    }
}

/// One entry on one line.
pub fn line(entry: &Entry, paint: Paint) -> String {
    let service = entry.service.as_ref().map_or("-", ServiceName::as_str);
    format!(
        "{} {} {service} {} {}",
        paint.dim(&format!("{:>5} {}", entry.seq, words::moment(entry.at))),
        words::tame(&entry.principal),
        paint.strong(entry.event.name()),
        told(&entry.event),
    )
    .trim_end()
    .to_owned()
}

/// What an event says beside its name.
fn told(event: &Event) -> String {
    let force = |force: &Option<colorfast_core::release::Force>| {
        force.as_ref().map_or_else(String::new, |force| format!(", forced: {}", words::tame(&force.reason)))
    };
    match event {
        Event::Genesis { epoch, restored: None } => format!("epoch {}", epoch.0.0),
        Event::Genesis { epoch, restored: Some(Restored { from, entry, given }) } => format!(
            "epoch {}, restored from epoch {} as of entry {entry}, assignments up to {given} are given",
            epoch.0.0, from.0.0
        ),
        Event::ServiceCreated { settings, preset, .. } => {
            let preset = preset.as_ref().map_or_else(String::new, |preset| format!(", preset {preset}"));
            format!("slots {}{preset}", list(&settings.slots))
        }
        Event::SettingsApplied { preset, .. } => {
            preset.as_ref().map_or_else(String::new, |preset| format!("preset {preset}"))
        }
        Event::BundleAdded { bundle } => format!("{} {}", bundle.id, bundle.digest),
        Event::Staged { slot, bundle, assignment } => format!("{bundle} in {slot}, assignment {assignment}"),
        Event::Ramped { slot, weight, force: by_force } => format!("{slot} to {weight}{}", force(by_force)),
        Event::Prepared { slot } => format!("proxies for {slot}: they ask the fleet"),
        Event::Settled => "proxies ask the fleet no more".to_owned(),
        Event::Switched { slot, draining, force: by_force, .. } => {
            let drain = match draining.len() {
                0 => String::new(),
                1 => format!(", {} drains", list(draining)),
                _ => format!(", {} drain", list(draining)),
            };
            format!("to {slot}{drain}{}", force(by_force))
        }
        Event::RolledBack { left: all, live, force: by_force, .. } => {
            let all: Vec<_> = all.iter().map(left).collect();
            format!("to {live}, {}{}", all.join(", "), force(by_force))
        }
        Event::Aborted { slot } | Event::Migrated { slot } => left(slot),
        Event::DeadlineSet { slot, until } => {
            let until = until.map_or_else(|| "its sessions end".to_owned(), words::moment);
            format!("{slot} drains until {until}")
        }
        Event::KeyMoved { key, step, force: by_force } => format!("key {key} {}{}", moved(*step), force(by_force)),
        Event::RunKeyMoved { key, step, force: by_force } => {
            format!("key {key} of run tokens {}{}", moved(*step), force(by_force))
        }
        Event::Recycled { slot, force: by_force } => format!("{slot}{}", force(by_force)),
    }
}

fn moved(step: KeyStep) -> &'static str {
    match step {
        KeyStep::Added => "is added",
        KeyStep::Signs => "signs",
        KeyStep::Unused => "signs nowhere any more",
        KeyStep::Retired => "is retired",
    }
}

fn list(slots: &[SlotName]) -> String {
    slots.iter().map(SlotName::as_str).collect::<Vec<_>>().join(", ")
}

fn left(Left { slot, broken_by }: &Left) -> String {
    match broken_by {
        None => format!("{slot} drains"),
        Some(assignment) => format!("{slot} is condemned by assignment {assignment}"),
    }
}

/// Has the log read again, and tells whether it is whole.
///
/// # Errors
/// As the client's, and where the log is damaged.
pub async fn verify(client: &Client, output: &Output) -> Result<Exit, Failure> {
    let reading = "reading the whole log again".to_owned();
    let verification = Progress::after(PATIENCE).during(reading, client.verification()).await?;
    let entries = match verification.entries {
        1 => "1 entry".to_owned(),
        number => format!("{number} entries"),
    };
    let exit = if verification.error.is_none() { Exit::Done } else { Exit::Refused };
    let written = match (output.format, &verification.error) {
        (Format::Json, _) => output.document(&verification),
        (Format::Text, None) => {
            let whole = output.paint.good("the log is whole");
            output.line(&format!("{whole}: {entries}, the last has the hash {}", verification.hash))
        }
        (Format::Text, Some(error)) => {
            let damaged = output.paint.bad("the log is damaged");
            output.line(&format!("{damaged}: {entries} in order, then: {}", words::tame(error)))
        }
    };
    Ok(output.end(exit, written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::Fake;

    fn shown(entry: &str) -> String {
        line(&serde_json::from_str(entry).unwrap(), Paint::Off)
    }

    /// A damaged log ends with 1, also where nobody reads what is wrong with it.
    #[tokio::test]
    async fn damage_is_no_success() {
        use std::io::ErrorKind;
        for (error, exit) in [(None, Exit::Done), (Some("entry 4: another hash"), Exit::Refused)] {
            let answer = serde_json::json!({"entries": 3, "hash": "h", "error": error});
            let fake = Fake::start(move |_| (200, answer.clone())).await;
            let closed = |format| Output::broken(format, ErrorKind::BrokenPipe);
            for output in [Output::plain(), closed(Format::Text), closed(Format::Json)] {
                assert_eq!(verify(&fake.client, &output).await.unwrap(), exit, "{output:?}");
            }
        }
    }

    /// Every event is told in the operator's words.
    #[test]
    fn events_are_told() {
        let head = r#""seq":5,"schema":1,"at":1763719200000,"service":"chat","principal":"local""#;
        let cases = [
            (r#"{"type":"genesis","epoch":1}"#, "genesis epoch 1"),
            (
                r#"{"type":"genesis","epoch":2,"restored":{"from":1,"entry":4,"given":9}}"#,
                "genesis epoch 2, restored from epoch 1 as of entry 4, assignments up to 9 are given",
            ),
            (r#"{"type":"service_created","settings":{},"signing_key":1}"#, "service_created slots blue, green"),
            (r#"{"type":"settings_applied","settings":{}}"#, "settings_applied"),
            (r#"{"type":"staged","slot":"green","bundle":"b1","assignment":9}"#, "staged b1 in green, assignment 9"),
            (r#"{"type":"ramped","slot":"green","weight":250}"#, "ramped green to 2.5%"),
            (
                r#"{"type":"switched","slot":"green","draining":["blue","red"],"quarantine_until":1}"#,
                "switched to green, blue, red drain",
            ),
            (r#"{"type":"prepared","slot":"green"}"#, "prepared proxies for green: they ask the fleet"),
            (r#"{"type":"settled"}"#, "settled proxies ask the fleet no more"),
            (r#"{"type":"switched","slot":"green","draining":[],"quarantine_until":null}"#, "switched to green"),
            (
                r#"{"type":"rolled_back","left":[{"slot":"green","broken_by":10}],"live":"blue","quarantine_until":null}"#,
                "rolled_back to blue, green is condemned by assignment 10",
            ),
            (
                r#"{"type":"switched","slot":"green","draining":["blue"],"quarantine_until":1,"force":{"reason":"we know"}}"#,
                "switched to green, blue drains, forced: we know",
            ),
            (
                r#"{"type":"deadline_set","slot":"blue","until":1763719200000}"#,
                "deadline_set blue drains until 2025-11-21T10:00:00Z",
            ),
            (
                r#"{"type":"deadline_set","slot":"blue","until":null}"#,
                "deadline_set blue drains until its sessions end",
            ),
            (r#"{"type":"key_moved","key":2,"step":"signs"}"#, "key_moved key 2 signs"),
            (
                r#"{"type":"key_moved","key":1,"step":"retired","force":{"reason":"it leaked"}}"#,
                "key_moved key 1 is retired, forced: it leaked",
            ),
            (
                r#"{"type":"run_key_moved","key":1,"step":"unused"}"#,
                "run_key_moved key 1 of run tokens signs nowhere any more",
            ),
            (r#"{"type":"aborted","slot":{"slot":"green"}}"#, "aborted green drains"),
            (
                r#"{"type":"recycled","slot":"blue","force":{"reason":"night\u001b"}}"#,
                "recycled blue, forced: night\\u{1b}",
            ),
        ];
        for (event, wanted) in cases {
            let entry = format!(r#"{{{head},"event":{event}}}"#);
            assert_eq!(shown(&entry), format!("    5 2025-11-21T10:00:00Z local chat {wanted}"));
        }
    }
}
