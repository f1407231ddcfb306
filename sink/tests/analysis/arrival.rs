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
    /// Backwards, each twice in the same block: duplicates that nothing caught.
    Doubled,
    /// All once, then all again under other offsets and in another order: a day that was loaded again.
    Replayed,
    /// Every second a week after it happened, in a block of its own.
    WeekLate,
}

/// All of them.
pub const ARRIVALS: [Arrival; 4] = [Arrival::Plain, Arrival::Doubled, Arrival::Replayed, Arrival::WeekLate];

/// A database in which the hits have arrived.
pub async fn arrived(
    stack: &'static TestStack,
    test: &str,
    arrival: Arrival,
    mut hits: Vec<EnrichedHit<'static>>,
) -> Place {
    let place = Place::migrated(stack, test).await;
    match arrival {
        Arrival::Plain => place.insert(&hits).await,
        Arrival::Doubled => {
            let mut doubled: Vec<_> = hits.iter().flat_map(|hit| [hit.clone(), hit.clone()]).collect();
            doubled.reverse();
            place.insert(&doubled).await;
        }
        Arrival::Replayed => {
            place.insert(&hits).await;
            hits.reverse();
            place.insert(&hits).await;
        }
        Arrival::WeekLate => {
            let (mut late, in_time): (Vec<_>, Vec<_>) =
                hits.into_iter().enumerate().partition(|(number, _)| number % 2 == 1);
            late.iter_mut().for_each(|(_, hit)| hit.hit.received_at = hit.occurred_at + 7 * DAY);
            place.insert(&in_time.into_iter().map(|(_, hit)| hit).collect::<Vec<_>>()).await;
            place.insert(&late.into_iter().map(|(_, hit)| hit).collect::<Vec<_>>()).await;
        }
    }
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
