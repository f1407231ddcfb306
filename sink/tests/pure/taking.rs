//! What the board takes, and what it does not.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::error::KafkaError;
use service::health::Health;
use sink::audit::report::Span;
use sink::batch::{Limits, Message};
use sink::board::{self, Assigned, Board};
use sink::dead_letters::{Graveyard, Letter};
use sink::error::SinkError;
use sink::fault::Fault;
use sink::load::{self, Loader};
use sink::privacy::notes::Notes;
use sink::store::Store;
use tokio_util::task::TaskTracker;

use crate::messages::{NOON, message, metrics, reader};

/// Takes everything.
struct Anything;

impl Store for Anything {
    async fn insert(&self, _token: &str, _frames: Bytes) -> Result<(), Fault> {
        Ok(())
    }

    async fn record_erased(&self, _: i32, _: &[i64]) -> Result<(), Fault> {
        Ok(())
    }

    async fn stored(&self, _: i32, _: RangeInclusive<i64>, _: RangeInclusive<i64>) -> Result<Vec<i64>, Fault> {
        Ok(Vec::new())
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

impl Graveyard for Anything {
    async fn bury(&self, _letter: &Letter<'_>) -> Result<(), KafkaError> {
        Ok(())
    }
}

fn board() -> Board<Anything, Anything> {
    let (metrics, reader) = (metrics(), reader());
    let loader = load::Setting {
        token_prefix: "0/hits.enriched".to_owned(),
        reader: Arc::clone(&reader),
        metrics: Arc::clone(&metrics),
        health: Health::default(),
        concurrent_inserts: 1,
        tokens_come_first: true,
    };
    Board::new(board::Setting {
        topic: "hits.enriched".to_owned(),
        epoch: "0".into(),
        limits: Limits { rows: 100, bytes: 1 << 20, delay: Duration::from_secs(1) },
        memory_limit: 1 << 20,
        reader,
        loader: Arc::new(Loader::new(Anything, Anything, loader)),
        expects_new: true,
        asked: Arc::default(),
        is_first: Arc::default(),
        metrics,
        tasks: TaskTracker::new(),
        runtime: tokio::runtime::Handle::current(),
    })
}

/// A topic may be made anew while it is read: the consumer then begins at its start, whatever was committed.
#[tokio::test]
async fn what_goes_back_while_it_is_read_ends_the_sink() {
    let mut board = board();
    board.assign(vec![Assigned { partition: 3, offset: Some(10), listed: Vec::new() }]);
    let value = message(1, NOON);
    let mut take = |offset| {
        board.take(3, Message { offset, key: b"key", value: Some(&value) }, Instant::now());
        board.take_failure()
    };
    for offset in [10, 11, 15] {
        assert!(take(offset).is_none(), "{offset} comes next, or after a gap");
    }
    for offset in [15, 12, 0] {
        let Some(error) = take(offset) else { panic!("{offset} was there before") };
        assert!(matches!(error, SinkError::WentBack { partition: 3, next: 16, .. }), "{error}");
    }
}
