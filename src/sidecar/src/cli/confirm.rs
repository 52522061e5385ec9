//! Following a version until every member has obeyed it, and telling who has not.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use colorfast_core::ids::ServiceName;

use crate::api::{Confirmation, MemberProgress, Outcome, Progress};
use crate::cli::client::{Client, Subject};
use crate::cli::error::{Exit, Failure};
use crate::cli::output::Paint;
use crate::cli::progress::Progress as Display;
use crate::cli::words;

/// One request is held so long at most: a change between two requests goes unseen for no longer.
const HOLD: Duration = Duration::from_secs(2);
/// A sidecar that restarts is asked again this often.
const RETRY: Duration = Duration::from_millis(200);
/// Confirmation mostly comes at once; where it does not, somebody wants to know whom it waits for.
const PATIENCE: Duration = Duration::from_millis(300);

/// How the waiting ended.
#[derive(Debug)]
pub struct Followed {
    /// The last that was heard.
    pub confirmation: Confirmation,
    /// The failure that it ended in.
    pub lost: Option<Failure>,
}

/// Follows a confirmation from `first` until it is settled or `deadline` has come. `purpose` says what is waited for.
///
/// An outage does not end it before the deadline: the sidecar keeps versions and members over a restart.
pub async fn follow(
    client: &Client,
    subject: Subject<'_>,
    first: Confirmation,
    deadline: Instant,
    purpose: &str,
) -> Followed {
    let mut display = Display::after(PATIENCE);
    let mut followed = Followed { confirmation: first, lost: None };
    while !followed.confirmation.is_settled() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let asked = client.confirmation(subject, followed.confirmation.version, left.min(HOLD));
        match display.during(progress_line(purpose, &followed), asked).await {
            Ok(confirmation) => followed = Followed { confirmation, lost: None },
            Err(outage) if outage.exit() == Exit::Outage => {
                followed.lost = Some(outage);
                display.during(progress_line(purpose, &followed), tokio::time::sleep(left.min(RETRY))).await;
            }
            Err(refusal) => {
                followed.lost = Some(refusal);
                break;
            }
        }
    }
    followed
}

fn progress_line(purpose: &str, Followed { confirmation, lost }: &Followed) -> String {
    if lost.is_some() {
        return format!("{purpose}: the sidecar is away, asking again");
    }
    let members = &confirmation.members;
    let awaited = |member: &&MemberProgress| member.progress != Progress::Acknowledged;
    let names: Vec<_> = members.iter().filter(awaited).map(|member| words::tame(&member.member)).collect();
    let obeyed = members.len() - names.len();
    format!("{purpose}: {obeyed} of {}, awaiting {}", words::count(members.len(), "member"), names.join(", "))
}

/// How a verb ended, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every member has obeyed.
    Confirmed,
    /// Some member has not.
    Unconfirmed,
    /// There is no member.
    NoMembers,
    /// Nobody waited, and not every member had obeyed at once.
    NotAwaited,
    /// It is in an offline store: who obeys is never known there.
    Stored,
}

impl Ending {
    /// Of a confirmation that was waited for.
    pub fn of(confirmation: &Confirmation) -> Self {
        match confirmation.outcome {
            Outcome::Confirmed => Self::Confirmed,
            Outcome::Pending => Self::Unconfirmed,
            Outcome::NoMembers => Self::NoMembers,
        }
    }

    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unconfirmed => "unconfirmed",
            Self::NoMembers => "no_members",
            Self::NotAwaited => "not_awaited",
            Self::Stored => "stored",
        }
    }

    /// With no member nothing lags behind, so that is no failure; who asked not to wait wants no failure either.
    pub fn exit(self) -> Exit {
        match self {
            Self::Unconfirmed => Exit::Unconfirmed,
            _ => Exit::Done,
        }
    }
}

