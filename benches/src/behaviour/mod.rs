//! What analysts ask, measured and checked on made-up [traffic](crate::traffic): a database of its own, loaded as the
//! sink loads it.
//!
//! * [`Database`]: makes and migrates one, asks it, and tells what an answer cost.
//! * [`load`]: hits into `hits`, in the sink's own blocks.

mod database;
mod loading;

pub use database::{Answer, BehaviourError, Database};
pub use loading::{Loaded, Place, load};
