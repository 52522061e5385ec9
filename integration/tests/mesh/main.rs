//! The real control planes: what is shipped is accepted by them, and a release plays through what they generate.

mod callers;
mod contest;
mod docs;
mod flip;
mod image;
mod kubernetes;
mod pods;
mod pushed;
mod registry;
mod remote;
mod shipped;
mod upgrade;
