//! A sink that loads and erases.

use schemas::{EnrichedHit, PrivacyAction, SubjectKind};
use service::privacy::keys::Keys;
use sink::outcome::Outcome;

use crate::people::{directive, form, found, keys, option, publish};
use crate::support::{NOON, Place, message, page_view, until};

fn hits() -> Vec<EnrichedHit<'static>> {
    vec![
        page_view(1, "anna-visitor", 0, "/"),
        page_view(2, "ben-visitor", 0, "/"),
        form(3, "anna-visitor", 1000, "anna@steel.example", "+49304711"),
        form(4, "ben-visitor", 1000, "ben@copper.example", ""),
    ]
}

fn messages(hits: &[EnrichedHit<'_>]) -> Vec<Vec<u8>> {
    hits.iter().map(message).collect()
}

fn told(place: &Place) -> String {
    [
        "SELECT * FROM {database}.sessions ORDER BY ALL",
        "SELECT * FROM {database}.contacts ORDER BY ALL",
        "SELECT * FROM {database}.pages ORDER BY ALL",
        "SELECT * EXCEPT (inserted_at, kafka_offset) FROM {database}.hits ORDER BY ALL",
    ]
    .map(|sql| place.query(sql))
    .join("\n")
}

#[tokio::test]
async fn who_is_erased_is_nowhere_also_after_late_hits_and_a_replay() {
    let Some(stack) = local::stack_or_skip("who_is_erased_is_nowhere_also_after_late_hits_and_a_replay") else {
        return;
    };
    let (place, without) = (Place::migrated(stack, "erased").await, Place::migrated(stack, "never").await);
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    publish(&place, &[]).await;
    place.produce(0, &messages(&hits()));
    let sink = place.start(&[&option(file.path())]);
    until("all hits are stored", || place.query("SELECT count() FROM {database}.hits") == "4").await;

    let erase = |kind, value| directive(&keys, PrivacyAction::Erase, kind, value);
    let asked = [erase(SubjectKind::VisitorId, "anna-visitor"), erase(SubjectKind::Email, "anna@steel.example")];
    publish(&place, &asked).await;
    let done = "SELECT uniqExact(directive_id) FROM {database}.privacy_trail WHERE stage = 'done'";
    until("both are done", || place.query(done) == "2").await;
    // From another device: late, and from before she asked.
    place.produce(
        0,
        &messages(&[form(5, "anna-elsewhere", 2000, "Anna@steel.example", ""), page_view(6, "ben-visitor", 0, "/")]),
    );
    until("the late ones are read", || place.query("SELECT count() FROM {database}.hits") == "3").await;
    until("all is acknowledged", || place.committed(0) == Some(6)).await;
    let instruments = sink.stop().await;
    assert_eq!(instruments.metrics.outcome(Outcome::Erased).get(), 1);
    assert_eq!(instruments.metrics.received.get(), 6);

    let gone = ["anna-visitor", "anna-elsewhere", "nna@", "4711"];
    gone.iter().for_each(|needle| assert_eq!(found(&place, needle), "", "{needle}"));
    let report = place.audit(&[]).await;
    assert!(report.is_clean() && report.partitions[0].erased == 3, "{report}");

    without.insert(&[hits()[1].clone(), hits()[3].clone(), page_view(6, "ben-visitor", 0, "/")]).await;
    assert_eq!(told(&place), told(&without));

    // All of it again, into an empty database.
    let again = Place {
        database: format!("{}_again", place.database),
        prefix: place.prefix.clone(),
        ..Place::new(stack, "again")
    };
    again.migrator().apply().await.unwrap();
    again.migrator().widen(sink::window::WIDE).await.unwrap();
    let group = format!("--group={}again", place.prefix);
    let sink = again.start(&[&option(file.path()), &group]);
    until("they are stored again", || again.query("SELECT count() FROM {database}.hits") == "3").await;
    until("the last is counted", || sink.instruments.metrics.received.get() == 6).await;
    let instruments = sink.stop().await;
    assert_eq!(instruments.metrics.outcome(Outcome::Erased).get(), 3);
    gone.iter().for_each(|needle| assert_eq!(found(&again, needle), "", "{needle}"));
    assert_eq!(told(&again), told(&place));
}

#[tokio::test]
async fn who_objects_or_is_forgotten_is_stored_under_no_name_of_before() {
    let Some(stack) = local::stack_or_skip("who_objects_or_is_forgotten_is_stored_under_no_name_of_before") else {
        return;
    };
    let place = Place::migrated(stack, "objecting").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    let mut asked = [
        directive(&keys, PrivacyAction::Object, SubjectKind::VisitorId, "anna-visitor"),
        directive(&keys, PrivacyAction::Forget, SubjectKind::VisitorId, "ben-visitor"),
    ];
    asked.iter_mut().for_each(|directive| directive.issued_at = NOON - 1);
    publish(&place, &asked).await;
    let mut anna = form(1, "anna-visitor", 0, "anna@steel.example", "+49304711");
    anna.hit.page_url = "https://shop.example/?mail=anna".into();
    (anna.page.query, anna.campaign.click_id) = ("mail=anna".into(), "anna-click".into());
    place.produce(0, &messages(&[anna, page_view(2, "ben-visitor", 0, "/"), page_view(3, "cleo", 0, "/")]));
    let sink = place.start(&[&option(file.path())]);
    until("all hits are stored", || place.query("SELECT count() FROM {database}.hits") == "3").await;
    sink.stop().await;
    for needle in ["anna", "4711", "ben-visitor"] {
        assert_eq!(found(&place, needle), "", "{needle}");
    }
    assert_eq!(place.query("SELECT countIf(visitor_id = ''), uniqExact(visitor_id) FROM {database}.hits"), "1\t3");
}

#[tokio::test]
async fn directives_without_keys_keep_the_sink_from_reading_anything() {
    let Some(stack) = local::stack_or_skip("directives_without_keys_keep_the_sink_from_reading_anything") else {
        return;
    };
    let place = Place::migrated(stack, "keyless").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    publish(&place, &[directive(&keys, PrivacyAction::Erase, SubjectKind::VisitorId, "anna-visitor")]).await;
    place.produce(0, &messages(&hits()));
    let sink = place.start(&[]);
    let health = sink.instruments.health.clone();
    until("it says why", || health.obstacles().iter().any(|obstacle| obstacle.contains("--privacy-keys"))).await;
    let instruments = sink.stop().await;
    assert_eq!(instruments.metrics.received.get(), 0);
}
