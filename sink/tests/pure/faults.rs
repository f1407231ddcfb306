//! What a fault does to a batch.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::codec::decode_all;
use schemas::topics::privacy_key;
use schemas::{PrivacyAction, PrivacyDirective, SubjectKind};
use service::health::Health;
use service::privacy::asked::Asked;
use service::privacy::directives::Directives;
use service::privacy::keys::Keys;
use sink::audit::report::Span;
use sink::batch::{Assembler, Batch};
use sink::dead_letters::{Graveyard, Letter};
use sink::error::{ExitCode, SinkError};
use sink::fault::Fault;
use sink::hits::{Coordinates, HitColumns};
use sink::intents::Range;
use sink::load::{CLICKHOUSE, DEAD_LETTERS, Loader, Setting};
use sink::metrics::Metrics;
use sink::outcome::{Outcome, Reason};
use sink::privacy::notes::Notes;
use sink::store::Store;

use crate::messages::{NOON, UNLIMITED, among, batch, message, metrics, reader, take};

type Sent = Arc<Mutex<Vec<(String, Bytes)>>>;

/// Answers each insert by its number and the offsets that its token names.
struct Scripted<F> {
    sent: Sent,
    stored: Arc<Mutex<Vec<(i64, i64)>>>,
    /// Tokens that it has without the rows.
    lost: Vec<&'static str>,
    /// What is written down as erased.
    erased: Vec<Span>,
    /// Whether it takes what has to be written before hits.
    takes_erased: bool,
    answer: F,
}

impl<F> Scripted<F> {
    fn new(answer: F) -> Self {
        let (sent, stored) = (Sent::default(), Arc::default());
        Self { sent, stored, lost: Vec::new(), erased: Vec::new(), takes_erased: true, answer }
    }
}

const PREFIX: &str = "0/hits.enriched/3/";

fn offsets(token: &str) -> (i64, i64) {
    let (first, last) = token.strip_prefix(PREFIX).unwrap().split('/').next().unwrap().split_once('-').unwrap();
    (first.parse().unwrap(), last.parse().unwrap())
}

impl<F> Store for Scripted<F>
where
    F: Fn(usize, (i64, i64)) -> Result<(), Fault> + Send + Sync + 'static,
{
    async fn insert(&self, token: &str, frames: Bytes) -> Result<(), Fault> {
        let number = {
            let mut sent = self.sent.lock().unwrap();
            sent.push((token.to_owned(), frames));
            sent.len() - 1
        };
        (self.answer)(number, offsets(token))?;
        if self.lost.iter().any(|lost| token.strip_prefix(PREFIX) == Some(lost)) {
            return Ok(());
        }
        self.stored.lock().unwrap().push(offsets(token));
        Ok(())
    }

    async fn record_erased(&self, _: i32, _: &[i64]) -> Result<(), Fault> {
        if self.takes_erased { Ok(()) } else { Err(again()) }
    }

    async fn stored(&self, _: i32, offsets: RangeInclusive<i64>, _: RangeInclusive<i64>) -> Result<Vec<i64>, Fault> {
        Ok(among(&self.stored.lock().unwrap(), offsets))
    }

    async fn erased(&self, _: i32, _: RangeInclusive<i64>) -> Result<Vec<Span>, Fault> {
        Ok(self.erased.clone())
    }

    async fn last_stored(&self, _: i32, _: i64) -> Result<Option<i64>, Fault> {
        Ok(None)
    }

    async fn note(&self, _: &Notes) -> Result<(), Fault> {
        Ok(())
    }
}

/// Takes letters after it has failed so many times.
struct Topic {
    failures: Mutex<u32>,
    failure: RDKafkaErrorCode,
    letters: Arc<Mutex<Vec<(i64, Reason, String)>>>,
}

impl Default for Topic {
    fn default() -> Self {
        Self { failures: Mutex::default(), failure: RDKafkaErrorCode::MessageTimedOut, letters: Arc::default() }
    }
}

impl Graveyard for Topic {
    async fn bury(&self, letter: &Letter<'_>) -> Result<(), KafkaError> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(KafkaError::MessageProduction(self.failure));
        }
        self.letters.lock().unwrap().push((letter.offset, letter.reason, letter.site.clone()));
        Ok(())
    }
}

