//! Received = the sum of outcomes, whatever ClickHouse and the topic of dead letters answer, and however it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use service::health::Health;
use sink::audit::report::Span;
use sink::dead_letters::{Graveyard, Letter};
use sink::error::ExitCode;
use sink::fault::{CLASSES, Fault};
use sink::load::{CLICKHOUSE, Loader, Setting};
use sink::metrics::Metrics;
use sink::outcome::Outcome;
use sink::privacy::notes::Notes;
use sink::store::Store;

use crate::messages::{NOON, among, batch, message, metrics, reader};

/// How ClickHouse answers an insert that has no row in it which it refuses.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Stores,
    Retry,
    OtherReplica,
    SlowDown,
    Halt,
}

/// Answers as it is told, and then stores everything.
struct Scripted {
    answers: Mutex<Vec<Answer>>,
    refused: BTreeSet<i64>,
    stored: Arc<Mutex<Vec<(i64, i64)>>>,
    faults: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Scripted {
    fn answer(&self, (first, last): (i64, i64)) -> Result<(), Fault> {
        let said = || "it says so".to_owned();
        match self.answers.lock().unwrap().pop().unwrap_or(Answer::Stores) {
            Answer::Stores if self.refused.range(first..=last).next().is_some() => Err(Fault::RejectRow(469, said())),
            Answer::Stores => Ok(()),
            Answer::Retry => Err(Fault::RetrySame(said())),
            Answer::OtherReplica => Err(Fault::OtherReplica(said())),
            Answer::SlowDown => Err(Fault::SlowDown(said())),
            Answer::Halt => Err(Fault::Halt(ExitCode::Unfit, said())),
        }
    }
}

impl Store for Scripted {
    async fn insert(&self, token: &str, _: Bytes) -> Result<(), Fault> {
        let (first, last) = token.strip_prefix("0/hits.enriched/3/").unwrap().split_once('-').unwrap();
        let range = (first.parse().unwrap(), last.parse().unwrap());
        let answer = self.answer(range);
        match &answer {
            Ok(()) => self.stored.lock().unwrap().push(range),
            Err(fault) => *self.faults.lock().unwrap().entry(fault.class()).or_default() += 1,
        }
        answer
    }

    async fn record_erased(&self, _: i32, _: &[i64]) -> Result<(), Fault> {
        Ok(())
    }

    async fn stored(&self, _: i32, offsets: RangeInclusive<i64>, _: RangeInclusive<i64>) -> Result<Vec<i64>, Fault> {
        Ok(among(&self.stored.lock().unwrap(), offsets))
    }

    async fn erased(&self, _: i32, _: RangeInclusive<i64>) -> Result<Vec<Span>, Fault> {
        Ok(Vec::new())
    }

    async fn last_stored(&self, _: i32, _: i64) -> Result<Option<i64>, Fault> {
        Ok(None)
    }

    async fn note(&self, _: &Notes) -> Result<(), Fault> {
        Ok(())
    }
}

/// Offset and original bytes of each letter.
type Letters = Arc<Mutex<Vec<(i64, Vec<u8>)>>>;

/// Takes letters after it has failed so many times.
struct Topic {
    failures: Mutex<u32>,
    letters: Letters,
}

impl Graveyard for Topic {
    async fn bury(&self, letter: &Letter<'_>) -> Result<(), KafkaError> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
        }
        self.letters.lock().unwrap().push((letter.offset, letter.original.to_vec()));
        Ok(())
    }
}

/// What goes wrong with a batch.
#[derive(Debug, Clone)]
struct Troubles {
    /// Each message: bytes that are no hit, or none for a hit and whether ClickHouse refuses it.
    messages: Vec<Result<bool, Vec<u8>>>,
    answers: Vec<Answer>,
    letter_failures: u32,
    /// When the batch is given up, as its partition goes to another sink, seconds.
    given_up_after: Option<u64>,
}

