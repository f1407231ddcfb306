//! What is settled, against what the hits say.

use schemas::{Contact, EnrichedHit, Kind};

use crate::states::{MINUTE, form, in_session, visible};
use crate::support::{NOON, Place, hit, page_view};

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

const VISITORS: usize = 40;

/// Hits of visitors, with or without a session, that come in time or days later.
struct Visitors {
    random: fastrand::Rng,
    /// Who caused the hit of each number, and when.
    hits: Vec<(usize, i64)>,
}

impl Visitors {
    /// A hit of anybody within some minutes.
    fn hit(&mut self, minutes: std::ops::Range<i64>) -> EnrichedHit<'static> {
        let random = &mut self.random;
        let visitor = random.usize(..VISITORS);
        let name: &'static str = format!("visitor-{visitor}").leak();
        let at = random.i64(minutes) * MINUTE + random.i64(0..3);
        let number = self.hits.len() as u128 + 1;
        let own: Vec<usize> = (0..self.hits.len()).filter(|&number| self.hits[number].0 == visitor).collect();
        let mut hit = match (random.u8(..3), random.choice(own)) {
            // Not before its page view.
            (0, Some(view)) => {
                visible(number, name, at.max(self.hits[view].1), view as u128 + 1, random.i64(0..60_000))
            }
            _ => page_view(number, name, at, ["/", "/a", "/b"][random.usize(..3)]),
        };
        // One in four never has a session.
        if !visitor.is_multiple_of(4) && random.bool() {
            hit = in_session(hit, random.u128(1..4));
        }
        hit.hit.received_at += random.i64(0..2) * random.i64(0..7 * 1_440) * MINUTE;
        self.hits.push((visitor, hit.occurred_at - NOON));
        hit
    }

    /// Settles some hits after others, some of them again: what is told is what the hits say.
    async fn settle(&mut self, place: &Place, rounds: [std::ops::Range<i64>; 5]) {
        let mut all: Vec<EnrichedHit<'static>> = Vec::new();
        for (round, minutes) in rounds.into_iter().enumerate() {
            let mut block: Vec<_> = (0..2 * VISITORS).map(|_| self.hit(minutes.clone())).collect();
            let again = all.iter().filter(|hit| hit.occurred_at - NOON >= minutes.start * MINUTE);
            block.extend(again.filter(|_| self.random.u8(..5) == 0).cloned());
            self.random.shuffle(&mut block);
            place.load(&block).await;
            all.extend(block);
            assert_eq!(differences(place), "", "{} in round {round}", place.database);
            // What is younger than the mark would be settled again with the next.
            let earlier = "inserted_at = inserted_at - INTERVAL 10 MINUTE WHERE true SETTINGS mutations_sync = 1";
            place.query(&format!("ALTER TABLE {{database}}.hits UPDATE {earlier}"));
        }
        assert_ne!(place.query("SELECT count() FROM {database}.sessions"), "0");
    }
}

fn random() -> fastrand::Rng {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

#[tokio::test]
async fn what_is_settled_is_what_the_hits_say() {
    let Some(stack) = local::database_or_skip("what_is_settled_is_what_the_hits_say") else { return };
    let place = Place::migrated(stack, "settling").await;
    Visitors { random: random(), hits: Vec::new() }.settle(&place, std::array::from_fn(|_| 0..240)).await;
}

/// What came before the cut is not told again, but where what came after it hangs on it.
#[tokio::test]
async fn what_is_settled_over_the_cut_is_what_the_hits_say() {
    let Some(stack) = local::database_or_skip("what_is_settled_over_the_cut_is_what_the_hits_say") else { return };
    let place = Place::migrated(stack, "settling_over_the_cut").await;
    // Six hours before the mark, which is two minutes behind when the next round comes.
    let cut = place.now() / MINUTE - 6 * 60 - 2;
    let (around, after) = (cut - 60..cut + 60, cut + 3..cut + 60);
    let rounds = [around.clone(), around, after.clone(), after.clone(), after];
    Visitors { random: random(), hits: Vec::new() }.settle(&place, rounds).await;
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
    place.stop_settling();
    // The row that tells of a settling of nine rows, and no other.
    place.query(
        "INSERT INTO {database}.settled_sessions (site, day, settled_at, settled_until, settled_rows) \
         VALUES ('', today(), now64(3) + 1, now64(3) + 1, 9)",
    );
    place.refresh("confirm_settlements");
    assert_eq!(until(), before);
}

/// By the command all is settled at once, also where somebody had stopped it; and nothing that is settled is written again.
#[tokio::test]
async fn the_command_settles_what_had_been_stopped() {
    let Some(stack) = local::database_or_skip("the_command_settles_what_had_been_stopped") else { return };
    let place = Place::migrated(stack, "stopped").await;
    place.stop_settling();
    place.insert(&[page_view(1, "ben", 0, "/")]).await;
    place.query(
        "INSERT INTO {database}.contact_merges (site, contact, merged_into) VALUES ('shop', 'a@x.example', 'b@x.example')",
    );
    let settled = || {
        place.query("SELECT (SELECT count() FROM {database}.sessions), (SELECT count() FROM {database}.settled_merges)")
    };
    assert_eq!(settled(), "0\t0");
    for _ in 0..2 {
        sink::views::settle::settle(&place.clickhouse(), |_| ()).await.unwrap();
        assert_eq!(settled(), "1\t1");
    }
}

/// What people tell of their company follows what becomes of their links and cards, and is written where it is another only.
#[tokio::test]
async fn employers_are_what_cards_and_links_tell_now() {
    let Some(stack) = local::database_or_skip("employers_are_what_cards_and_links_tell_now") else { return };
    let place = Place::migrated(stack, "employers").await;
    place.stop_settling();
    let network = |mut hit: EnrichedHit<'static>| {
        hit.network.organisation = "Example Telecom AG".into();
        hit
    };
    let card = |number, visitor, email| form(number, visitor, i64::try_from(number).unwrap(), ["", email, ""]);
    let mut works = hit(Kind::Form, 3, "ben", 3, "/contact");
    works.hit.contact = Some(Contact { company: "Copper Works".into(), ..Contact::default() });
    place
        .load(&[
            network(card(1, "anna", "anna@steel.example")),
            network(card(2, "ben", "ben@gmail.com")),
            network(works),
            network(page_view(4, "cleo", 0, "/")),
        ])
        .await;
    let companies = || place.query("SELECT company, visitors, contacts FROM {database}.companies ORDER BY company");
    let telecom = |people| format!("example telecom ag\t{people}");
    let by_address = format!("{}\nsteel.example\t1\t['anna@steel.example']", telecom("2\t['ben@gmail.com']"));
    let written =
        || place.query("SELECT count(), countIf(is_gone) FROM {database}.settled_employers FINAL WHERE site != ''");
    assert_eq!((companies(), written()), (by_address.clone(), "2\t0".to_owned()));
    let settled_at = || place.query("SELECT max(settled_at) FROM {database}.settled_employers WHERE site != ''");
    let before = settled_at();
    place.settle();
    assert_eq!(settled_at(), before);
    // Undone, and done again.
    let link = |is_linked| {
        place.query(&format!(
            "INSERT INTO {{database}}.contact_links (site, contact, visitor_id, is_linked, evidence) \
             VALUES ('shop', 'anna@steel.example', 'anna', {is_linked}, 'support')"
        ));
        place.settle();
    };
    link(false);
    assert_eq!((companies(), written()), (telecom("3\t['ben@gmail.com']"), "2\t1".to_owned()));
    link(true);
    assert_eq!((companies(), written()), (by_address, "2\t0".to_owned()));
    // Of merged addresses the person counts.
    place.query("INSERT INTO {database}.contact_merges (site, contact, merged_into) VALUES ('shop', 'ben@gmail.com', 'ben@copper.example')");
    place.settle();
    let of_ben =
        "SELECT contact, company FROM {database}.settled_employers FINAL WHERE visitor_id = 'ben' AND NOT is_gone";
    assert_eq!(place.query(of_ben), "ben@copper.example\tCopper Works");
}

