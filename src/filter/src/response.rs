//! The way back of a stream that was decided: [`outcome`] hands out its pin and notes how its slot answered, [`learning`]
//! remembers the ids that the agent hands out.
//!
//! Requests say what is expected of their answers; nothing here knows of requests.

pub mod learning;
pub mod outcome;
pub mod telling;
