//! Measurements of a hit's way, in `benches/`, one file a step. Run them with `make bench`.
//!
//! Nothing here is asserted in tests: on a shared machine times differ by a third from run to run. What holds is the
//! ratio of two measurements of one run, so each step stands beside what it could be done with instead.

pub mod behaviour;
pub mod load;
pub mod traffic;
