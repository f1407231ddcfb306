//! What people asked of us, on a real Kafka: before hits come, while they come, and when they come again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails here has failed")]
mod common;

use std::collections::BTreeMap;

use common::bed::{Bed, PARTITIONS, RECEIVED, end, look, message, raw_hit, without_files};
use common::until;
use enricher::metrics::Outcome;
use rdkafka::message::Message;
use schemas::topics::privacy_key;
use schemas::{Contact, PrivacyAction, PrivacyDirective, RawHit, SubjectKind, Writer};
use service::privacy::keys::{Key, Keys, normal};
use tempfile::NamedTempFile;

const SECOND: usize = 1_000;
const ONE: &str = "one 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\n";

struct People {
    file: NamedTempFile,
    keys: Keys,
}

impl People {
    fn new() -> Self {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ONE).unwrap();
        let keys = Keys::open(file.path()).unwrap();
        Self { file, keys }
    }

    /// Whoever enters requests has a new key on top; the services' file is as it was.
    fn with_a_new_key() -> (Self, String) {
        let (new, services) = (Self::new(), Self::new());
        let text = format!("two {}\n{ONE}", "a5".repeat(32));
        std::fs::write(new.file.path(), &text).unwrap();
        (Self { file: services.file, keys: Keys::open(new.file.path()).unwrap() }, text)
    }

    fn words(&self) -> Vec<String> {
        without_files().into_iter().chain([format!("--privacy-keys={}", self.file.path().display())]).collect()
    }

    fn ask(&self, bed: &Bed, action: PrivacyAction, kind: SubjectKind, value: &str) {
        self.ask_under(self.keys.newest(), bed, action, kind, value);
    }

    fn ask_under(&self, key: &Key, bed: &Bed, action: PrivacyAction, kind: SubjectKind, value: &str) {
        let directive = PrivacyDirective {
            site: "demo".into(),
            subject_kind: kind,
            subject: hex::encode(key.hash("demo", kind, &normal(kind, value))).into(),
            key_name: key.name().into(),
            action,
            issued_at: RECEIVED,
            ..PrivacyDirective::default()
        };
        let mut value = Vec::new();
        Writer::single_object::<PrivacyDirective<'_>>().unwrap().write(&directive, &mut value);
        bed.send("privacy", &[(privacy_key(&directive), value)]);
    }
}

/// Of each visitor a hit from before the request and two from after it.
fn hits(visitors: std::ops::RangeInclusive<usize>) -> Vec<RawHit<'static>> {
    let of = |visitor| {
        let before = RawHit { received_at: RECEIVED - 5_000, ..raw_hit(visitor, 0) };
        [before, raw_hit(visitor, 10 * SECOND), raw_hit(visitor, 20 * SECOND)]
    };
    visitors.flat_map(of).collect()
}