fn troubles() -> impl Strategy<Value = Troubles> {
    let message = prop_oneof![
        8 => prop::bool::weighted(0.1).prop_map(Ok),
        1 => prop::collection::vec(128u8.., 0..200).prop_map(Err),
    ];
    let answer = prop_oneof![
        4 => Just(Answer::Stores),
        2 => Just(Answer::Retry),
        2 => Just(Answer::OtherReplica),
        2 => Just(Answer::SlowDown),
        1 => Just(Answer::Halt),
    ];
    (
        prop::collection::vec(message, 1..60),
        prop::collection::vec(answer, 0..12),
        0u32..6,
        prop::option::weighted(0.3, 0u64..20),
    )
        .prop_map(|(messages, answers, letter_failures, given_up_after)| Troubles {
            messages,
            answers,
            letter_failures,
            given_up_after,
        })
}

impl Troubles {
    fn value(&self, offset: i64) -> Vec<u8> {
        match &self.messages[usize::try_from(offset).unwrap()] {
            Ok(_) => message(offset, NOON + offset),
            Err(bytes) => bytes.clone(),
        }
    }

    fn offsets(&self, which: impl Fn(&Result<bool, Vec<u8>>) -> bool) -> BTreeSet<i64> {
        (0..).zip(&self.messages).filter(|(_, message)| which(message)).map(|(offset, _)| offset).collect()
    }

    /// Loads them on a runtime of their own; gives what was counted.
    fn befall(&self) -> Arc<Metrics> {
        let metrics = metrics();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(self.load(&metrics));
        // Where a batch is given up, a thread may still be encoding it: that ends with the runtime.
        drop(runtime);
        metrics
    }

    async fn load(&self, metrics: &Arc<Metrics>) {
        let (letters, stored, faults) = (Letters::default(), Arc::default(), Arc::default());
        let store = Scripted {
            answers: Mutex::new(self.answers.clone()),
            refused: self.offsets(|message| *message == Ok(true)),
            stored: Arc::clone(&stored),
            faults: Arc::clone(&faults),
        };
        let topic = Topic { failures: Mutex::new(self.letter_failures), letters: Arc::clone(&letters) };
        let setting = Setting {
            token_prefix: "0/hits.enriched".to_owned(),
            reader: reader(),
            metrics: Arc::clone(metrics),
            health: Health::waiting_for(&[CLICKHOUSE]),
            concurrent_inserts: 2,
            tokens_come_first: true,
        };
        let values: Vec<_> = (0..self.messages.len() as i64).map(|offset| self.value(offset)).collect();
        let loader = Loader::new(store, topic, setting);
        let patience = self.given_up_after.map_or(Duration::MAX, Duration::from_secs);
        let loaded = tokio::time::timeout(patience, loader.load(batch(metrics, &values))).await;

        let count = |outcome: Outcome| metrics.outcome(outcome).get();
        let faults = faults.lock().unwrap();
        assert!(CLASSES.iter().all(|class| metrics.faults(class).get() == faults.get(class).copied().unwrap_or(0)));
        let letters = letters.lock().unwrap();
        assert!(letters.iter().all(|(offset, original)| *original == self.value(*offset)), "letters hold what came");
        if !matches!(loaded, Ok(Ok(()))) {
            return;
        }
        assert_eq!(count(Outcome::Returned), 0);
        let mut inserted: Vec<i64> = stored.lock().unwrap().iter().flat_map(|(first, last)| *first..=*last).collect();
        inserted.sort_unstable();
        // A range names its first and last row; what could not be read lies between them.
        let good = self.offsets(|message| *message == Ok(false));
        inserted.retain(|offset| self.messages[usize::try_from(*offset).unwrap()].is_ok());
        assert_eq!((inserted, count(Outcome::Inserted)), (good.iter().copied().collect(), good.len() as u64));
        let mut buried: Vec<i64> = letters.iter().map(|(offset, _)| *offset).collect();
        buried.sort_unstable();
        let dead = self.offsets(|message| *message != Ok(false));
        assert_eq!(buried, dead.into_iter().collect::<Vec<_>>(), "each letter once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Every class of fault, in any order, also where a batch is given up or halts in the middle of it.
    #[test]
    fn every_hit_has_one_outcome_under_any_faults(troubles in troubles()) {
        let metrics = troubles.befall();
        let outcomes = Outcome::all().into_iter().map(|outcome| metrics.outcome(outcome).get());
        prop_assert_eq!(metrics.received.get(), troubles.messages.len() as u64);
        prop_assert_eq!(outcomes.sum::<u64>(), troubles.messages.len() as u64);
    }
}
