//! The sink against a real Kafka and a real ClickHouse.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, which clippy does not take for tests")]

mod audit;
mod deadletters;
mod documentation;
mod encoding;
mod exactly_once;
mod faults;
mod loading;
mod migrations;
mod program;
mod proxy;
mod refreshes;
mod support;
mod views;
