//! What partners know about networks, companies and people: the compacted topic `partners`.
//!
//! * [`key`]: how what a record matches is written.
//! * [`index`]: all records in memory, found by the five ways in which a hit can match.
//! * `store`: where they are kept in little memory; `shapes`: what many of them have in common.
//! * [`topic`]: reading the topic from its beginning, to its end or for ever.
//! * [`follower`]: keeps the index as the topic is.
//! * [`file`]: records from CSV and JSON lines.
//! * [`command`]: `enricher partners import|list|remove`.

pub mod command;
pub mod file;
pub mod follower;
pub mod index;
pub mod key;
mod shapes;
mod store;
pub mod topic;
