//! What is settled, against what the hits say.

use schemas::EnrichedHit;

use crate::states::{HOUR, MINUTE, in_session, now, visible};
use crate::support::{NOON, Place, page_view};

/// What differs between what is told and what the hits say, as it is at this moment.
fn differences(place: &Place) -> String {
    let columns = "site, day, visitor_id, session_id, session_id_source, started_at, ended_at, visible_duration_ms, \
                   page_views, events, viewed_pages, viewed_at_ms, viewed_for_ms";
    place.query(&format!(
        "SELECT {columns}, count(), groupArray(told) FROM (\
         SELECT {columns}, 'kept' AS told FROM {{database}}.sessions UNION ALL \
         SELECT {columns}, 'of hits' AS told FROM {{database}}.sessions_of_hits) \
         GROUP BY {columns} HAVING count() != 2"
    ))
}

/// Hits of four visitors within some hours, with or without a session, that come in time or days later.
struct Visitors {
    random: fastrand::Rng,
    /// When the first hour begins.
    since: i64,
    minutes: i64,
    /// When the page view of each number happened, or whatever has that number.
    happened: Vec<i64>,
}

impl Visitors {
    fn hit(&mut self) -> EnrichedHit<'static> {
        let random = &mut self.random;
        let visitor = ["ada", "ben", "cleo", "dan"][random.usize(..4)];
        let at = self.since + random.i64(0..self.minutes) * MINUTE + random.i64(0..3);
        let number = self.happened.len() + 1;
        let mut hit = match random.u8(..3) {
            0 => {
                let view = random.usize(..number);
                // Not before its page view.
                let at = at.max(self.happened.get(view).copied().unwrap_or(at));
                visible(number as u128, visitor, at, view as u128 + 1, random.i64(0..60_000))
            }
            _ => page_view(number as u128, visitor, at, ["/", "/a", "/b"][random.usize(..3)]),
        };
        if visitor != "ada" && random.bool() {
            hit = in_session(hit, random.u128(1..4));
        }
        hit.hit.received_at += random.i64(0..2) * random.i64(0..7 * 1_440) * MINUTE;
        self.happened.push(hit.occurred_at - NOON);
        hit
    }
}

/// Hits of any kind in any order, some of them again, settled now and then: what is told is what the hits say. So it is for
/// those of old, and for those of hours, of which settling looks at the last six.
#[tokio::test]
async fn what_is_settled_is_what_the_hits_say() {
    let Some(stack) = local::database_or_skip("what_is_settled_is_what_the_hits_say") else { return };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let random = fastrand::Rng::with_seed(seed);
    let since = now(stack) - 13 * HOUR;
    let of_old = Visitors { random: random.clone(), since: 0, minutes: 240, happened: Vec::new() };
    let over_the_cut = Visitors { random, since, minutes: 780, happened: Vec::new() };
    for (name, mut visitors) in [("settling_of_old", of_old), ("settling_over_the_cut", over_the_cut)] {
        let place = Place::migrated(stack, name).await;
        let mut all: Vec<EnrichedHit<'static>> = Vec::new();
        for round in 0..6 {
            let mut block: Vec<_> = (0..20).map(|_| visitors.hit()).collect();
            let again = all.iter().filter(|_| visitors.random.u8(..5) == 0).cloned();
            block.extend(again);
            visitors.random.shuffle(&mut block);
            place.load(&block).await;
            all.extend(block);
            assert_eq!(differences(&place), "", "{name} in round {round}");
        }
        assert_ne!(place.query("SELECT count() FROM {database}.sessions"), "0");
    }
}

/// Only sessions that changed are written: a replay of everything writes none.
#[tokio::test]
async fn a_replay_settles_nothing_anew() {
    let Some(stack) = local::database_or_skip("a_replay_settles_nothing_anew") else { return };
    let place = Place::migrated(stack, "replay").await;
    let hits = [in_session(page_view(1, "anna", 0, "/"), 0xa1), page_view(2, "ben", 0, "/")];
    place.load(&hits).await;
    let written = || {
        place.query("SELECT sum(settled_rows) FROM (SELECT DISTINCT settled_at, settled_rows FROM {database}.settled_sessions WHERE site != '')")
    };
    // Both, and the row that tells of the settling.
    assert_eq!(written(), "3");
    place.load(&hits).await;
    assert_eq!(written(), "3");
    place.load(&[in_session(page_view(3, "anna", MINUTE, "/a"), 0xa1)]).await;
    assert_eq!(written(), "5");
}

/// A settling that wrote only some of its rows does not count: all is done again.
#[tokio::test]
async fn a_settling_that_broke_off_does_not_count() {
    let Some(stack) = local::database_or_skip("a_settling_that_broke_off_does_not_count") else { return };
    let place = Place::migrated(stack, "broken").await;
    place.load(&[page_view(1, "ben", 0, "/")]).await;
    let until = || place.query("SELECT argMax(until, confirmed_at) FROM {database}.settlements");
    let before = until();
    for job in ["settle_sessions", "confirm_settlements"] {
        place.query(&format!("SYSTEM STOP VIEW {{database}}.{job}"));
    }
    // The row that tells of a settling of nine rows, and no other.
    place.query(
        "INSERT INTO {database}.settled_sessions (site, day, settled_at, settled_until, settled_rows) \
         VALUES ('', today(), now64(3) + 1, now64(3) + 1, 9)",
    );
    place.query("SYSTEM START VIEW {database}.confirm_settlements");
    place.query("SYSTEM REFRESH VIEW {database}.confirm_settlements");
    place.query("SYSTEM WAIT VIEW {database}.confirm_settlements");
    assert_eq!(until(), before);
}
