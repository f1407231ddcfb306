//! What people asked of us about the data on them, as every stage carries it out.
//!
//! A request is a `PrivacyDirective` on the compacted topic `privacy`. It names a person by a keyed hash only: whoever reads
//! the topic without the keys learns nobody's name, and whoever has them must have an identifier already to find it there.
//!
//! * [`keys`]: the keys, from a file; and what is hashed.
//! * [`directives`]: all directives in memory, and what they mean for one hit.
//! * [`anonymous`]: what is left of the hit of somebody who objects.
//! * [`asked`]: the same, shared by all threads of a stage, and whether these are all.
//! * [`follower`]: keeps them as the topic is. A stage lets hits pass only while all of them are known: others would go where
//!   the person does not want them.

use uuid::Uuid;

pub mod anonymous;
pub mod asked;
pub mod directives;
pub mod follower;
pub mod keys;

/// When an id was made, Unix milliseconds, as it tells (RFC 9562, version 7); none of another kind of id.
#[must_use]
pub fn made_at(id: Uuid) -> Option<i64> {
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1_000)?.checked_add(i64::from(nanoseconds / 1_000_000))
}