fn setting(metrics: &Arc<Metrics>) -> Setting {
    Setting {
        token_prefix: "0/hits.enriched".to_owned(),
        reader: reader(),
        metrics: Arc::clone(metrics),
        health: Health::waiting_for(&[CLICKHOUSE]),
        concurrent_inserts: 2,
        tokens_come_first: true,
    }
}

fn hits(count: i64) -> Vec<Vec<u8>> {
    (0..count).map(|number| message(number, NOON + number)).collect()
}

fn again() -> Fault {
    Fault::RetrySame("connection refused".to_owned())
}

fn refused() -> Fault {
    Fault::RejectRow(469, "Code: 469. the row says something personal".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_retry_sends_the_very_same_bytes_under_the_same_token() {
    let metrics = metrics();
    let store = Scripted::new(|number, _| if number < 3 { Err(again()) } else { Ok(()) });
    let sent = Arc::clone(&store.sent);
    let loader = Loader::new(store, Topic::default(), setting(&metrics));
    loader.load(batch(&metrics, &hits(10))).await.unwrap();
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|attempt| *attempt == sent[0]));
    assert_eq!(sent[0].0, "0/hits.enriched/3/0-9");
    assert_eq!(metrics.outcome(Outcome::Inserted).get(), 10);
    assert_eq!(metrics.faults("retry").get(), 3);
    assert!(!loader.is_failing() && loader.setting().health.obstacles().is_empty());
}

