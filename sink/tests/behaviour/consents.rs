//! What people permit: what they answered last, whatever was heard last.

use schemas::{Consent, EnrichedHit, Kind};

use crate::states::{DAY, HOUR, MINUTE, in_every_state, lines};
use crate::support::{NOON, hit, page_view};

const SECOND: i64 = 1_000;

/// The hit of a page whose visitor had answered for advertising, at that time by their own clock.
fn answered(
    mut hit: EnrichedHit<'static>,
    advertising: bool,
    given_at: Option<i64>,
    wording: &'static str,
) -> EnrichedHit<'static> {
    let given_at = given_at.map(|at| NOON + at);
    let consent = Consent { advertising: Some(advertising), given_at, wording: wording.into(), ..Consent::default() };
    hit.hit.consent = Some(consent);
    hit
}

/// A tab tells with each hit what was answered in it, also after something else was answered in another: that counts.
#[tokio::test]
async fn what_was_answered_last_counts_though_an_older_tab_is_still_open() {
    let name = "what_was_answered_last_counts_though_an_older_tab_is_still_open";
    let Some(stack) = local::database_or_skip(name) else { return };
    let view = |number, visitor, at| page_view(number, visitor, at, "/");
    let told = |number, visitor, at| hit(Kind::Heartbeat, number, visitor, at, "/");
    let hits = vec![
        // Anna: yes; ten minutes later no, in a second tab; the first says yes all the same.
        answered(view(1, "anna", 0), true, Some(0), "v1"),
        answered(hit(Kind::Event, 2, "anna", 10 * MINUTE, "/"), false, Some(10 * MINUTE), "v2"),
        answered(told(3, "anna", 12 * MINUTE), true, Some(0), "v1"),
        // Ben: yes by a computer whose clock is an hour fast; ten minutes later no, by another.
        answered(view(11, "ben", 0), true, Some(HOUR), "v1"),
        answered(view(12, "ben", 10 * MINUTE), false, Some(10 * MINUTE), "v2"),
        answered(told(13, "ben", 12 * MINUTE), true, Some(HOUR), "v1"),
        // Cleo: yes, and a second later no, which was on its way for three seconds less.
        answered(view(21, "cleo", 4 * SECOND), true, Some(0), "v1"),
        answered(view(22, "cleo", 2 * SECOND), false, Some(SECOND), "v2"),
        // Dora: no, and a day later yes, by a client that tells no times.
        answered(view(31, "dora", 0), false, None, "v1"),
        answered(view(32, "dora", DAY), true, None, "v2"),
        // Emil: no, and an hour later yes.
        answered(view(41, "emil", 0), false, Some(0), "v1"),
        answered(view(42, "emil", HOUR), true, Some(HOUR), "v1"),
    ];
    in_every_state(stack, "older_tab", hits, |place, state| {
        let columns = "visitor_id, purpose, is_permitted, wording, told_at";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.consents ORDER BY visitor_id"));
        let expected = [
            "anna\tadvertising\tfalse\tv2\t2026-03-10 12:10:00.000",
            "ben\tadvertising\tfalse\tv2\t2026-03-10 12:10:00.000",
            "cleo\tadvertising\tfalse\tv2\t2026-03-10 12:00:02.000",
            "dora\tadvertising\ttrue\tv2\t2026-03-11 12:00:00.000",
            "emil\tadvertising\ttrue\tv1\t2026-03-10 13:00:00.000",
        ];
        assert_eq!(lines(&found), expected, "{state}");
    })
    .await;
}
