//! What is noted beside rows that stay: corrections and objections, whatever comes first.

use schemas::{EnrichedHit, Map, PartnerMatch, PrivacyAction, PrivacyDirective, SubjectKind};
use service::privacy::keys::Keys;
use sink::options::{Command, Options, SERVICE};
use sink::outcome::Outcome;
use sink::privacy::notes;
use sink::privacy::requests::Requests;
use tokio_util::sync::CancellationToken;

use crate::people::{again, directive, execute, executor, form, found, keys, now, option, publish};
use crate::support::{NOON, Place, Running, message, page_view, until};

const ANNA: &str = "anna@steel.example";

fn messages(hits: &[EnrichedHit<'_>]) -> Vec<Vec<u8>> {
    hits.iter().map(message).collect()
}

/// A form with a name, at a time in Unix milliseconds.
fn named(number: u128, visitor: &'static str, name: &'static str, at: i64) -> EnrichedHit<'static> {
    let mut hit = form(number, visitor, at - NOON, "Anna@Steel.example", "");
    if let Some(contact) = &mut hit.hit.contact {
        contact.name = name.into();
    }
    hit
}

fn correction(keys: &Keys, of: &[(&'static str, &'static str)]) -> PrivacyDirective<'static> {
    let mut fields = Map::default();
    of.iter().for_each(|(field, value)| fields.push(*field, *value));
    PrivacyDirective { fields, ..directive(keys, PrivacyAction::Rectify, SubjectKind::Email, ANNA) }
}

/// Their cards and links are there, too, by then.
async fn until_stored(sink: &Running, count: u64) {
    until("all hits are stored", || sink.instruments.metrics.outcome(Outcome::Inserted).get() == count).await;
}

async fn until_told(place: &Place, request: &PrivacyDirective<'_>, stage: &str) {
    let id = request.directive_id;
    let told =
        format!("SELECT count() FROM {{database}}.privacy_trail WHERE directive_id = '{id}' AND stage = '{stage}'");
    until(stage, || place.query(&told) != "0").await;
}

fn contact(place: &Place) -> String {
    place.settle();
    let contact = place.query(
        "SELECT contact, name, name_source, phone, company, company_source FROM {database}.contacts WHERE site = 'shop' ORDER BY ALL",
    );
    let visitors = place.query("SELECT visitor_id, contact_name FROM {database}.visitors ORDER BY ALL");
    format!("{contact}\n{visitors}")
}

#[tokio::test]
async fn a_correction_wins_over_what_is_older_until_the_person_says_something_newer() {
    let Some(stack) = local::stack_or_skip("a_correction_wins_over_what_is_older") else { return };
    let place = Place::migrated(stack, "corrected").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    publish(&place, &[]).await;
    place.produce(0, &messages(&[named(1, "anna", "Ana", NOON), page_view(2, "ben", 0, "/")]));
    let sink = place.start(&[&option(file.path())]);
    until_stored(&sink, 2).await;

    let asked = correction(&keys, &[("name", "Anna"), ("phone", "+49 30 1"), ("company", "Right Works")]);
    publish(&place, std::slice::from_ref(&asked)).await;
    until_told(&place, &asked, "hidden").await;
    let corrected = "anna@steel.example\tAnna\tcorrection\t+49 30 1\tRight Works\tcorrection";
    assert_eq!(contact(&place), format!("{corrected}\nanna\tAnna\nben\t"));
    let history = "SELECT field, value, source, source_name FROM {database}.contact_history \
                   WHERE field = 'name' ORDER BY first_told_at";
    assert_eq!(place.query(history), "name\tAna\tform\t\nname\tAnna\tcorrection\tolga");
    let at = "SELECT toUnixTimestamp64Milli(last_told_at) FROM {database}.contact_history WHERE value = 'Anna'";
    assert_eq!(place.query(at), asked.issued_at.to_string());

    // From before, but later here; and what a partner says, at whatever time.
    let mut late = named(3, "elsewhere", "Anne", asked.issued_at - 1);
    late.partner = Some(PartnerMatch { company_name: "Wrong Works".into(), ..PartnerMatch::default() });
    place.produce(0, &messages(&[late]));
    until_stored(&sink, 3).await;
    place.query(
        "INSERT INTO {database}.contact_cards (site, contact, name) VALUES ('shop', 'anna@steel.example', 'Old list')",
    );
    assert_eq!(contact(&place), format!("{corrected}\nanna\tAnna\nben\t\nelsewhere\tAnna"));

    place.produce(0, &messages(&[named(4, "anna", "Anna Newly-Wed", asked.issued_at + 1)]));
    until_stored(&sink, 4).await;
    let newer = "anna@steel.example\tAnna Newly-Wed\tform\t+49 30 1\tRight Works\tcorrection";
    assert_eq!(contact(&place), format!("{newer}\nanna\tAnna Newly-Wed\nben\t\nelsewhere\tAnna"));
    until_told(&place, &asked, "done").await;
    sink.stop().await;

    // All of it again, where the correction is known before the first hit.
    let again = again(&place).await;
    let group = format!("--group={}again", place.prefix);
    let sink = again.start(&[&option(file.path()), &group]);
    until_stored(&sink, 4).await;
    assert_eq!(contact(&again), contact(&place));
    sink.stop().await;

    // A correction from before an erasure comes not back with what is told after it.
    let erase = directive(&keys, PrivacyAction::Erase, SubjectKind::Email, ANNA);
    publish(&place, std::slice::from_ref(&erase)).await;
    execute(executor(&place, &keys, None).await).await.unwrap();
    assert_eq!(found(&place, "Right Works"), "");
    place.produce(0, &messages(&[named(5, "anna", "Anna", now() + 1000)]));
    let sink = place.start(&[&option(file.path())]);
    until_stored(&sink, 1).await;
    sink.stop().await;
    assert_eq!(found(&place, "Right Works"), "");
}

