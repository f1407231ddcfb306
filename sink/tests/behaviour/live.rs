//! Who is here now.

use schemas::{EnrichedHit, PartnerMatch};

use crate::states::{MINUTE, form, lines, under_id, visible};
use crate::support::{NOON, Place, page_view};

#[tokio::test]
async fn companies_are_seen_on_the_page_that_they_are_on() {
    let Some(stack) = local::database_or_skip("companies_are_seen_on_the_page_that_they_are_on") else { return };
    let place = Place::migrated(stack, "live_companies").await;
    let now = place.now();
    let ago = |milliseconds: i64| now - milliseconds;
    let from = |mut hit: EnrichedHit<'static>, (organisation, domain): (&'static str, &'static str)| {
        (hit.network.organisation, hit.network.domain) = (organisation.into(), domain.into());
        hit
    };
    let (telecom, steel) = (("Example Telecom AG", "telecom.example"), ("Steel Works", ""));
    let mut of_partner = from(page_view(6, "dora", ago(MINUTE), "/prices"), telecom);
    of_partner.partner = Some(PartnerMatch { company_domain: "Mill.Example".into(), ..PartnerMatch::default() });
    place
        .insert(&[
            from(form(1, "anna", ago(60 * MINUTE), ["", "Anna@Steel.Example", ""]), telecom),
            from(page_view(2, "anna", ago(2 * MINUTE), "/"), telecom),
            from(page_view(3, "anna", ago(MINUTE), "/prices"), telecom),
            from(page_view(4, "ben", ago(MINUTE), "/prices"), steel),
            from(page_view(5, "gone", ago(6 * MINUTE), "/prices"), steel),
            of_partner,
            from(page_view(7, "emil", ago(MINUTE), "/prices"), telecom),
            from(form(8, "kim", ago(MINUTE), ["", "kim@telecom.example", ""]), telecom),
            from(page_view(9, "kim", ago(30_000), "/prices"), telecom),
        ])
        .await;
    let columns = "company, company_name, is_provider, current_page, visitors, contacts";
    let found = place.query(&format!(
        "SELECT {columns} FROM {{database}}.live_companies WHERE site = 'shop' ORDER BY company, is_provider"
    ));
    let expected = [
        "mill.example\t\tfalse\tshop.example/prices\t1\t[]",
        "steel works\tSteel Works\tfalse\tshop.example/prices\t1\t[]",
        "steel.example\t\tfalse\tshop.example/prices\t1\t['anna@steel.example']",
        // Kim is of the provider, Emil is connected by it.
        "telecom.example\t\tfalse\tshop.example/prices\t1\t['kim@telecom.example']",
        "telecom.example\tExample Telecom AG\ttrue\tshop.example/prices\t1\t[]",
    ];
    assert_eq!(lines(&found), expected);
}

/// What is told late, replayed or imported happened before: nobody is here for that. What is there twice is one.
#[tokio::test]
async fn who_is_told_of_late_is_not_here() {
    let Some(stack) = local::database_or_skip("who_is_told_of_late_is_not_here") else { return };
    let place = Place::migrated(stack, "live_late").await;
    let now = place.now();
    let ago = |milliseconds: i64| now - milliseconds;
    let mut late = page_view(1, "late", ago(60 * MINUTE), "/");
    late.hit.received_at = now + NOON;
    let here = page_view(2, "here", ago(MINUTE), "/");
    place.insert(&[late, here.clone(), here.clone(), page_view(3, "replayed", ago(60 * MINUTE), "/")]).await;
    place.insert(&[here]).await;
    let found = place.query("SELECT visitor_id, page_views FROM {database}.live_visitors");
    assert_eq!(found, "here\t1");
}

/// Where a page follows another without being loaded, the tag tells the time of the old one in the moment in which it tells
/// the new one, under an id that may be the later. So it is told by which page view came last.
#[tokio::test]
async fn the_page_that_follows_in_the_same_moment_is_the_one_they_are_on() {
    let name = "the_page_that_follows_in_the_same_moment_is_the_one_they_are_on";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "live_moment").await;
    let at = place.now() - MINUTE;
    let visited = |visitor, ids: [(u64, u64); 2]| {
        let mut old = visible(0, visitor, at, 1, 9_000);
        old.page.path = "/old".into();
        [under_id(old, ids[0].0, ids[0].1), under_id(page_view(0, visitor, at, "/new"), ids[1].0, ids[1].1)]
    };
    // A batch without times: the last is the page they are on.
    let [first, second] = [(31, 40), (32, 30)];
    let told =
        [("/new", second), ("/old", first)].map(|(path, id)| under_id(page_view(0, "told", at, path), id.0, id.1));
    let all = [visited("anna", [(11, 20), (12, 10)]), visited("ben", [(22, 10), (21, 20)]), told];
    place.insert(&all.concat()).await;
    let found = place.query("SELECT visitor_id, current_page FROM {database}.live_visitors ORDER BY visitor_id");
    let expected = ["anna\tshop.example/new", "ben\tshop.example/new", "told\tshop.example/new"];
    assert_eq!(lines(&found), expected);
}

/// A hit is in the view within two seconds of its insertion.
#[tokio::test]
async fn a_hit_is_seen_within_two_seconds() {
    let Some(stack) = local::database_or_skip("a_hit_is_seen_within_two_seconds") else { return };
    let place = Place::migrated(stack, "live_soon").await;
    place.insert(&[page_view(1, "here", place.now(), "/")]).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while place.query("SELECT visitor_id FROM {database}.live_visitors WHERE site = 'shop'") != "here" {
        assert!(std::time::Instant::now() < deadline, "not seen in time");
    }
    assert!(std::time::Instant::now() < deadline, "seen too late");
}
