//! `colorfast status`: slots and members, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use colorfast_core::ids::{ServiceName, SnapshotVersion};
use colorfast_core::release::Phase;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::reports::{Bodies, Chain};
use comfy_table::{Cell, CellAlignment};

use crate::api::{MemberStatus, Recent, ServiceStatus, Serving, SlotStatus};
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, Paint, render};
use crate::cli::words;

/// Shows one service, or all of them.
///
/// # Errors
/// As the client's.
pub async fn run(client: &Client, output: &Output, service: Option<&ServiceName>) -> Result<Exit, Failure> {
    let services = match service {
        Some(service) => vec![client.service(service).await?],
        None => client.services().await?,
    };
    match output.format {
        Format::Json => output.document(&services)?,
        Format::Text if services.is_empty() => {
            output.line("there is no service yet: `colorfast service apply FILE` creates one")?;
        }
        Format::Text => {
            let now = words::now();
            let pages: Vec<_> = services.iter().map(|service| page(service, now, output)).collect();
            output.text(&pages.join("\n"))?;
            if client.is_offline() {
                let note = "an offline store: what slots hold, whether they can serve, and who obeys is not known here";
                output.line(&output.paint.dim(&format!(" {note}")))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// One service: a line that sums it up, its slots, its members.
pub fn page(status: &ServiceStatus, now: UnixMillis, output: &Output) -> String {
    let mut page = format!("{}\n\n", summary(status, output.paint));
    page.push_str(&slots(status, now, output));
    page.push('\n');
    page.push_str(&members(status, now, output));
    page.push_str(&pods(status, output.paint));
    page
}

fn summary(status: &ServiceStatus, paint: Paint) -> String {
    let slot = |phase| status.slots.iter().filter(move |slot| slot.phase == phase);
    let mut parts = Vec::new();
    match slot(Phase::Live).next() {
        Some(live) => {
            let bundle = live.bundle.as_ref().map(|bundle| format!(" with {bundle}"));
            parts.push(format!("{} is live{}", live.slot, bundle.unwrap_or_default()));
        }
        None => parts.push("no slot is live".to_owned()),
    }
    parts.extend(slot(Phase::Candidate).map(|slot| format!("{} takes {}", slot.slot, slot.weight)));
    parts.extend(status.way_back.as_ref().map(|slot| format!("rollback goes to {slot}")));
    let all = status.members.len();
    let current = status.members.iter().filter(|member| member.current).count();
    let members = format!("{current} of {} current", words::count(all, "member"));
    parts.push(match (current == all, all) {
        (_, 0) => paint.warn("no members"),
        (true, _) => paint.good(&members),
        (false, _) => paint.bad(&members),
    });
    let version = paint.dim(&format!("v{}", status.version));
    format!("{} {version}: {}", paint.strong(status.service.as_str()), parts.join(", "))
}

fn slots(status: &ServiceStatus, now: UnixMillis, output: &Output) -> String {
    let mut table = output.table(&[
        "SLOT",
        "PHASE",
        "WEIGHT",
        "BUNDLE",
        "HELD",
        "ISSUED",
        "OPEN",
        "OLDEST",
        "ASSIGNMENT",
        "SINCE",
        "QUARANTINE",
    ]);
    let mut notes = String::new();
    for slot in &status.slots {
        let held = held(slot, now);
        let sessions = slot.sessions;
        let SlotStatus {
            slot, phase, since, weight, bundle, assignment, quarantine_until, drain_until, serving, ..
        } = slot;
        let none = || output.paint.dim("-");
        let number = |number: Option<u64>| {
            Cell::new(number.map_or_else(none, |number| number.to_string())).set_alignment(CellAlignment::Right)
        };
        let oldest = sessions.and_then(|sessions| sessions.oldest);
        let oldest = oldest.map(|began| UnixMillis(began.0.saturating_mul(1000)));
        table.add_row([
            Cell::new(slot),
            Cell::new(output.paint.phase(*phase)),
            Cell::new(if weight.takes_sessions() { weight.to_string() } else { none() })
                .set_alignment(CellAlignment::Right),
            Cell::new(bundle.as_ref().map_or_else(none, ToString::to_string)),
            number(sessions.map(|sessions| sessions.held)),
            number(sessions.map(|sessions| sessions.issued)),
            number(sessions.map(|sessions| sessions.in_flight)),
            Cell::new(oldest.map_or_else(none, |began| words::ago(now, began))),
            Cell::new(assignment.map_or_else(none, |assignment| assignment.to_string())),
            Cell::new(words::ago(now, *since)),
            Cell::new(quarantine_until.and_then(|until| words::left(now, until)).unwrap_or_else(none)),
        ]);
        if let Some(held) = held {
            let _ = writeln!(notes, " {slot} {held}");
        }
        if let Some(left) = drain_until.and_then(|until| words::left(now, until)) {
            let _ = writeln!(notes, " {slot} drains: {left}, then its last sessions leave");
        }
        for trouble in serving.iter().flat_map(|serving| troubles(serving, now)) {
            let _ = writeln!(notes, " {slot} {}", output.paint.bad(&trouble));
        }
    }
    format!("{}{notes}", render(&table))
}

/// Who holds a slot though no request may tell of it.
fn held(slot: &SlotStatus, now: UnixMillis) -> Option<String> {
    let until = slot.runs_until.and_then(|until| words::left(now, until));
    let until = until.map_or_else(String::new, |left| format!(", the last lease: {left}"));
    (slot.runs > 0)
        .then(|| format!("is held by {}{until}", words::count(usize::try_from(slot.runs).unwrap_or(usize::MAX), "run")))
}

/// What is wrong with a slot, as far as proxies have seen.
fn troubles(serving: &Serving, now: UnixMillis) -> Vec<String> {
    let Recent { answered, unavailable } = serving.last_minute;
    let mut troubles = Vec::new();
    if unavailable > 0 {
        let all = answered.saturating_add(unavailable);
        troubles.push(format!("could not be had for {unavailable} of {all} requests in the last minute"));
    }
    if let Some(last) = &serving.last_mismatch {
        let (found, ago) = (words::tame(&last.found), words::ago(now, last.at));
        let (times, all) = (serving.mismatched, serving.mismatched.saturating_add(serving.matched));
        troubles.push(format!("runs {found}, as its agent says: {times} of {all} answers, the last {ago}"));
    }
    troubles
}

fn members(status: &ServiceStatus, now: UnixMillis, output: &Output) -> String {
    if status.members.is_empty() {
        return format!("{}\n", output.paint.dim(" no proxy is a member now"));
    }
    let mut columns = vec!["MEMBER", "STATE", "DECIDES BY", "SEEN", "FILTER"];
    columns.extend(status.pods.as_ref().map(|_| "POD"));
    let mut table = output.table(&columns);
    let mut notes = String::new();
    for member in &status.members {
        let mut row = vec![
            words::tame(&member.member),
            state(member, output.paint),
            decides_by(member, status.epoch),
            words::ago(now, member.last_seen),
            filter(member),
        ];
        row.extend(status.pods.as_ref().map(|_| member.pod.as_deref().map_or_else(|| "-".to_owned(), words::tame)));
        table.add_row(row);
        if member.instances.iter().any(|instance| !instance.keyed) {
            let note = "has no keys (COLORFAST_KEYS): it neither reads nor mints pins, and decides by hash";
            let _ = writeln!(notes, " {} {}", words::tame(&member.member), output.paint.warn(note));
        }
        if member.instances.iter().any(|instance| instance.bodies == Bodies::Held) {
            let note = "cannot read session ids in bodies: set allow_on_headers_stop_iteration: true in its plugin";
            let _ = writeln!(notes, " {} {}", words::tame(&member.member), output.paint.warn(note));
        }
        if member.instances.iter().any(|instance| instance.chain == Chain::Doubled) {
            let note = "has colorfast twice in a filter chain: the first decides; take the other one out";
            let _ = writeln!(notes, " {} {}", words::tame(&member.member), output.paint.warn(note));
        }
    }
    format!("{}{notes}", render(&table))
}

/// What is known of pods beside their members: those that have none, and whether they are watched at all.
fn pods(status: &ServiceStatus, paint: Paint) -> String {
    let Some(pods) = &status.pods else { return String::new() };
    let namespace = words::tame(&pods.namespace);
    if let Some(trouble) = &pods.trouble {
        let note = format!(
            "pods of {namespace} are not watched ({}): a proxy whose pod is deleted lapses by --member-ttl",
            words::tame(trouble)
        );
        return format!(" {}\n", paint.warn(&note));
    }
    let mut text = String::new();
    for pod in pods.pods.iter().filter(|pod| pod.members == 0) {
        let (pod, state) = (words::tame(&pod.pod), words::tame(&pod.state));
        let _ =
            writeln!(text, " {}", paint.warn(&format!("pod {pod} ({state}) has no member: no proxy of it has asked")));
    }
    text
}

fn state(member: &MemberStatus, paint: Paint) -> String {
    match &member.refused {
        Some(refused) => paint.bad(&format!("refused v{}: {}", refused.version, words::tame(&refused.error))),
        None if member.current => paint.good("current"),
        None if member.version_info.is_empty() => paint.warn("starting"),
        None => paint.warn("lagging"),
    }
}

/// The version that a member decides by, in the terms of this log.
fn decides_by(member: &MemberStatus, epoch: UnixMillis) -> String {
    match member.version_info.parse::<SnapshotVersion>() {
        Ok(at) if at.epoch.0 == epoch => format!("v{}", at.version),
        Ok(at) if at.epoch.0 == UnixMillis(0) => "its bootstrap".to_owned(),
        Ok(at) => format!("v{} of another log", at.version),
        Err(_) if member.version_info.is_empty() => "nothing yet".to_owned(),
        Err(_) => words::tame(&member.version_info),
    }
}

fn filter(member: &MemberStatus) -> String {
    let releases: BTreeSet<_> = member.instances.iter().map(|instance| words::tame(&instance.filter_version)).collect();
    match releases.is_empty() {
        true => "-".to_owned(),
        false => Vec::from_iter(releases).join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(members: &str) -> ServiceStatus {
        let document = format!(
            r#"{{"service":"chat","epoch":1763719200000,"version":7,"way_back":"blue","settings":{{}},"members":{members},
            "slots":[
              {{"slot":"blue","phase":"draining","since":1763719380000,"weight":0,"bundle":"2026-10","assignment":1763719200,
                "quarantine_until":1763722980000,"drain_until":1763726640000,"runs":2,"runs_until":1763719500000,
                "sessions":{{"held":12,"issued":3,"in_flight":1,"oldest":1763715840,"until":1763805900000}}}},
              {{"slot":"green","phase":"live","since":1763719380000,"weight":9750,"bundle":"2026-11","assignment":1763719201}},
              {{"slot":"red","phase":"candidate","since":1763719380000,"weight":250,"bundle":"2026-12","assignment":1763719202}},
              {{"slot":"grey","phase":"idle","since":1763719200000,"weight":0}}]}}"#
        );
        serde_json::from_str(&document).unwrap()
    }

    fn shown(members: &str) -> String {
        page(&status(members), UnixMillis(1_763_719_440_000), &Output::plain())
    }

    /// Slots show phase, weight, bundle, what they hold, assignment, since and quarantine, and until when they drain.
    #[test]
    fn shows_slots() {
        let wanted = "\
chat v7: green is live with 2026-11, red takes 2.5%, rollback goes to blue, no members

 SLOT   PHASE      WEIGHT  BUNDLE   HELD  ISSUED  OPEN  OLDEST   ASSIGNMENT  SINCE      QUARANTINE
 blue   draining        -  2026-10    12       3     1  1 h ago  1763719200  1 min ago  59 min left
 green  live        97.5%  2026-11     -       -     -  -        1763719201  1 min ago  -
 red    candidate    2.5%  2026-12     -       -     -  -        1763719202  1 min ago  -
 grey   idle            -  -           -       -     -  -        -           4 min ago  -
 blue is held by 2 runs, the last lease: 1 min left
 blue drains: 2 h left, then its last sessions leave

 no proxy is a member now
";
        assert_eq!(shown("[]"), wanted);
    }

    /// Under the slots stands what is wrong with one, and nothing where all is well.
    #[test]
    fn shows_what_is_wrong_with_slots() {
        let mut status = status("[]");
        let well = Serving {
            answered: 5,
            matched: 5,
            last_minute: Recent { answered: 5, unavailable: 0 },
            ..Default::default()
        };
        status.slots[1].serving = Some(well);
        let now = UnixMillis(1_763_719_440_000);
        assert_eq!(page(&status, now, &Output::plain()), shown("[]"));
        let ill = r#"{"answered":7,"unavailable":2,"matched":3,"mismatched":4,
            "last_mismatch":{"found":"2026-09\u001b","at":1763719430000},"last_minute":{"answered":1,"unavailable":2}}"#;
        status.slots[2].serving = Some(serde_json::from_str(ill).unwrap());
        let wanted = "
 blue drains: 2 h left, then its last sessions leave
 red could not be had for 2 of 3 requests in the last minute
 red runs 2026-09\\u{1b}, as its agent says: 4 of 7 answers, the last 10 s ago

";
        let page = page(&status, now, &Output::plain());
        assert!(page.contains(wanted), "{page}");
    }

    /// Pods that are watched are named beside their members, those without one too; where they cannot be watched it is said.
    #[test]
    fn shows_pods() {
        let mut status = status(
            r#"[{"member":"router~10.0.0.1~gw-1.edge~edge.svc/1","node":"n","process":"p","pod":"gw-1","version_info":"1763719200000.7",
            "current":true,"last_seen":1763719435000,"instances":[]}]"#,
        );
        let pods = serde_json::json!({"namespace": "edge", "pods": [
            {"pod": "gw-1", "state": "ready", "members": 1}, {"pod": "gw-2", "state": "starting", "members": 0}]});
        status.pods = Some(serde_json::from_value(pods).unwrap());
        let shown = |status: &ServiceStatus| page(status, UnixMillis(1_763_719_440_000), &Output::plain());
        let found = shown(&status);
        let lines: Vec<_> = found.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for wanted in [
            "MEMBER STATE DECIDES BY SEEN FILTER POD",
            "router~10.0.0.1~gw-1.edge~edge.svc/1 current v7 5 s ago - gw-1",
            "pod gw-2 (starting) has no member: no proxy of it has asked",
        ] {
            assert!(lines.iter().any(|line| line == wanted), "{found}");
        }
        let trouble = serde_json::json!({"namespace": "edge", "pods": [], "trouble": "pods is forbidden"});
        status.pods = Some(serde_json::from_value(trouble).unwrap());
        let found = shown(&status);
        assert!(
            found.contains("pods of edge are not watched (pods is forbidden)") && found.contains("--member-ttl"),
            "{found}"
        );
    }

    /// Members show whether they are current, lagging, or refused what; their words cannot repaint the terminal.
    #[test]
    fn shows_members() {
        let instance = |keyed| {
            format!(
                r#"{{"instance":"i","filter_version":"0.1.0","version_info":"x","keyed":{keyed},"last_seen":1763719439000}}"#
            )
        };
        let member = |name: &str, version: &str, current: bool, rest: &str| {
            format!(
                r#"{{"member":"{name}","node":"n","process":"p","version_info":"{version}","current":{current},
                "last_seen":1763719435000,"instances":[{}]{rest}}}"#,
                instance(current)
            )
        };
        let members = [
            member("a/1", "1763719200000.7", true, ""),
            member("b/2", "1763719200000.5", false, ""),
            member("c/3", "0.0", false, r#","refused":{"version":7,"error":"settings.pin: \u001bno"}"#),
            member("d/4", "", false, ""),
            member("e/5", "5.9", false, ""),
        ];
        let page = shown(&format!("[{}]", members.join(",")));
        let wanted = "\
 MEMBER  STATE                               DECIDES BY         SEEN     FILTER
 a/1     current                             v7                 5 s ago  0.1.0
 b/2     lagging                             v5                 5 s ago  0.1.0
 c/3     refused v7: settings.pin: \\u{1b}no  its bootstrap      5 s ago  0.1.0
 d/4     starting                            nothing yet        5 s ago  0.1.0
 e/5     lagging                             v9 of another log  5 s ago  0.1.0
 b/2 has no keys";
        assert!(page.contains(wanted), "{page}");
        assert!(page.starts_with("chat v7: ") && page.contains("1 of 5 members current"), "{page}");
    }
}
