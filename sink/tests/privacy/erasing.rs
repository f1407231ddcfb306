//! The executor on tables that are filled already.

use std::time::Instant;

use schemas::{Kind, PrivacyAction, PrivacyDirective, SubjectKind};
use service::privacy::keys::Keys;
use sink::privacy::erase::Step;
use sink::privacy::tables::{NAMELESS, holdings};

use crate::people::{directive, execute, executor, form, found, keys, publish};
use crate::support::{NOON, Place, hit, page_view};

/// Years from noon, so that it is after whatever is asked here, milliseconds.
const LATER: i64 = 10 * 365 * 24 * 3_600_000;

/// A table that is in neither list, or a column that names somebody and is not looked at, fails here.
#[tokio::test]
async fn every_table_is_known_to_be_about_people_or_not() {
    let Some(stack) = local::stack_or_skip("every_table_is_known_to_be_about_people_or_not") else { return };
    let place = Place::migrated(stack, "covered").await;
    let columns = place.query(
        "SELECT table, name FROM system.columns WHERE database = '{database}' AND table IN \
         (SELECT name FROM system.tables WHERE database = '{database}' AND engine LIKE '%MergeTree')",
    );
    assert!(columns.lines().count() > 100);
    for line in columns.lines() {
        let (table, column) = line.split_once('\t').unwrap();
        let is_a_name =
            ["visitor_id", "contact_email", "contact_phone", "contact", "member", "email", "phone"].contains(&column);
        match holdings().find(|holding| holding.table == table) {
            Some(holding) => {
                assert!(!is_a_name || holding.names.iter().any(|(_, name)| *name == column), "{table}.{column}")
            }
            None => assert!(NAMELESS.contains(&table) && !is_a_name, "{table}.{column}"),
        }
    }
}

#[tokio::test]
async fn a_kill_after_any_step_is_resumed() {
    let Some(stack) = local::stack_or_skip("a_kill_after_any_step_is_resumed") else { return };
    let place = Place::migrated(stack, "killed").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    place.insert(&[page_view(1, "ben-visitor", 0, "/"), form(2, "ben-visitor", 10, "ben@copper.example", "")]).await;
    for (number, step) in (10..).step_by(10).zip(Step::RESUMED) {
        // Anna wrote from a device of her own and from Ben's.
        let hits = [
            page_view(number, "anna-visitor", 0, "/"),
            form(number + 1, "anna-visitor", 20, "Anna@Steel.example", "+49 30 4711"),
            form(number + 2, "ben-visitor", 30, "anna@steel.example", ""),
        ];
        // The visit is told twice, and counts once.
        for hits in [&hits[..1], &hits[1..]] {
            place.insert(hits).await;
            place.settle();
        }
        place.stop_settling();
        let erase = |kind, value| directive(&keys, PrivacyAction::Erase, kind, value);
        let asked = [
            erase(SubjectKind::VisitorId, "anna-visitor"),
            erase(SubjectKind::Email, "anna@steel.example"),
            erase(SubjectKind::Phone, "+49304711"),
        ];
        publish(&place, &asked).await;
        let ended = execute(executor(&place, &keys, Some(step)).await).await.unwrap_err();
        assert_eq!(ended, format!("ended after the step {step:?}"));
        execute(executor(&place, &keys, None).await).await.unwrap();
        for needle in ["anna-visitor", "nna@", "4711"] {
            assert_eq!(found(&place, needle), "", "{needle} after {step:?}");
        }
        let rows = |place: &Place, number: usize| {
            let id = asked[number].directive_id;
            place.query(&format!(
                "SELECT max(rows) FROM {{database}}.privacy_trail WHERE directive_id = '{id}' AND stage = 'done'"
            ))
        };
        // Visitor: two hits, a card, a link and the visit. Phone: a hit and a card.
        assert_eq!((rows(&place, 0), rows(&place, 2)), ("5".to_owned(), "2".to_owned()), "{step:?}");
    }
    // Ben's own address still tells his employer, which went with Anna's until it was settled again; that is asked for.
    let employers =
        "SELECT visitor_id, contact, domain FROM {database}.settled_employers FINAL WHERE NOT is_gone AND site != ''";
    assert_eq!(place.query(employers), "");
    let last = "SELECT argMax(contact, settled_at) FROM {database}.settled_employers WHERE site = ''";
    assert_eq!(place.query(last), "asked");
    place.settle();
    assert_eq!(place.query(employers), "ben-visitor\tben@copper.example\tcopper.example");
    assert_eq!(place.query("SELECT count(), uniqExact(visitor_id) FROM {database}.hits"), "2\t1");
    assert_eq!(place.query("SELECT page_views, forms FROM {database}.sessions"), "1\t1");
    let masked = "SELECT count() FROM system.parts WHERE database = '{database}' AND active AND has_lightweight_delete";
    assert_eq!(place.query(masked), "0");
    assert_eq!(place.query("SELECT count() > 20 FROM {database}.erased_offsets FINAL"), "1");
}

