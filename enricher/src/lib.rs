//! Topic in, topic out: adds what the networks, registries and partners know about a hit.
//!
//! A hit's way through this crate, in order:
//!
//! 1. [`pipeline`]: a worker, which is a thread with a consumer and a producer of its own, reads messages of `hits.raw`
//!    and gathers them into batches. Batches are cut by hits, bytes or time.
//! 2. [`hit`]: a message is decoded without copying; what can't be decoded becomes a dead letter with its reason.
//!    [`privacy`] tells whether the person it is about wants it kept: it goes, or goes on under no or another id.
//! 3. [`data`]: the hit's address and user agent are looked up, mostly in caches.
//! 4. [`enrichments`]: an ordered list of steps fills the fields of the enriched hit. The last one cuts the address as
//!    the site wishes. Problems are noted on the hit and never stop it.
//! 5. [`pipeline`] again: the enriched hit goes to `hits.enriched` under the same key, in a transaction with the rest of
//!    its batch, the dead letters and the offsets of all of them.
//!
//! Beside it, [`partners`] follows the topic `partners` into an index in memory, and keeps the commands that fill it;
//! [`run`] starts all of it and watches the files that may change.
//!
//! It never drops a hit but a client's repetition of one that it has enriched, or what a person had erased, never writes one twice, never keeps state
//! that can't be rebuilt from topics and files, and never lets a full address pass whose site wants less.

mod client_errors;
pub mod data;
pub mod enrichments;
mod firsts;
pub mod hit;
pub mod metrics;
pub mod options;
pub mod partners;
pub mod pipeline;
pub mod privacy;
#[cfg(test)]
mod processor_time;
mod start;

pub use start::{EnricherError, Running, run, start};