/// The end of the sentence that a verb begins: who obeyed, and after how long.
pub fn tell(confirmation: &Confirmation, ending: Ending, waited: Duration, paint: Paint) -> String {
    let all = confirmation.members.len();
    let obeyed = confirmation.members.iter().filter(|member| member.progress == Progress::Acknowledged).count();
    let of_all = format!("{obeyed} of {}", words::count(all, "member"));
    match ending {
        Ending::Confirmed => {
            let after = confirmation.confirmed_after_ms.map(|after| format!(" after {}", words::measured(after)));
            paint.good(&format!("{of_all} obeyed{}", after.unwrap_or_default()))
        }
        Ending::NoMembers => paint.warn("applied, unconfirmed (0 members)"),
        Ending::NotAwaited => format!("{of_all} obeyed so far"),
        Ending::Stored => paint.warn("in the store, and at no proxy before it is pushed (`colorfast snapshot render`)"),
        // Nobody waits for refusals to change: the time then says nothing.
        Ending::Unconfirmed if confirmation.is_settled() => {
            paint.bad(&format!("applied, not confirmed: {of_all} obeyed"))
        }
        Ending::Unconfirmed => {
            paint.bad(&format!("applied, not confirmed: {of_all} obeyed within {}", words::limit(waited)))
        }
    }
}

/// A line for each member that has not obeyed, with the reason, and then what to do.
pub fn laggards(confirmation: &Confirmation, paint: Paint) -> String {
    let mut lines = String::new();
    for reason in reasons(confirmation, paint) {
        let _ = writeln!(lines, "  {reason}");
    }
    let next = paint.dim("next:");
    let _ = writeln!(lines, "{next}  colorfast status   (who follows late is shown as current there)");
    for step in forget(confirmation) {
        let _ = writeln!(lines, "{next}  {step}");
    }
    lines
}

