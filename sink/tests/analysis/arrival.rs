//! The ways in which the same hits reach the table. No answer may depend on them.

use local::TestStack;
use schemas::EnrichedHit;

use crate::support::Place;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// How hits arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// In order, each once.
    Plain,
    /// Each twice in the same block, as duplicates that nothing caught, and then all of them again under other offsets and in
    /// another order, as a day that is loaded again.
    Repeated,
    /// The same, and every second hit a week after it happened.
    RepeatedAndLate,
    /// The same, where sessions were settled before the late ones came.
    RepeatedAndLateAndSettled,
}

/// The best, the worst, and what becomes of the worst.
pub const ARRIVALS: [Arrival; 3] = [Arrival::Plain, Arrival::RepeatedAndLate, Arrival::RepeatedAndLateAndSettled];

/// A database in which the hits have arrived.
pub async fn arrived(
    stack: &'static TestStack,
    test: &str,
    arrival: Arrival,
    mut hits: Vec<EnrichedHit<'static>>,
) -> Place {
    let place = Place::migrated(stack, test).await;
    if arrival == Arrival::RepeatedAndLateAndSettled {
        let in_time: Vec<_> = hits.iter().skip(1).step_by(2).cloned().collect();
        place.load(&in_time).await;
    }
    if matches!(arrival, Arrival::RepeatedAndLate | Arrival::RepeatedAndLateAndSettled) {
        hits.iter_mut().step_by(2).for_each(|hit| hit.hit.received_at = hit.occurred_at + 7 * DAY);
    }
    if arrival != Arrival::Plain {
        hits.reverse();
        hits = hits.into_iter().flat_map(|hit| [hit.clone(), hit]).collect();
        place.insert(&hits).await;
        hits.rotate_left(3);
    }
    place.load(&hits).await;
    place
}

/// Milliseconds from the noon of the tests to noon of today, by ClickHouse's clock.
pub fn today(stack: &TestStack) -> i64 {
    let noon = "SELECT toUnixTimestamp(toDate(now('UTC'))) * 1000 + 12 * 3600000";
    stack.query(noon).unwrap().parse::<i64>().unwrap() - crate::support::NOON
}

/// The lines of an answer.
pub fn lines(place: &Place, sql: &str) -> Vec<String> {
    place.query(sql).lines().map(str::to_owned).collect()
}
