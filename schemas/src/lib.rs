//! What travels between the services: records, their wire format, and the topics.
//!
//! * `avro/*.avsc` are the source of truth. A file is never edited once shipped; a change is a new version beside it,
//!   and every version stays readable by every other (`FULL_TRANSITIVE`), which `tests/compatibility.rs` holds.
//! * [`record`] has the Rust types. They borrow their text from the message they were read from, so a stage that
//!   passes a hit on copies nothing it does not change.
//! * [`codec`] writes and reads the current version's Avro body. It is small because the schemas use a small part of
//!   Avro, and it is ours because this is on every hit's way twice per stage.
//! * [`wire`] puts the header before the body and takes it off: Avro single-object encoding, or Confluent's format
//!   when a [`registry`] is configured. A message written with another version is resolved by apache-avro, the slow
//!   and thorough way, into the current one.
//! * [`record_key`] is by what a record of the topic `partners` is known.
//! * [`topics`] is the catalogue from which topics are created and checked.
//!
//! This crate never talks to Kafka and never interprets a hit.

#[macro_use]
mod macros;
pub mod codec;
pub mod record;
pub mod record_key;
pub mod registry;
pub mod topics;
pub mod wire;

pub use codec::{Decode, DecodeError, Encode, Map, Text};
pub use record::*;
pub use record_key::RecordKey;
pub use wire::{Reader, WireError, Writer};