/// The tokens that are sent where the first attempt fails, of a store that may have tokens without rows, or not.
async fn sent_after_a_failure(tokens_come_first: bool, lost: &[&'static str], erased: &[Span]) -> Vec<(String, Bytes)> {
    let metrics = metrics();
    let answer = |number, _| if number == 0 { Err(again()) } else { Ok(()) };
    let store = Scripted { lost: lost.to_vec(), erased: erased.to_vec(), ..Scripted::new(answer) };
    let sent = Arc::clone(&store.sent);
    let loader = Loader::new(store, Topic::default(), Setting { tokens_come_first, ..setting(&metrics) });
    loader.load(batch(&metrics, &hits(10))).await.unwrap();
    assert_eq!(metrics.outcome(Outcome::Inserted).get(), 10);
    let sent = sent.lock().unwrap();
    sent[1..].to_vec()
}

/// ClickHouse was killed when it had written the token down, and the part had no name yet.
#[tokio::test(start_paused = true)]
async fn what_clickhouse_says_to_have_and_has_not_is_inserted_again() {
    let tokens = |sent: &[(String, Bytes)]| -> Vec<String> {
        sent.iter().map(|(token, _)| token.strip_prefix(PREFIX).unwrap().to_owned()).collect()
    };
    let sent = sent_after_a_failure(true, &["0-9"], &[]).await;
    assert_eq!(tokens(&sent), ["0-9", "0-9/1"]);
    assert_eq!(sent[0].1, sent[1].1, "all of it");
    let sent = sent_after_a_failure(true, &["0-9", "0-9/1"], &[]).await;
    assert_eq!(tokens(&sent), ["0-9", "0-9/1", "0-9/2"], "killed there, too");
    let sent = sent_after_a_failure(true, &["0-9", "0-9/1", "0-9/2", "0-9/3"], &[]).await;
    assert_eq!(sent.len(), 4, "it does not go on for ever");
    let sent = sent_after_a_failure(true, &[], &[]).await;
    assert_eq!(tokens(&sent), ["0-9"], "what is there is not");
    let sent = sent_after_a_failure(false, &["0-9"], &[]).await;
    assert_eq!(tokens(&sent), ["0-9"], "nor where another replica may have it");
}

#[tokio::test(start_paused = true)]
async fn what_was_erased_since_is_not_inserted_again() {
    let erased = [Span { first: 0, last: 3 }, Span { first: 8, last: 8 }];
    let sent = sent_after_a_failure(true, &["0-9"], &erased).await;
    let batch = batch(&metrics(), &hits(10));
    let rest: Vec<_> = batch.rows.iter().filter(|row| [4, 5, 6, 7, 9].contains(&row.offset)).cloned().collect();
    assert_eq!(sent[1].1, Bytes::from(batch.part(&rest, &reader()).unwrap().frames));
    let all = [Span { first: 0, last: 9 }];
    assert_eq!(sent_after_a_failure(true, &["0-9"], &all).await.len(), 1);
}

/// Loads a batch for a minute in which it fails, and gives it up.
async fn fail_for_a_minute<F>(store: Scripted<F>, metrics: &Arc<Metrics>, hits: Batch)
where
    F: Fn(usize, (i64, i64)) -> Result<(), Fault> + Send + Sync + 'static,
{
    let loader = Arc::new(Loader::new(store, Topic::default(), setting(metrics)));
    let working = Arc::clone(&loader);
    let task = tokio::spawn(async move { working.load(hits).await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(loader.is_failing());
    assert_eq!(loader.setting().health.obstacles(), ["clickhouse: connection refused"]);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(!loader.is_failing());
}

#[tokio::test(start_paused = true)]
async fn readiness_tells_why_while_it_fails() {
    let metrics = metrics();
    fail_for_a_minute(Scripted::new(|_, _| Err(again())), &metrics, batch(&metrics, &hits(1))).await;
    assert_eq!(metrics.outcome(Outcome::Returned).get(), 1);
}

/// Else whoever looks whether ClickHouse is there would say after each look that it is ready.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_written_before_the_hits_is_failing_too() {
    let metrics = metrics();
    let mut hits = batch(&metrics, &hits(2));
    hits.erased = vec![1];
    fail_for_a_minute(Scripted { takes_erased: false, ..Scripted::new(|_, _| Ok(())) }, &metrics, hits).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_clickhouse_is_given_time() {
    let metrics = metrics();
    let busy = || Fault::SlowDown("Code: 252. too many parts".to_owned());
    let store = Scripted::new(move |number, _| if number < 4 { Err(busy()) } else { Ok(()) });
    let loader = Loader::new(store, Topic::default(), setting(&metrics));
    let start = tokio::time::Instant::now();
    loader.load(batch(&metrics, &hits(1))).await.unwrap();
    // 0.5, 1, 2 and 4 s, each shortened to half at most.
    let waited = start.elapsed();
    assert!((Duration::from_millis(3_750)..=Duration::from_millis(7_510)).contains(&waited), "{waited:?}");
    assert_eq!(metrics.faults("slow_down").get(), 4);
}

#[tokio::test]
async fn an_operators_mistake_halts_and_costs_no_hit() {
    let metrics = metrics();
    let halt = || Fault::Halt(ExitCode::Refused, "Code: 516. wrong password".to_owned());
    let loader = Loader::new(Scripted::new(move |_, _| Err(halt())), Topic::default(), setting(&metrics));
    let error = loader.load(batch(&metrics, &hits(5))).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Refused);
    assert_eq!(metrics.outcome(Outcome::Returned).get(), 5);
}

/// A row was refused, so that its range was stored in parts. Made again after its person was erased, the range would be taken
/// as a whole, under a token that was never used.
#[tokio::test]
async fn what_is_made_again_without_a_row_that_was_refused_is_not_there_twice() {
    let (metrics, reader) = (metrics(), reader());
    let is_refused = |(first, last): (i64, i64)| (first..=last).contains(&9);
    let is_erased = Arc::new(AtomicBool::new(false));
    let erased = Arc::clone(&is_erased);
    let store =
        Scripted::new(
            move |_, offsets| {
                if is_refused(offsets) && !erased.load(Ordering::Relaxed) { Err(refused()) } else { Ok(()) }
            },
        );
    let sent = Arc::clone(&store.sent);
    let loader = Loader::new(store, Topic::default(), setting(&metrics));
    loader.load(batch(&metrics, &hits(10))).await.unwrap();
    let before = sent.lock().unwrap().len();

    is_erased.store(true, Ordering::Relaxed);
    let range = Range { epoch: "0".into(), first: 0, last: 10 };
    let asked = Arc::new(Asked::new(erasing("visitor 2")));
    let mut assembler = Assembler::new(3, UNLIMITED, Arc::clone(&metrics)).replaying(vec![range]).under(asked);
    for (offset, value) in (0..).zip(hits(11)) {
        take(&mut assembler, &reader, offset, &value, Instant::now());
    }
    loader.load(assembler.next_ready().unwrap()).await.unwrap();
    // The last one was not stored before.
    let again: Vec<Bytes> = sent.lock().unwrap()[before..].iter().map(|(_, frames)| frames.clone()).collect();
    let mut columns = HitColumns::default();
    let bytes = hits(11).pop().unwrap();
    let body = reader.body(&bytes).unwrap();
    columns.push(&decode_all(&body).unwrap(), Coordinates { partition: 3, offset: 10 });
    assert_eq!(again, [Bytes::from(columns.block().unwrap().frames)]);
    assert_eq!(metrics.outcome(Outcome::Erased).get(), 2);
}

/// Somebody had everything erased.
fn erasing(visitor: &str) -> Directives {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("one {}\n", "5a".repeat(32))).unwrap();
    let keys = Keys::open(file.path()).unwrap();
    let directive = PrivacyDirective {
        site: "shop".into(),
        subject_kind: SubjectKind::VisitorId,
        subject: hex::encode(keys.newest().hash("shop", SubjectKind::VisitorId, visitor)).into(),
        key_name: "one".into(),
        action: PrivacyAction::Erase,
        issued_at: i64::MAX,
        ..PrivacyDirective::default()
    };
    let mut directives = Directives::new(Some(keys));
    directives.apply(&privacy_key(&directive), Some(&directive)).unwrap();
    directives
}

#[tokio::test]
async fn where_all_rows_are_refused_the_table_is_at_fault() {
    let metrics = metrics();
    let topic = Topic::default();
    let letters = Arc::clone(&topic.letters);
    let loader = Loader::new(Scripted::new(|_, _| Err(refused())), topic, setting(&metrics));
    let error = loader.load(batch(&metrics, &hits(500))).await.unwrap_err();
    assert!(matches!(&error, SinkError::Halt { code: ExitCode::Unfit, .. }), "{error}");
    assert!(letters.lock().unwrap().is_empty(), "no hit was given up");
    assert_eq!(metrics.outcome(Outcome::Returned).get(), 500);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_repeated_until_they_are_delivered() {
    let metrics = metrics();
    let topic = Topic { failures: Mutex::new(5), ..Topic::default() };
    let letters = Arc::clone(&topic.letters);
    let loader = Loader::new(Scripted::new(|_, _| Ok(())), topic, setting(&metrics));
    let mut messages = hits(3);
    messages[1] = b"nothing".to_vec();
    loader.load(batch(&metrics, &messages)).await.unwrap();
    assert_eq!(*letters.lock().unwrap(), [(1, Reason::NoHeader, String::new())]);
    assert_eq!(metrics.dead_letter_retries.get(), 5);
    assert_eq!(metrics.outcome(Outcome::Inserted).get(), 2);
    assert_eq!(metrics.outcome(Outcome::Dead(Reason::NoHeader)).get(), 1);
}

/// Also where the batch is given up before they are delivered, as the partition then goes to another sink.
#[tokio::test(start_paused = true)]
async fn readiness_tells_of_dead_letters_that_can_not_be_delivered() {
    let metrics = metrics();
    let topic = Topic { failures: Mutex::new(u32::MAX), ..Topic::default() };
    let loader = Arc::new(Loader::new(Scripted::new(|_, _| Ok(())), topic, setting(&metrics)));
    loader.setting().health.met(CLICKHOUSE);
    let (working, hits) = (Arc::clone(&loader), batch(&metrics, &[b"nothing".to_vec(), b"none".to_vec()]));
    let task = tokio::spawn(async move { working.load(hits).await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    let obstacles = loader.setting().health.obstacles();
    assert!(matches!(&obstacles[..], [told] if told.starts_with(DEAD_LETTERS)), "{obstacles:?}");
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(loader.setting().health.obstacles().is_empty());
}

#[tokio::test]
async fn dead_letters_that_are_forbidden_halt_and_cost_no_hit() {
    let metrics = metrics();
    let failure = RDKafkaErrorCode::TopicAuthorizationFailed;
    let topic = Topic { failures: Mutex::new(u32::MAX), failure, ..Topic::default() };
    let loader = Loader::new(Scripted::new(|_, _| Ok(())), topic, setting(&metrics));
    let mut messages = hits(3);
    messages[1] = b"nothing".to_vec();
    let error = loader.load(batch(&metrics, &messages)).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Kafka);
    assert!(error.to_string().contains("hits.dead"), "{error}");
    assert_eq!(metrics.outcome(Outcome::Returned).get(), 3);
}

#[tokio::test]
async fn a_batch_without_rows_inserts_nothing() {
    let metrics = metrics();
    let store = Scripted::new(|_, _| Ok(()));
    let sent = Arc::clone(&store.sent);
    let loader = Loader::new(store, Topic::default(), setting(&metrics));
    loader.load(batch(&metrics, &[b"nothing".to_vec()])).await.unwrap();
    assert!(sent.lock().unwrap().is_empty());
}

/// Loads `count` hits of which `bad` are refused; gives the dead letters, the ranges that were stored, and the number
/// of requests.
async fn load_with_bad_rows(count: i64, bad: BTreeSet<i64>) -> (BTreeSet<i64>, Vec<(i64, i64)>, usize) {
    let metrics = metrics();
    let (topic, kept) = (Topic::default(), bad.clone());
    let letters = Arc::clone(&topic.letters);
    let store = Scripted::new(move |_, (first, last)| match kept.range(first..=last).next() {
        Some(_) => Err(refused()),
        None => Ok(()),
    });
    let (sent, stored) = (Arc::clone(&store.sent), Arc::clone(&store.stored));
    let loader = Loader::new(store, topic, setting(&metrics));
    loader.load(batch(&metrics, &hits(count))).await.unwrap();
    let letters = letters.lock().unwrap().clone();
    assert!(letters.iter().all(|(_, reason, site)| *reason == Reason::Refused && site == "shop"));
    let inserted = metrics.outcome(Outcome::Inserted).get();
    assert_eq!(inserted + metrics.outcome(Outcome::Dead(Reason::Refused)).get(), count as u64);
    let dead: BTreeSet<i64> = letters.iter().map(|(offset, ..)| *offset).collect();
    assert_eq!(dead.len(), letters.len(), "none is delivered twice");
    let requests = sent.lock().unwrap().len();
    (dead, stored.lock().unwrap().clone(), requests)
}

#[tokio::test]
async fn a_refused_row_is_found_in_few_requests() {
    let (dead, stored, requests) = load_with_bad_rows(1024, BTreeSet::from([700])).await;
    assert_eq!(dead, BTreeSet::from([700]));
    // The whole, then two halves at each of ten levels.
    assert_eq!((requests, stored.len()), (21, 10));
}

/// Wherever a sink is killed while it looks for refused rows, the next one sends the same rows under the same tokens, and
/// so ClickHouse, which knows the tokens, ends up with each row once.
#[tokio::test]
async fn killed_while_it_looks_for_refused_rows() {
    const ROWS: i64 = 50;
    let bad = BTreeSet::from([3, 20, 21, 49]);
    let (_, expected, requests) = load_with_bad_rows(ROWS, bad.clone()).await;
    for killed_at in 0..requests {
        let stored: Arc<Mutex<BTreeSet<(i64, i64)>>> = Arc::default();
        let loader = |last_request: usize, topic: Topic| {
            let (known, bad) = (Arc::clone(&stored), bad.clone());
            let store = Scripted::new(move |number, (first, last)| {
                if bad.range(first..=last).next().is_some() {
                    return Err(refused());
                }
                known.lock().unwrap().insert((first, last));
                // Stored, and nobody is left to be told.
                if number < last_request { Ok(()) } else { Err(Fault::Halt(ExitCode::Failed, "killed".to_owned())) }
            });
            Loader::new(store, topic, setting(&metrics()))
        };
        let killed = loader(killed_at, Topic::default()).load(batch(&metrics(), &hits(ROWS))).await;
        let topic = Topic::default();
        let letters = Arc::clone(&topic.letters);
        loader(usize::MAX, topic).load(batch(&metrics(), &hits(ROWS))).await.unwrap();
        let dead: BTreeSet<i64> = letters.lock().unwrap().iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(dead, bad, "killed at request {killed_at} ({killed:?})");
        assert_eq!(*stored.lock().unwrap(), expected.iter().copied().collect(), "killed at request {killed_at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whichever rows are refused, those and only those are dead letters, and each of the others is stored once.
    #[test]
    fn every_row_is_stored_once_or_set_aside(
        count in 1i64..150,
        bad in prop::collection::btree_set(0i64..150, 1..20),
    ) {
        let bad: BTreeSet<i64> = bad.into_iter().filter(|offset| *offset < count).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (dead, stored, _) = runtime.block_on(load_with_bad_rows(count, bad.clone()));
        let mut seen: Vec<i64> = stored.iter().flat_map(|(first, last)| *first..=*last).collect();
        seen.sort_unstable();
        let good: Vec<i64> = (0..count).filter(|offset| !bad.contains(offset)).collect();
        prop_assert_eq!(dead, bad);
        prop_assert_eq!(seen, good);
    }
}
