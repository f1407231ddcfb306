//! What people had erased is gone, stays gone and touches nobody else: on a real Kafka and a real ClickHouse.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, which clippy does not take for tests")]

mod erasing;
mod loading;
mod noting;
#[path = "../behaviour/once.rs"]
mod once;
mod people;
mod rebuilding;
mod retention;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../it/support.rs"]
mod support;
