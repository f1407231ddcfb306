//! Traffic whose truth is known: hits as the enricher writes them, in the order in which they arrive, and a ledger of
//! what really happened, kept by whoever made them up and not by the SQL that is to be tested.
//!
//! * [`World`]: sites, companies, networks, campaigns, devices. [`Settings`] decide it, and all that follows.
//! * [`Person`]: employer, devices, habits, permission. Follows from a number, so that nobody has to be remembered.
//! * [`Visit`]: what a person did when they came, planned from beginning to end. Robots and opened mails are visits, too.
//! * [`Traffic`]: an iterator of [`schemas::EnrichedHit`]. It holds the hits that are on their way, and when each
//!   person comes back.
//! * [`Ledger`]: the visits, and in [`truth`] the answers that follow from them.
//!
//! In it are: sites that share ids, sites without session ids, a site with pixels only; people with several devices, with
//! wrong clocks, under an objection signal; two tabs; pauses of exactly half an hour and a millisecond more; visits over
//! midnight and the ends of months; hits that arrive up to a week late, out of order, or twice; robots.
//!
//! ```
//! use benches::traffic::{Settings, Traffic, World, DAY};
//!
//! let end = 1_790_000_000_000;
//! let world = World::new(Settings::new(1, 5_000, end).lasting(30 * DAY));
//! let mut traffic = Traffic::new(&world).with_ledger();
//! let arrived: Vec<i64> = traffic.by_ref().map(|hit| hit.hit.received_at).collect();
//! assert!(arrived.is_sorted() && arrived.iter().all(|time| *time <= end));
//! assert_eq!(traffic.ledger().rows(), arrived.len() as u64);
//! ```
//!
//! The same settings and the same file of user agents make the same hits, so that a day can be replayed by making
//! all of it again and taking the day.

pub mod agents;
mod calendar;
mod dice;
pub mod ledger;
pub mod origins;
mod person;
pub mod places;
mod plan;
mod render;
mod settings;
mod stream;
pub mod truth;
pub mod visit;
pub mod world;

pub use ledger::Ledger;
pub use person::{Permission, Person};
pub use settings::{DAY, Settings};
pub use stream::Traffic;
pub use visit::Visit;
pub use world::World;
