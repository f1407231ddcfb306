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

pub mod anonymous;
pub mod asked;
pub mod directives;
pub mod follower;
pub mod keys;