async fn audiences(place: &Place, words: &[&str]) -> String {
    let database = ["--clickhouse-url", &place.clickhouse_url, "--clickhouse-database", &place.database];
    let words = [&["sink", "audiences"], words, &database].concat();
    let Command::Audiences(options) = SERVICE.parse_from::<Options>(&words).unwrap().command else {
        unreachable!("audiences were asked for")
    };
    let printed = std::sync::Mutex::new(String::new());
    let print = |text: &str| printed.lock().unwrap().push_str(text);
    sink::audiences::run(options.action, CancellationToken::new(), print).await.unwrap();
    printed.into_inner().unwrap()
}

async fn everybody(place: &Place) {
    audiences(place, &["define", "everybody", "--site=shop", "--condition=TRUE"]).await;
    place.query(
        "INSERT INTO {database}.score_rules (site, rule, kind, points) VALUES ('shop', 'views', 'page_view', 1)",
    );
    place.settle();
    audiences(place, &["refresh"]).await;
}

fn members(place: &Place) -> String {
    place.query(
        "SELECT member, is_member, isNull(left_at) FROM {database}.audience_members WHERE audience = 'everybody' ORDER BY ALL",
    )
}

fn leads(place: &Place) -> String {
    place.settle();
    let visitors = place.query("SELECT visitor_id FROM {database}.lead_scores ORDER BY ALL");
    let contacts = place.query("SELECT contact FROM {database}.contact_lead_scores ORDER BY ALL");
    format!("{visitors}|{contacts}")
}

#[tokio::test]
async fn who_objects_leaves_audiences_and_lists_of_leads_and_never_comes_back() {
    let Some(stack) = local::stack_or_skip("who_objects_leaves_audiences") else { return };
    let place = Place::migrated(stack, "objectors").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    publish(&place, &[]).await;
    let hits = [
        page_view(1, "anna", 0, "/"),
        form(2, "anna", 1000, "Anna@Steel.example", ""),
        page_view(3, "ben", 0, "/"),
        form(4, "ben", 1000, "ben@copper.example", ""),
        page_view(5, "cleo", 0, "/"),
        form(6, "cleo", 1000, "", "030 / 4711"),
    ];
    place.produce(0, &messages(&hits));
    let sink = place.start(&[&option(file.path())]);
    until_stored(&sink, 6).await;
    everybody(&place).await;
    assert_eq!(members(&place), "anna\ttrue\t1\nben\ttrue\t1\ncleo\ttrue\t1");
    assert_eq!(leads(&place), "anna\nben\ncleo|anna@steel.example\nben@copper.example");

    // By whatever names them.
    let object = |kind, value| directive(&keys, PrivacyAction::Object, kind, value);
    let asked = [object(SubjectKind::Email, ANNA), object(SubjectKind::Phone, "0304711")];
    publish(&place, &asked).await;
    until_told(&place, &asked[0], "hidden").await;
    until_told(&place, &asked[1], "hidden").await;
    assert_eq!(audiences(&place, &["refresh"]).await, "shop/everybody: 0 in, 2 out\n");
    let left = "anna\tfalse\t0\nben\ttrue\t1\ncleo\tfalse\t0";
    assert_eq!(members(&place), left);
    assert_eq!(leads(&place), "ben|ben@copper.example");
    assert_eq!(place.query("SELECT count() FROM {database}.hits WHERE visitor_id = 'anna'"), "2");

    // From before the objection, but later here, and from a device that nobody knew.
    let old = [page_view(7, "anna-elsewhere", 0, "/"), form(8, "anna-elsewhere", 0, ANNA, "")];
    place.produce(0, &messages(&old));
    until_stored(&sink, 8).await;
    assert_eq!(audiences(&place, &["refresh"]).await, "");
    assert_eq!(members(&place), left);
    until_told(&place, &asked[0], "done").await;
    sink.stop().await;

    let again = again(&place).await;
    let group = format!("--group={}again", place.prefix);
    let sink = again.start(&[&option(file.path()), &group]);
    until_stored(&sink, 8).await;
    everybody(&again).await;
    assert_eq!(members(&again), "ben\ttrue\t1");
    assert_eq!(leads(&again), "ben|ben@copper.example");
    sink.stop().await;
}

