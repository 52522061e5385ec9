//! What is found.

use serde::Serialize;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A promise is not kept.
    Problem,
    /// It works, and has a price.
    Note,
}

/// Where in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The listener; none for what concerns the whole proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The filter chain: its name, or its number from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_chain: Option<String>,
    /// The route: `virtual host/name or number from 0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word for it.
    pub check: &'static str,
    /// How much it matters.
    pub level: Level,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to write instead.
    pub instead: String,
}

impl Finding {
    /// A promise that is not kept.
    pub fn problem(
        check: &'static str,
        what: impl Into<String>,
        why: &'static str,
        instead: impl Into<String>,
    ) -> Self {
        let place = Place::default();
        Self { check, level: Level::Problem, place, what: what.into(), why, instead: instead.into() }
    }

    /// What has a price.
    pub fn note(check: &'static str, what: impl Into<String>, why: &'static str, instead: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::problem(check, what, why, instead) }
    }

    /// It is of one route.
    pub fn on_route(mut self, route: String) -> Self {
        self.place.route = Some(route);
        self
    }
}

/// What could not be looked at, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The check.
    pub check: &'static str,
    /// Why.
    pub why: String,
}