/// Each member that has not obeyed, and why.
pub fn reasons(confirmation: &Confirmation, paint: Paint) -> Vec<String> {
    let why = |progress: &Progress| match progress {
        Progress::Acknowledged => None,
        Progress::Lagging => Some(paint.warn("lagging: it was heard since, but decides by an older version")),
        Progress::Silent => Some(paint.bad("silent: it was not heard since")),
        Progress::Refused { error, retried } => {
            let again = if *retried { ", and is asked again" } else { "" };
            Some(paint.bad(&format!("refused it{again}: {}", words::tame(error))))
        }
    };
    let of = |services: &[ServiceName]| match services {
        [] => String::new(),
        all => format!(" ({})", all.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ")),
    };
    let reason = |MemberProgress { member, progress, services }: &MemberProgress| {
        Some(format!("{}{}  {}", words::tame(member), of(services), why(progress)?))
    };
    confirmation.members.iter().filter_map(reason).collect()
}

/// The commands that take silent members out. Whoever was heard is alive: forgotten, it would be a member again at once.
pub fn forget(confirmation: &Confirmation) -> impl Iterator<Item = String> {
    let silent = confirmation.members.iter().filter(|member| member.progress == Progress::Silent);
    silent.flat_map(|MemberProgress { member, services, .. }| {
        let member = words::operand(&words::tame(member));
        let forget = |of: &str| format!("colorfast member forget {of}{member}   (if it is gone for good)");
        match services.as_slice() {
            [] => vec![forget("")],
            all => all.iter().map(|service| forget(&format!("--service {service} "))).collect(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Millis;

    fn confirmation(outcome: Outcome, members: &[(&str, Progress)]) -> Confirmation {
        let progress = |(member, progress): &(&str, Progress)| MemberProgress {
            member: (*member).to_owned(),
            progress: progress.clone(),
            services: Vec::new(),
        };
        let confirmed_after_ms = (outcome == Outcome::Confirmed).then_some(Millis(34_100));
        Confirmation { version: 7, outcome, confirmed_after_ms, members: members.iter().map(progress).collect() }
    }

    fn told(confirmation: &Confirmation) -> String {
        tell(confirmation, Ending::of(confirmation), Duration::from_secs(10), Paint::Off)
    }

    /// A verb says how many obeyed, and after how long.
    #[test]
    fn confirmed_says_after_how_long() {
        let both = [("a/1", Progress::Acknowledged), ("b/2", Progress::Acknowledged)];
        let both = confirmation(Outcome::Confirmed, &both);
        assert_eq!(told(&both), "2 of 2 members obeyed after 34.1 ms");
        assert_eq!(Ending::of(&both).exit(), Exit::Done);
        let one = confirmation(Outcome::Confirmed, &[("a/1", Progress::Acknowledged)]);
        assert_eq!(told(&one), "1 of 1 member obeyed after 34.1 ms");
    }

    /// Laggards, silent members and refusals are each named with the reason, and confirmation is not claimed.
    #[test]
    fn laggards_are_named() {
        let refused = Progress::Refused { error: "settings.pin: unknown\x1b[2J".into(), retried: false };
        let members = [
            ("a/1", Progress::Acknowledged),
            ("b/2", Progress::Lagging),
            ("c/3", Progress::Silent),
            ("d/4", refused.clone()),
        ];
        let pending = confirmation(Outcome::Pending, &members);
        assert_eq!(told(&pending), "applied, not confirmed: 1 of 4 members obeyed within 10 s");
        assert_eq!(Ending::of(&pending).exit(), Exit::Unconfirmed);
        let lines = laggards(&pending, Paint::Off);
        assert_eq!(
            lines.lines().collect::<Vec<_>>(),
            [
                "  b/2  lagging: it was heard since, but decides by an older version",
                "  c/3  silent: it was not heard since",
                "  d/4  refused it: settings.pin: unknown\\u{1b}[2J",
                "next:  colorfast status   (who follows late is shown as current there)",
                "next:  colorfast member forget c/3   (if it is gone for good)",
            ]
        );
        assert!(!pending.is_settled());
        let refused = confirmation(Outcome::Pending, &[("a/1", Progress::Acknowledged), ("d/4", refused)]);
        assert!(refused.is_settled(), "nobody waits for a refusal to change");
        assert_eq!(told(&refused), "applied, not confirmed: 1 of 2 members obeyed");
    }

    /// A node id is a stranger's word: in the command that is to be pasted it stays one argument.
    #[test]
    fn advice_quotes_names() {
        let members = [("x; touch pwned; #/1", Progress::Silent), ("--json/2", Progress::Silent)];
        let steps: Vec<_> = forget(&confirmation(Outcome::Pending, &members)).collect();
        assert_eq!(
            steps,
            [
                "colorfast member forget 'x; touch pwned; #/1'   (if it is gone for good)",
                "colorfast member forget -- --json/2   (if it is gone for good)",
            ]
        );
    }

    /// Who lacks what is of all services is named with those that it lacks it in, and forgotten in each.
    #[test]
    fn laggards_of_all_services_are_named() {
        let (chat, code): (ServiceName, ServiceName) = ("chat".parse().unwrap(), "code".parse().unwrap());
        let of_chat = [("a/1", Progress::Acknowledged), ("b/2", Progress::Silent), ("c/3", Progress::Lagging)];
        let of_code = [("a/1", Progress::Acknowledged), ("b/2", Progress::Silent), ("c/3", Progress::Acknowledged)];
        let [of_chat, of_code] = [of_chat, of_code].map(|members| confirmation(Outcome::Pending, &members));
        let of_none = confirmation(Outcome::NoMembers, &[]);
        let services = [(&chat, of_chat), (&code, of_code.clone())];
        let pending = Confirmation::of_all(7, services);
        assert_eq!(told(&pending), "applied, not confirmed: 1 of 3 members obeyed within 10 s");
        assert_eq!(
            laggards(&pending, Paint::Off).lines().collect::<Vec<_>>(),
            [
                "  b/2 (chat, code)  silent: it was not heard since",
                "  c/3 (chat)  lagging: it was heard since, but decides by an older version",
                "next:  colorfast status   (who follows late is shown as current there)",
                "next:  colorfast member forget --service chat b/2   (if it is gone for good)",
                "next:  colorfast member forget --service code b/2   (if it is gone for good)",
            ]
        );

        let mut later = confirmation(Outcome::Confirmed, &[("a/1", Progress::Acknowledged)]);
        let first = later.clone();
        later.confirmed_after_ms = Some(Millis(50_000));
        let both = [(&chat, later), (&code, first)];
        assert_eq!(told(&Confirmation::of_all(7, both)), "1 of 1 member obeyed after 50.0 ms");
        let some =
            [(&chat, of_none.clone()), (&code, confirmation(Outcome::Confirmed, &[("a/1", Progress::Acknowledged)]))];
        assert_eq!(told(&Confirmation::of_all(7, some)), "1 of 1 member obeyed after 34.1 ms");
        assert_eq!(Confirmation::of_all(7, [(&chat, of_none.clone())]), of_none);
        assert_eq!(Confirmation::of_all(7, []), of_none);
    }

    /// With no member a verb says so, and that is no failure.
    #[test]
    fn no_members_is_said() {
        let nobody = confirmation(Outcome::NoMembers, &[]);
        assert_eq!(told(&nobody), "applied, unconfirmed (0 members)");
        assert_eq!(Ending::of(&nobody).exit(), Exit::Done);
        assert!(nobody.is_settled());
    }
}
