//! The states in which the same hits may stand in the tables. No answer may depend on them.

use local::TestStack;
use schemas::{Contact, EnrichedHit, Kind, SourceKind};
use uuid::Uuid;

use crate::support::{Place, hit};

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Asks the same twice: where half of the hits were settled before the other half came, a week late, with all of them again
/// in another order and twice in a block; and after all was loaded once more.
pub async fn in_every_state(
    stack: &'static TestStack,
    test: &str,
    hits: Vec<EnrichedHit<'static>>,
    check: impl Fn(&Place, &str),
) {
    let place = Place::migrated(stack, test).await;
    let (early, mut late): (Vec<_>, Vec<_>) = hits.into_iter().enumerate().partition(|(place, _)| place % 2 == 0);
    late.iter_mut().for_each(|(_, hit)| hit.hit.received_at = hit.occurred_at + 7 * DAY);
    let early: Vec<_> = early.into_iter().map(|(_, hit)| hit).collect();
    let late: Vec<_> = late.into_iter().map(|(_, hit)| hit).collect();
    place.load(&early).await;
    let twice = late.iter().chain(&early).rev().flat_map(|hit| [hit.clone(), hit.clone()]);
    place.load(&twice.collect::<Vec<_>>()).await;
    check(&place, "half of it late");
    place.load(&[early, late].concat()).await;
    check(&place, "loaded once more");
}

/// The lines of an answer.
pub fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

pub fn in_session(mut hit: EnrichedHit<'static>, session: u128) -> EnrichedHit<'static> {
    hit.hit.session_id = Some(Uuid::from_u128(session));
    hit
}

/// The same under an id as collectors and tags make them: ids sort by the first half, which is the time, and ClickHouse
/// sorts them by the second, which is random.
pub fn under_id(mut hit: EnrichedHit<'static>, time: u64, random: u64) -> EnrichedHit<'static> {
    hit.hit.hit_id = Uuid::from_u64_pair(time, random);
    hit
}

/// A hit that tells how long a page view was visible so far.
pub fn visible(number: u128, visitor: &'static str, at: i64, view: u128, milliseconds: i64) -> EnrichedHit<'static> {
    let mut hit = hit(Kind::Heartbeat, number, visitor, at, "/");
    hit.hit.page_view_id = Some(Uuid::from_u128(view));
    hit.hit.duration_ms = Some(milliseconds);
    hit
}

pub fn from_source(mut hit: EnrichedHit<'static>, kind: SourceKind, name: &'static str) -> EnrichedHit<'static> {
    hit.source.kind = kind;
    hit.source.name = name.into();
    hit
}

/// A form that was submitted with a card of name, address and telephone number.
pub fn form(number: u128, visitor: &'static str, at: i64, card: [&'static str; 3]) -> EnrichedHit<'static> {
    let mut hit = hit(Kind::Form, number, visitor, at, "/contact");
    let [name, email, phone] = card.map(Into::into);
    hit.hit.contact = Some(Contact { name, email, phone, ..Contact::default() });
    hit
}

/// The same on another site.
pub fn on_site(mut hit: EnrichedHit<'static>, site: &'static str) -> EnrichedHit<'static> {
    hit.hit.site = site.into();
    hit
}
