//! What people buy this for: visits, people, companies, content, sources and who is here now, on a real ClickHouse, against
//! values worked out by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, which clippy does not take for tests")]

mod companies;
mod consents;
mod contacts;
mod content;
mod keeping;
mod live;
mod once;
mod rebuilding;
mod sessions;
mod settling;
mod sources;
mod states;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../it/support.rs"]
mod support;
