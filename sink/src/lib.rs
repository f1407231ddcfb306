//! Topic in, ClickHouse out: reads enriched hits as a member of a consumer group and inserts them in batches.
//!
//! In the order in which a hit goes through it:
//!
//! 1. [`consume`]: one thread polls the consumer group. What the group tells (partitions assigned and revoked) it tells
//!    from inside of a poll.
//! 2. [`board`]: the partitions that this sink has, and what of each is on its way. Decides when a partition is paused.
//! 3. [`batch`]: decodes the message and appends the hit to the columns of its partition's open batch ([`hits`], on
//!    [`native`]); cuts the batch by rows, bytes, age and [`month`]. Pure. Batches are built in [`rooms`] that are
//!    used again.
//! 4. [`load`]: takes a batch to its end on a task of its own: dead letters are delivered ([`dead_letters`]), the block is
//!    compressed and inserted ([`clickhouse`], into one of its [`hosts`]), and repeated as the class of a failure says
//!    ([`fault`], [`pace`]).
//! 5. [`ledger`]: says how far the partition's offset may move, and which ranges are on their way. Pure. The board
//!    commits that list before it inserts, so that whoever has the partition next inserts the same ranges under the same
//!    tokens: [`intents`] says why that makes each hit land exactly once, [`window`] for how long.
//!
//! [`outcome`] counts what became of each hit, [`metrics`] has the rest; [`refreshes`] tells whether ClickHouse does what it is to do
//! by itself. [`run`](mod@run) puts the parts together.
//! [`audit`] holds the table against the topic. [`migrate`] brings the database to what this version needs, from the files in `migrations/`; [`statements`] takes them
//! apart, [`engine`] what ClickHouse says of a table's engine. [`deadletters`] is what operators do with `hits.dead`, [`audiences`] what they do with audiences,
//! [`views`] what they do with the tables that views fill.
//!
//! A hit is acknowledged to Kafka once it is in the table or in `hits.dead`, never before. The sink never changes a hit,
//! never looks at what it means, never reads the table it writes, and never gives up a hit for a mistake that is not the
//! hit's.

pub mod audiences;
pub mod audit;
pub mod batch;
pub mod board;
pub mod clickhouse;
pub mod consume;
pub mod dead_letters;
pub mod deadletters;
pub mod engine;
pub mod error;
pub mod fault;
pub mod hits;
pub mod hosts;
pub mod intents;
pub mod ledger;
pub mod load;
pub mod metrics;
pub mod migrate;
pub mod month;
pub mod native;
pub mod options;
pub mod outcome;
pub mod pace;
pub mod privacy;
pub mod refreshes;
pub mod retention;
pub mod rooms;
pub mod run;
pub mod statements;
pub mod store;
pub mod views;
pub mod window;
