//! A sink that loads and erases.

use schemas::{EnrichedHit, PrivacyAction, SubjectKind};
use service::privacy::keys::Keys;
use sink::outcome::{Outcome, Reason};

use crate::people::{again, directive, form, found, keys, option, publish, publish_objection_and_forgetting};
use crate::support::{Place, Running, message, page_view, until};

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
    place.settle();
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
    let again = again(&place).await;
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
    publish_objection_and_forgetting(&place, &keys).await;
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

/// Where ClickHouse refuses a row, halves are made of what was read once more: as the whole would have been.
#[tokio::test]
async fn halves_of_a_batch_hold_no_more_of_people_than_the_whole() {
    let Some(stack) = local::stack_or_skip("halves_of_a_batch_hold_no_more_of_people_than_the_whole") else { return };
    let place = Place::migrated(stack, "halves").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    publish_objection_and_forgetting(&place, &keys).await;
    let mut wrong = page_view(3, "cleo", 0, "/");
    wrong.hit.site = "".into();
    let ben = || page_view(2, "ben-visitor", 0, "/");
    place.produce(0, &messages(&[form(1, "anna-visitor", 0, "anna@steel.example", ""), ben(), wrong, ben()]));
    let sink = place.start(&[&option(file.path()), "--batch-delay=2"]);
    until("all is acknowledged", || place.committed(0) == Some(4)).await;
    let instruments = sink.stop().await;
    assert_eq!(instruments.metrics.outcome(Outcome::Dead(Reason::Refused)).get(), 1);
    for needle in ["anna", "ben-visitor"] {
        assert_eq!(found(&place, needle), "", "{needle}");
    }
    let stored =
        "SELECT count(), countIf(visitor_id = ''), uniqExactIf(visitor_id, visitor_id != '') FROM {database}.hits";
    assert_eq!(place.query(stored), "3\t1\t1");
}

/// The sink that erases goes away in the middle, and another one of the group goes on.
#[tokio::test]
async fn another_sink_goes_on_where_the_one_that_erased_has_left() {
    let Some(stack) = local::stack_or_skip("another_sink_goes_on_where_the_one_that_erased_has_left") else { return };
    let place = Place::migrated(stack, "handover").await;
    let file = keys();
    let keys = Keys::open(file.path()).unwrap();
    publish(&place, &[]).await;
    place.produce(0, &messages(&hits()));
    let mut sinks = vec![place.start(&[&option(file.path())])];
    until("all hits are stored", || sinks[0].instruments.metrics.outcome(Outcome::Inserted).get() == 4).await;
    sinks.push(place.start(&[&option(file.path())]));
    let partitions = |sink: &Running| sink.instruments.metrics.assigned_partitions.get();
    until("both have partitions", || sinks.iter().all(|sink| partitions(sink) > 0)).await;

    publish(&place, &[directive(&keys, PrivacyAction::Erase, SubjectKind::VisitorId, "anna-visitor")]).await;
    let told = |stage: &str| {
        place.query(&format!("SELECT count() > 0 FROM {{database}}.privacy_trail WHERE stage = '{stage}'")) == "1"
    };
    until("one of them has begun", || told("found")).await;
    let erases = |sink: &Running| sink.instruments.metrics.privacy_erased_rows.get() > 0;
    let first = sinks.iter().position(erases).unwrap();
    let instruments = sinks.swap_remove(first).stop().await;
    assert!(!told("done"));
    assert!(instruments.metrics.privacy_pending.get() > 0, "it knows of what it has left");
    until("the other one is done", || told("done")).await;
    assert_eq!(found(&place, "anna-visitor"), "");
    until("nothing is left to be done", || sinks[0].instruments.metrics.privacy_pending.get() == 0).await;
    sinks.remove(0).stop().await;
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

/// Keys are changed while the sink runs: a request under one that its file does not have stops it until the file has it.
#[tokio::test]
async fn a_request_that_is_not_understood_keeps_the_sink_from_storing_until_it_is() {
    let test = "a_request_that_is_not_understood_keeps_the_sink_from_storing_until_it_is";
    let Some(stack) = local::stack_or_skip(test) else { return };
    let place = Place::migrated(stack, "new_key").await;
    let (services, operators) = (keys(), keys());
    let with_both = format!("second {}\n{}", "a5".repeat(32), std::fs::read_to_string(services.path()).unwrap());
    std::fs::write(operators.path(), &with_both).unwrap();
    publish(&place, &[]).await;
    place.produce(0, &messages(&hits()[..1]));
    let sink = place.start(&[&option(services.path())]);
    let stored = || place.query("SELECT count() FROM {database}.hits");
    until("the first hit is stored", || stored() == "1").await;

    let keys = Keys::open(operators.path()).unwrap();
    publish(&place, &[directive(&keys, PrivacyAction::Erase, SubjectKind::VisitorId, "anna-visitor")]).await;
    let health = sink.instruments.health.clone();
    until("it says why", || health.obstacles().iter().any(|obstacle| obstacle.contains("second"))).await;
    place.produce(0, &messages(&hits()[1..]));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!((stored().as_str(), sink.instruments.metrics.received.get()), ("1", 1));

    std::fs::write(services.path(), with_both).unwrap();
    until("the others are stored", || place.committed(0) == Some(4)).await;
    until("it is ready", || health.obstacles().is_empty()).await;
    let trail = || place.query("SELECT count() FROM {database}.privacy_trail WHERE stage = 'done'");
    until("the request is carried out", || trail() == "1").await;
    assert_eq!((found(&place, "anna-visitor").as_str(), stored().as_str()), ("", "2"));
    sink.stop().await;
}
