//! What analysts ask beyond visits and pages, on a real ClickHouse, against values worked out by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, which clippy does not take for tests")]

mod arrival;
mod audiences;
mod dictionary;
mod funnels;
mod interests;
mod lead_scores;
mod people;
mod quality;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../it/support.rs"]
mod support;