/// Whoever comes again after they asked has visits that stay.
#[tokio::test]
async fn what_was_visited_since_stays_wherever_the_pass_was_stopped() {
    let name = "what_was_visited_since_stays_wherever_the_pass_was_stopped";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "since").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    for (number, step) in (10..).step_by(10).zip([Step::Hits, Step::ToldAnew, Step::Sessions]) {
        let visitor: &'static str = format!("anna-{number}").leak();
        place.insert(&[page_view(number, visitor, 0, "/"), page_view(number + 1, visitor, LATER, "/since")]).await;
        place.settle();
        place.stop_settling();
        publish(&place, &[directive(&keys, PrivacyAction::Erase, SubjectKind::VisitorId, visitor)]).await;
        execute(executor(&place, &keys, Some(step)).await).await.unwrap_err();
        execute(executor(&place, &keys, None).await).await.unwrap();
        let left = format!("SELECT entry_page FROM {{database}}.sessions WHERE visitor_id = '{visitor}'");
        assert_eq!(place.query(&left), "shop.example/since", "{step:?}");
    }
}

/// Where merges lead is told of decisions, by settling; what settles next tells no name of somebody erased, either.
#[tokio::test]
async fn merges_and_opened_mails_are_forgotten() {
    let Some(stack) = local::stack_or_skip("merges_and_opened_mails_are_forgotten") else { return };
    let place = Place::migrated(stack, "merges").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    let mail = hit(Kind::MailOpen, 2, "anna-visitor", 5, "/");
    place.insert(&[form(1, "anna-visitor", 0, "anna@steel.example", ""), mail]).await;
    place.query(
        "INSERT INTO {database}.contact_merges (site, contact, merged_into) VALUES \
         ('shop', 'anna@steel.example', 'anna@mill.example'), ('shop', 'ben@steel.example', 'ben@mill.example')",
    );
    place.settle();
    place.stop_settling();
    assert_ne!(found(&place, "anna-visitor"), "");
    let asked = [(SubjectKind::VisitorId, "anna-visitor"), (SubjectKind::Email, "anna@steel.example")]
        .map(|(kind, value)| directive(&keys, PrivacyAction::Erase, kind, value));
    publish(&place, &asked).await;
    execute(executor(&place, &keys, None).await).await.unwrap();
    place.settle();
    for needle in ["anna-visitor", "nna@"] {
        assert_eq!(found(&place, needle), "", "{needle}");
    }
    let merged = "SELECT contact, person FROM {database}.merged_contacts";
    assert_eq!(place.query(merged), "ben@steel.example\tben@mill.example");
}

/// A refresh finds changes until it is told that somebody is gone, and one that asked before that writes after it.
#[tokio::test]
async fn changes_of_audiences_go_whenever_a_refresh_found_them() {
    let Some(stack) = local::stack_or_skip("changes_of_audiences_go_whenever_a_refresh_found_them") else { return };
    let place = Place::migrated(stack, "members").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    // Ben comes back after he asked.
    place
        .load(&[
            page_view(1, "anna-visitor", 0, "/"),
            page_view(2, "ben-visitor", 0, "/"),
            page_view(3, "ben-visitor", 5000, "/"),
        ])
        .await;
    place.stop_settling();
    let change = |visitor: &str, is_member: bool| {
        let row = format!("('shop', 'all', '{visitor}', now64(3), {is_member})");
        place.query(&format!("INSERT INTO {{database}}.audience_changes VALUES {row}"));
    };
    change("anna-visitor", true);
    change("ben-visitor", true);
    let asked = ["anna-visitor", "ben-visitor"].map(|visitor| PrivacyDirective {
        issued_at: NOON + 1000,
        ..directive(&keys, PrivacyAction::Erase, SubjectKind::VisitorId, visitor)
    });
    publish(&place, &asked).await;
    execute(executor(&place, &keys, None).await).await.unwrap();
    let changes = "SELECT member, is_member FROM {database}.audience_changes ORDER BY ALL";
    assert_eq!((found(&place, "anna-visitor"), place.query(changes)), (String::new(), String::new()));
    assert_eq!(place.query("SELECT count() FROM {database}.hits"), "1");

    change("anna-visitor", false);
    change("ben-visitor", true);
    execute(executor(&place, &keys, None).await).await.unwrap();
    assert_eq!((found(&place, "anna-visitor"), place.query(changes)), (String::new(), "ben-visitor\ttrue".to_owned()));
}

