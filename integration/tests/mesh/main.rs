//! The real control planes: what is shipped is accepted by them.

mod image;
mod kubernetes;
mod pods;
mod shipped;
