//! One try to settle a request: all that its steps go by, and that none of them changes.

use std::rc::Rc;

use colorfast_core::plan::Plan;
use colorfast_core::time::UnixMillis;

use super::common::Common;
use super::read::Observed;
use crate::service::{Current, Service};

/// What a try goes by.
#[derive(Debug)]
pub struct Case<'a> {
    /// What all requests go by.
    pub common: &'a Common,
    /// The service that has the request.
    pub service: &'a Rc<Service>,
    /// Its newest plan.
    pub current: &'a Rc<Current>,
    /// What the request shows by that plan.
    pub observed: &'a Observed<'a>,
    /// The time of the decision.
    pub now: UnixMillis,
}

impl<'a> Case<'a> {
    /// The plan to decide by.
    pub fn plan(&self) -> &'a Plan {
        &self.current.plan
    }
}
