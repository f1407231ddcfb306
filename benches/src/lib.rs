//! Measurements of a hit's way, in `benches/`, one file a step. Run them with `make bench`.
//!
//! No time is asserted in tests: on a shared machine times differ by a third from run to run. What holds is the ratio of
//! two measurements of one run, so each step stands beside what it could be done with instead.
//!
//! * [`load`]: HTTP requests at a given rate, for the collector.
//! * [`traffic`]: hits as the enricher writes them, with a ledger of what really happened.
//! * [`behaviour`]: that traffic in ClickHouse. `tests/behaviour` holds the analysts' views against the ledger.
//! * [`results`]: the results of record, to which each program adds its part.

pub mod behaviour;
pub mod load;
pub mod results;
pub mod traffic;