/// Of whom nothing came, nothing is told; but once in an hour.
#[tokio::test]
async fn employers_are_settled_of_those_of_whom_something_came() {
    let name = "employers_are_settled_of_those_of_whom_something_came";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "something").await;
    place.settle();
    for visitor in ["anna", "ben", "cleo", "dora"] {
        let row = format!("'shop', '{visitor}@{visitor}.example', '{visitor}'");
        for (table, column, value) in [("contact_cards", "company", "First"), ("contact_links", "evidence", "form")] {
            place.query(&format!(
                "INSERT INTO {{database}}.{table} (site, contact, visitor_id, {column}, inserted_at) \
                 SETTINGS insert_allow_materialized_columns = 1 VALUES ({row}, '{value}', now() - INTERVAL 1 DAY)"
            ));
        }
    }
    let told = || {
        place.settle();
        let rows = "SELECT visitor_id, contact, company FROM {database}.settled_employers FINAL \
                    WHERE site != '' AND NOT is_gone ORDER BY visitor_id FORMAT CSV";
        place.query(rows).replace('"', "")
    };
    let of_dora = "dora,dora@dora.example,First";
    let of_all = "anna,anna@anna.example,First\nben,ben@ben.example,First\ncleo,cleo@cleo.example,First";
    assert_eq!(told(), "");
    let all_settled = |ago: &str| {
        place.query("DELETE FROM {database}.settled_employers WHERE contact = 'all'");
        place.query(&format!(
            "INSERT INTO {{database}}.settled_employers (site, contact, settled_at) VALUES ('', 'all', now64(3) - INTERVAL {ago})"
        ));
    };
    all_settled("61 MINUTE");
    assert_eq!(told(), format!("{of_all}\n{of_dora}"));
    // A correction, a merge, a link undone; and a row that is deleted by hand.
    place.query(
        "INSERT INTO {database}.contact_cards (site, contact, source, company) \
         VALUES ('shop', 'anna@anna.example', 'correction', 'Second')",
    );
    place.query(
        "INSERT INTO {database}.contact_merges (site, contact, merged_into) \
         VALUES ('shop', 'ben@ben.example', 'benjamin@ben.example')",
    );
    place.query(
        "INSERT INTO {database}.contact_links (site, contact, visitor_id, is_linked) \
         VALUES ('shop', 'cleo@cleo.example', 'cleo', false)",
    );
    let delete = |visitor: &str| {
        for table in ["contact_cards", "contact_links"] {
            place.query(&format!("DELETE FROM {{database}}.{table} WHERE visitor_id = '{visitor}'"));
        }
    };
    delete("dora");
    let changed = "anna,anna@anna.example,Second\nben,benjamin@ben.example,First\ncleo,,First";
    assert_eq!(told(), format!("{changed}\n{of_dora}"));
    all_settled("61 MINUTE");
    assert_eq!(told(), changed);
    // Where somebody asks.
    delete("cleo");
    let changed = "anna,anna@anna.example,Second\nben,benjamin@ben.example,First";
    sink::views::settle::settle(&place.clickhouse(), |_| ()).await.unwrap();
    assert_eq!(told(), changed);
    // A clock that was put back since.
    delete("anna");
    all_settled("-1 DAY");
    assert_eq!(told(), "ben,benjamin@ben.example,First");
}