/// Visitor ids of the enriched hits, in the order of their raw hits' numbers, and all text of the topic.
fn enriched(bed: &Bed) -> (BTreeMap<(i64, String), usize>, String) {
    let (mut found, mut text) = (BTreeMap::new(), String::new());
    look(&bed.read_all("hits.enriched", PARTITIONS), |hit, message| {
        *found.entry((hit.hit.received_at - RECEIVED, hit.hit.visitor_id.to_string())).or_default() += 1;
        for part in [message.key(), message.payload()] {
            text.push_str(&String::from_utf8_lossy(part.unwrap_or_default()));
        }
    });
    (found, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_holds_from_the_first_hit_on_and_when_hits_come_again() {
    let Some(stack) = local::stack_or_skip("each_right_holds_from_the_first_hit_on_and_when_hits_come_again") else {
        return;
    };
    let (bed, people) = (Bed::new(stack, "rights"), People::new());
    let (running, shutdown) = bed.start(&people.words()).await;
    people.ask(&bed, PrivacyAction::Erase, SubjectKind::VisitorId, "visitor-1");
    people.ask(&bed, PrivacyAction::Object, SubjectKind::VisitorId, "visitor-2");
    people.ask(&bed, PrivacyAction::Forget, SubjectKind::VisitorId, "visitor-3");
    people.ask(&bed, PrivacyAction::Erase, SubjectKind::Email, "Four@Example.com ");
    end(running, shutdown).await;

    // A new process knows of them before it reads a hit.
    let (running, shutdown) = bed.start(&people.words()).await;
    let mut sent = hits(1..=5);
    for hit in sent.iter_mut().filter(|hit| hit.visitor_id == "visitor-4") {
        hit.contact = Some(Contact { email: "four@example.com".into(), ..Contact::default() });
    }
    let messages: Vec<_> = sent.iter().map(message).collect();
    bed.send("hits.raw", &messages);
    until("all are done with", || running.metrics.received.get() == 15 && bed.uncommitted() == 0).await;

    let (found, text) = enriched(&bed);
    let of =
        |visitor: &str| -> Vec<i64> { found.keys().filter(|(_, name)| name == visitor).map(|(at, _)| *at).collect() };
    let (before, first, second) = (-5_000, 10_000, 20_000);
    assert_eq!(of("visitor-1"), [first, second]);
    assert_eq!((of("visitor-2"), of("")), (vec![before], vec![first, second]));
    assert!(of("visitor-3").is_empty());
    assert_eq!(of("visitor-4"), [first, second]);
    assert_eq!(of("visitor-5"), [before, first, second]);
    let renamed: Vec<_> = found.keys().filter(|(_, name)| name.len() == 32).collect();
    assert_eq!(renamed.len(), 2, "{found:?}");
    assert_eq!(renamed[0].1, renamed[1].1);
    assert!(!text.contains("visitor-3") && text.contains("visitor-5"), "neither in keys nor in values");
    let metrics = end(running, shutdown).await;
    assert_eq!(metrics.hits.with_label_values(&[Outcome::Erased.as_str()]).get(), 3);

    // Sent again, by clients or from a copy of the topic: nothing of it is new, under whatever id it is known.
    let (running, shutdown) = bed.start(&people.words()).await;
    bed.send("hits.raw", &messages);
    until("all are done with", || running.metrics.received.get() == 15 && bed.uncommitted() == 0).await;
    assert_eq!(enriched(&bed).0, found);
    end(running, shutdown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_keys_no_hit_passes_once_somebody_asked_for_something() {
    let test = "without_the_keys_no_hit_passes_once_somebody_asked_for_something";
    let Some(stack) = local::stack_or_skip(test) else { return };
    let (bed, people) = (Bed::new(stack, "no_keys"), People::new());
    let (running, shutdown) = bed.start(&without_files()).await;
    end(running, shutdown).await;
    people.ask(&bed, PrivacyAction::Erase, SubjectKind::VisitorId, "visitor-1");

    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = enricher::start(bed.options(&without_files()), shutdown.clone()).await.unwrap();
    bed.send("hits.raw", &hits(1..=1).iter().map(message).collect::<Vec<_>>());
    let obstacles = || running.health.obstacles();
    until("it says why", || format!("{:?}", obstacles()).contains("--privacy-keys")).await;
    assert_eq!(running.metrics.received.get(), 0);
    end(running, shutdown).await;

    // With them, it goes on where it would have begun.
    let (running, shutdown) = bed.start(&people.words()).await;
    until("all are done with", || running.metrics.received.get() == 3 && bed.uncommitted() == 0).await;
    assert_eq!(enriched(&bed).0.len(), 2);
    end(running, shutdown).await;
}

/// Keys are changed while the enricher runs: a request under one that its file does not have stops it until the file has it.
#[tokio::test(flavor = "multi_thread")]
async fn no_hit_passes_while_a_request_is_not_understood() {
    let Some(stack) = local::stack_or_skip("no_hit_passes_while_a_request_is_not_understood") else { return };
    let bed = Bed::new(stack, "new_key");
    let (people, file_with_both) = People::with_a_new_key();
    let (running, shutdown) = bed.start(&people.words()).await;
    let one = people.keys.get("one").unwrap();
    people.ask(&bed, PrivacyAction::Erase, SubjectKind::VisitorId, "visitor-1");
    people.ask_under(one, &bed, PrivacyAction::Erase, SubjectKind::VisitorId, "visitor-2");
    let obstacles = || format!("{:?}", running.health.obstacles());
    until("it says why", || obstacles().contains("two")).await;
    bed.send("hits.raw", &hits(1..=3).iter().map(message).collect::<Vec<_>>());
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(running.metrics.received.get(), 0);

    // A file that has lost a key that is needed is not taken.
    std::fs::write(people.file.path(), file_with_both.lines().next().unwrap()).unwrap();
    until("it says which", || obstacles().contains("one")).await;
    assert_eq!(running.metrics.received.get(), 0);

    std::fs::write(people.file.path(), file_with_both).unwrap();
    until("all are done with", || running.metrics.received.get() == 9 && bed.uncommitted() == 0).await;
    until("it is ready", || running.health.obstacles().is_empty()).await;
    let (found, _) = enriched(&bed);
    let before: Vec<_> = found.keys().filter(|(at, _)| *at < 0).map(|(_, name)| name.as_str()).collect();
    assert_eq!((before, found.len()), (vec!["visitor-3"], 7));
    let metrics = end(running, shutdown).await;
    assert_eq!(metrics.hits.with_label_values(&[Outcome::Erased.as_str()]).get(), 2);
}
