//! The sink without servers: what goes into a block, when a batch is cut, what a fault does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, which clippy does not take for tests")]

mod batching;
mod faults;
mod letters;
mod messages;
mod model;
mod mutated;
mod native;
mod outcomes;
mod taking;
