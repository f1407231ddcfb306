//! The analysts' views on a real ClickHouse, against the ledger of whoever made the traffic up: loaded as the sink loads,
//! with a partition that lags by days, with clients' repeats, and with a day that is replayed under other tokens. Of most
//! hits the sessions are settled; they were settled again after what came late; those of the last day are not settled.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails here has failed")]

mod companies;
mod content;
mod funnels;
mod goals;
mod live;
mod people;
mod scores;
mod sessions;
mod stage;
mod visitors;
