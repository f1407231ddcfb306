//! What is settled, against what the hits say.

use schemas::EnrichedHit;

use crate::states::{MINUTE, in_session, settled, visible};
use crate::support::{Place, page_view};

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

/// A hit of one of four visitors within four hours, with or without a session, that comes in time or days later.
fn any_hit(random: &mut fastrand::Rng, number: u128) -> EnrichedHit<'static> {
    let visitor = ["ada", "ben", "cleo", "dan"][random.usize(..4)];
    let at = random.i64(0..240) * MINUTE + random.i64(0..3);
    let mut hit = match random.u8(..3) {
        0 => visible(number, visitor, at, random.u128(1..=number), random.i64(0..60_000)),
        _ => page_view(number, visitor, at, ["/", "/a", "/b"][random.usize(..3)]),
    };
    if visitor != "ada" && random.bool() {
        hit = in_session(hit, random.u128(1..4));
    }
    hit.hit.received_at += random.i64(0..2) * random.i64(0..7 * 1_440) * MINUTE;
    hit
}

/// Hits of any kind in any order, some of them again, settled now and then: at every moment what is told is what the hits
/// say, be it settled or not.
#[tokio::test]
async fn what_is_settled_is_what_the_hits_say() {
    let Some(stack) = local::database_or_skip("what_is_settled_is_what_the_hits_say") else { return };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let place = Place::migrated(stack, "settling").await;
    let mut all: Vec<EnrichedHit<'static>> = Vec::new();
    for round in 0..6 {
        let mut block: Vec<_> = (1..=20).map(|number| any_hit(&mut random, round * 20 + number)).collect();
        let again = all.iter().filter(|_| random.u8(..5) == 0).cloned();
        block.extend(again);
        random.shuffle(&mut block);
        place.insert(&block).await;
        all.extend(block);
        assert_eq!(differences(&place), "", "round {round} before it is settled");
        settled(&place).await;
        assert_eq!(differences(&place), "", "round {round} after it is settled");
    }
    assert_ne!(place.query("SELECT count() FROM {database}.sessions"), "0");
}

/// Only sessions that changed are written: a replay of everything writes none.
#[tokio::test]
async fn a_replay_settles_nothing_anew() {
    let Some(stack) = local::database_or_skip("a_replay_settles_nothing_anew") else { return };
    let place = Place::migrated(stack, "replay").await;
    let hits = [in_session(page_view(1, "anna", 0, "/"), 0xa1), page_view(2, "ben", 0, "/")];
    place.insert(&hits).await;
    settled(&place).await;
    let written = || {
        place.query("SELECT sum(settled_rows) FROM (SELECT DISTINCT settled_at, settled_rows FROM {database}.settled_sessions WHERE site != '')")
    };
    // Both, and the row that tells of the settling.
    assert_eq!(written(), "3");
    place.insert(&hits).await;
    settled(&place).await;
    assert_eq!(written(), "3");
    place.insert(&[in_session(page_view(3, "anna", MINUTE, "/a"), 0xa1)]).await;
    settled(&place).await;
    assert_eq!(written(), "5");
}

/// A settling that wrote only some of its rows does not count: all is done again.
#[tokio::test]
async fn a_settling_that_broke_off_does_not_count() {
    let Some(stack) = local::database_or_skip("a_settling_that_broke_off_does_not_count") else { return };
    let place = Place::migrated(stack, "broken").await;
    place.insert(&[page_view(1, "ben", 0, "/")]).await;
    settled(&place).await;
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
