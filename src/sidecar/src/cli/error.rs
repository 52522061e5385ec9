//! How a command ends: exit codes, and what is said where it failed.

use std::fmt::Display;
use std::process::ExitCode;

use crate::api::{PROBLEM_PREFIX, Problem, problem_code};

/// Exit codes. Clap's usage errors end with 2 as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, and confirmed where there is something to confirm.
    Done = 0,
    /// The sidecar refused; nothing has changed.
    Refused = 1,
    /// An argument or a file is wrong; nothing was asked for.
    Usage = 2,
    /// The sidecar cannot be reached, or fails.
    Outage = 3,
    /// Applied, but not every member has obeyed.
    Unconfirmed = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// Something to say.
    Told(Box<Told>),
    /// Whoever read standard output has gone: no failure, but an end.
    OutputClosed,
}

/// What is said about a failure.
#[derive(Debug)]
pub struct Told {
    /// The exit code.
    pub exit: Exit,
    /// What was wrong, in the form that the API gives it.
    pub problem: Problem,
    /// Commands, or what else to do next.
    pub next: Vec<String>,
    /// Whether what was asked may have been done all the same.
    pub doubt: Doubt,
}

/// Whether a request that failed may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It was not.
    None,
    /// It was sent, and its answer did not come.
    Unanswered,
}

impl Failure {
    /// An argument or a file is wrong.
    pub fn usage(detail: impl Display) -> Self {
        Self::local(Exit::Usage, "usage", "Wrong use", 400, detail)
    }

    /// The sidecar cannot be reached, or fails.
    pub fn outage(detail: impl Display) -> Self {
        Self::local(Exit::Outage, problem_code::OUTAGE, "The sidecar is away", 503, detail)
    }

    /// `colorfast serve` cannot start or go on.
    pub fn cannot_run(detail: impl Display) -> Self {
        Self::local(Exit::Outage, "cannot-run", "The sidecar cannot run", 503, detail)
    }

    /// What is there does not allow it.
    pub fn refused(code: &str, detail: impl Display) -> Self {
        Self::local(Exit::Refused, code, "Not as things are", 409, detail)
    }

    /// Something that was named does not exist.
    pub fn not_found(detail: impl Display) -> Self {
        Self::local(Exit::Refused, problem_code::NOT_FOUND, "Not found", 404, detail)
    }

    /// What the sidecar answered.
    pub fn answered(problem: Problem) -> Self {
        let exit = if problem.status >= 500 { Exit::Outage } else { Exit::Refused };
        let next = next_steps(&problem);
        Self::Told(Box::new(Told { exit, problem, next, doubt: Doubt::None }))
    }

    fn local(exit: Exit, code: &str, title: &str, status: u16, detail: impl Display) -> Self {
        let problem = Problem {
            kind: format!("{PROBLEM_PREFIX}{code}"),
            title: title.to_owned(),
            status,
            detail: detail.to_string(),
            field: None,
            current_version: None,
            changes: Vec::new(),
            awaited_version: None,
            members: Vec::new(),
            retry_after_seconds: None,
        };
        Self::Told(Box::new(Told { exit, problem, next: Vec::new(), doubt: Doubt::None }))
    }