/// As a sink stores that is cut off from the topic of requests.
#[tokio::test]
async fn what_a_sink_stored_that_had_not_heard_of_it_is_found() {
    let Some(stack) = local::stack_or_skip("what_a_sink_stored_that_had_not_heard_of_it_is_found") else { return };
    let place = Place::migrated(stack, "cut_off").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    let asked = [
        directive(&keys, PrivacyAction::Erase, SubjectKind::VisitorId, "ben"),
        directive(&keys, PrivacyAction::Object, SubjectKind::VisitorId, "cleo"),
        correction(&keys, &[("name", "Anna")]),
    ];
    publish(&place, &asked).await;
    let mut executor = executor(&place, &keys, None).await;
    executor.look_every = std::time::Duration::ZERO;
    execute(executor).await.unwrap();

    let new = page_view(3, "ben", now() + 1000 - NOON, "/");
    place
        .insert(&[named(1, "anna", "Ana", NOON), page_view(2, "ben", 0, "/"), new, page_view(4, "cleo", 0, "/")])
        .await;
    assert_eq!(place.query("SELECT name FROM {database}.contacts"), "Ana");
    execute(crate::people::executor(&place, &keys, None).await).await.unwrap();
    assert_eq!(place.query("SELECT name FROM {database}.contacts"), "Anna");
    assert_eq!(place.query("SELECT visitor_id FROM {database}.objectors"), "cleo");
    let left = "SELECT visitor_id FROM {database}.hits ORDER BY visitor_id";
    assert_eq!(place.query(left), "anna\nben\ncleo", "what ben did after the erasure stays");
    assert_eq!(place.query("SELECT count() FROM {database}.erased_offsets FINAL"), "1");
}

/// Each minute is looked at what changed in audiences since: what changed before is not read.
#[tokio::test]
async fn what_changed_in_audiences_since_is_found_without_reading_all() {
    let name = "what_changed_in_audiences_since_is_found_without_reading_all";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "changes").await;
    // A part for each insert.
    place.query("SYSTEM STOP MERGES {database}.audience_changes");
    for days_ago in [9, 0] {
        place.query(&format!(
            "INSERT INTO {{database}}.audience_changes \
             SELECT 'shop', 'all', toString(number), now64(3) - INTERVAL {days_ago} DAY, true FROM numbers(9)"
        ));
    }
    let plan = place.query(
        "EXPLAIN indexes = 1 SELECT member FROM {database}.audience_changes \
         WHERE changed_at > now64(3) - INTERVAL 2 MINUTE AND site = 'shop'",
    );
    let by_change = plan.split("Name: by_change").nth(1).unwrap_or_default();
    assert!(by_change.contains("Granules: 1/2"), "{plan}");
}

/// Written as often as one likes, a note is one row.
#[tokio::test]
async fn a_note_is_written_once() {
    let Some(stack) = local::stack_or_skip("a_note_is_written_once") else { return };
    let place = Place::migrated(stack, "once").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    publish(&place, &[correction(&keys, &[("name", "Anna O'Hara \\ {x} ?")])]).await;
    let (kafka, of) = (place.options(&[]).kafka, keys.clone());
    let read = move || {
        let mut requests = Requests::open(&kafka, &of).unwrap();
        requests.catch_up(&CancellationToken::new()).unwrap();
        requests.directives().notes("shop", SubjectKind::Email, ANNA)
    };
    let written: notes::Notes = tokio::task::spawn_blocking(read).await.unwrap().into_iter().collect();
    for lost in [false, true, false] {
        // As where ClickHouse was killed when it had written the block's token down and not yet the rows.
        if lost {
            place.query("ALTER TABLE {database}.contact_cards DELETE WHERE true SETTINGS mutations_sync = 2");
        }
        notes::write(&place.clickhouse(), &written).await.unwrap();
    }
    let told = "SELECT value, times_told FROM {database}.contact_history";
    assert_eq!(place.query(told), "Anna O\\'Hara \\\\ {x} ?\t1");
}
