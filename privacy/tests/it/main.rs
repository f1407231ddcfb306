//! The commands on a real Kafka and a real ClickHouse.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, which clippy does not take for tests")]

mod access;
mod requests;
mod resolution;
mod sharing;
mod support;