    /// Adds what to do next.
    pub fn next(mut self, step: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.next.push(step.into());
        }
        self
    }

    /// It was asked, and its answer did not come.
    pub fn unanswered(mut self) -> Self {
        if let Self::Told(told) = &mut self {
            told.doubt = Doubt::Unanswered;
        }
        self
    }

    /// Whether what was asked may have been done all the same.
    pub fn doubt(&self) -> Doubt {
        match self {
            Self::Told(told) => told.doubt,
            Self::OutputClosed => Doubt::None,
        }
    }

    /// Names the field that breaks a rule.
    pub fn at_field(mut self, field: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.problem.field = Some(field.into());
        }
        self
    }

    /// Says more about what was wrong, on a line of its own.
    pub fn because(mut self, line: &str) -> Self {
        if let Self::Told(told) = &mut self {
            told.problem.detail.push('\n');
            told.problem.detail.push_str(line);
        }
        self
    }

    /// How the command ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Told(told) => told.exit,
            Self::OutputClosed => Exit::Done,
        }
    }

    /// The stable word of what was wrong; empty where nothing is to be said.
    pub fn code(&self) -> &str {
        match self {
            Self::Told(told) => code(&told.problem),
            Self::OutputClosed => "",
        }
    }

    /// The version that members must acknowledge before the same verb can be carried out.
    pub fn awaited_version(&self) -> Option<u64> {
        match self {
            Self::Told(told) if code(&told.problem) == "not-introduced" => told.problem.awaited_version,
            _ => None,
        }
    }
}

/// The stable word of a problem.
pub fn code(problem: &Problem) -> &str {
    problem.kind.strip_prefix(PROBLEM_PREFIX).unwrap_or_default()
}

/// What helps, by the kind of problem, where its detail does not say so already.
fn next_steps(problem: &Problem) -> Vec<String> {
    let step = match code(problem) {
        problem_code::STALE => {
            let again = problem.current_version.map(|version| format!(", then again with --expect-version {version}"));
            format!("colorfast status{}", again.unwrap_or_default())
        }
        problem_code::FORBIDDEN => "colorfast token create NAME --role ROLE   (by an admin)".to_owned(),
        problem_code::TOKEN_EXISTS => "colorfast token list".to_owned(),
        "wrong-phase" | "no-slot" | "already-live" | "weight-over-all" | "slot-in-use" | "not-found"
        | "not-introduced" => "colorfast status".to_owned(),
        "way-back-gone" | "no-way-back" => "colorfast status, then colorfast rollback --to SLOT".to_owned(),
        "no-bundle" | "bundle-exists" => "colorfast bundle list".to_owned(),
        "runs-hold" => "colorfast run list, or colorfast recycle SLOT --force --reason TEXT".to_owned(),
        "quarantine" | "not-accounted" | "slot-held" => "colorfast recycle SLOT --force --reason TEXT".to_owned(),
        "rotation-under-way" | "ring-full" | "no-key" | "key-signs" => "colorfast keys list".to_owned(),
        "key-in-use" => "colorfast keys retire KEY --force --reason TEXT".to_owned(),
        _ => return Vec::new(),
    };
    vec![step]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &str, status: u16) -> Problem {
        let mut problem = serde_json::json!({"type": format!("{PROBLEM_PREFIX}{code}"), "title": "t", "detail": "d"});
        problem["status"] = status.into();
        serde_json::from_value(problem).unwrap()
    }

    /// Refusals end with 1, outages with 3, wrong use with 2.
    #[test]
    fn exit_codes() {
        for (status, exit) in [(400, Exit::Refused), (401, Exit::Refused), (409, Exit::Refused), (503, Exit::Outage)] {
            assert_eq!(Failure::answered(problem("x", status)).exit(), exit);
        }
        assert_eq!(Failure::usage("x").exit(), Exit::Usage);
        assert_eq!(Failure::outage("x").exit(), Exit::Outage);
        assert_eq!(Failure::OutputClosed.exit(), Exit::Done);
    }

    /// A refusal says which command comes next.
    #[test]
    fn refusals_name_the_next_command() {
        let mut stale = problem("stale-version", 409);
        stale.current_version = Some(7);
        assert_eq!(next_steps(&stale), ["colorfast status, then again with --expect-version 7"]);
        let mut early = problem("not-introduced", 409);
        (early.awaited_version, early.members) = (Some(5), vec!["a/1".into()]);
        assert_eq!(next_steps(&early), ["colorfast status"], "who is slow is not gone");
        assert_eq!(Failure::answered(early).awaited_version(), Some(5));
    }
}