#[tokio::test]
async fn a_request_about_two_sites_tells_the_rows_of_both() {
    let Some(stack) = local::stack_or_skip("a_request_about_two_sites_tells_the_rows_of_both") else { return };
    let place = Place::migrated(stack, "two_sites").await;
    place.stop_settling();
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    let at = |number, site: &'static str| {
        let mut hit = page_view(number, "anna-visitor", 0, "/");
        hit.hit.site = site.into();
        hit
    };
    place.insert(&[at(1, "shop"), at(2, "shop"), at(3, "blog")]).await;
    let shop = directive(&keys, PrivacyAction::Erase, SubjectKind::VisitorId, "anna-visitor");
    let subject = hex::encode(keys.newest().hash("blog", SubjectKind::VisitorId, "anna-visitor"));
    let blog = PrivacyDirective { site: "blog".into(), subject: subject.into(), ..shop.clone() };
    publish(&place, &[shop, blog]).await;
    execute(executor(&place, &keys, None).await).await.unwrap();
    assert_eq!(found(&place, "anna-visitor"), "");
    let done = "SELECT DISTINCT rows FROM {database}.privacy_trail WHERE stage = 'done'";
    assert_eq!(place.query(done), "3");
}

/// The rows that go with the second name are told beside those that went with the first.
#[tokio::test]
async fn names_of_a_request_that_come_apart_are_told_together() {
    let Some(stack) = local::stack_or_skip("names_of_a_request_that_come_apart_are_told_together") else { return };
    let place = Place::migrated(stack, "apart").await;
    place.stop_settling();
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    let visited = [page_view(1, "anna-visitor", 0, "/"), page_view(2, "anna-visitor", 10, "/")];
    place.insert(&visited).await;
    place.insert(&[form(3, "ben-visitor", 20, "anna@steel.example", "")]).await;
    let visitor = directive(&keys, PrivacyAction::Erase, SubjectKind::VisitorId, "anna-visitor");
    let email = directive(&keys, PrivacyAction::Erase, SubjectKind::Email, "anna@steel.example");
    let email = PrivacyDirective { directive_id: visitor.directive_id, ..email };
    let done = "SELECT max(rows) FROM {database}.privacy_trail WHERE stage = 'done'";
    let mut told = Vec::new();
    for name in [visitor, email] {
        publish(&place, &[name]).await;
        execute(executor(&place, &keys, None).await).await.unwrap();
        told.push(place.query(done));
    }
    // Two hits; and a hit, both columns of a card, and a link.
    assert_eq!(told, ["2", "6"]);
}

/// How long it takes is printed, not asserted: machines differ.
#[tokio::test]
async fn one_of_a_million_rows_and_a_thousand_people_at_once() {
    let Some(stack) = local::stack_or_skip("one_of_a_million_rows_and_a_thousand_people_at_once") else { return };
    let place = Place::migrated(stack, "many").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    let visitors = "SELECT generateUUIDv7(), 'shop', 'page_view', toDateTime64('2026-03-10 12:00:00', 3, 'UTC') + number % 1000000, \
                    received_at, concat('visitor-', toString(intDiv(number, 10))), 0, number FROM numbers(1000000)";
    place.query(&format!(
        "INSERT INTO {{database}}.hits (hit_id, site, kind, received_at, occurred_at, visitor_id, kafka_partition, kafka_offset) \
         {}",
        visitors.replace("received_at,", "toDateTime64('2026-03-10 12:00:00', 3, 'UTC') + number % 1000000,")
    ));
    let ask =
        |number: usize| directive(&keys, PrivacyAction::Forget, SubjectKind::VisitorId, &format!("visitor-{number}"));
    for (first, people) in [(0, 1), (1, 1000)] {
        let asked: Vec<_> = (first..first + people).map(ask).collect();
        publish(&place, &asked).await;
        let start = Instant::now();
        execute(executor(&place, &keys, None).await).await.unwrap();
        println!("erasing {people} of 100,000 visitors with a million hits took {:?}", start.elapsed());
    }
    assert_eq!(place.query("SELECT count() FROM {database}.hits"), (1_000_000 - 10 * 1001).to_string());
    assert_eq!(
        place.query(
            "SELECT count() FROM {database}.hits WHERE visitor_id IN ('visitor-0', 'visitor-1', 'visitor-1000')"
        ),
        "0"
    );
    assert_eq!(place.query("SELECT count() FROM {database}.erasing"), "0");
}
