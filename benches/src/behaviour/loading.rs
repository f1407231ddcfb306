//! Loads hits as the sink does: in blocks of its columns, none of which spans two months.

use std::collections::VecDeque;

use schemas::EnrichedHit;
use sink::clickhouse::ClickHouse;
use sink::fault::Fault;
use sink::hits::{Block, Coordinates, HitColumns};
use sink::month::Month;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::database::{BehaviourError, Database};

/// Rows of a block: the sink's own, when there is much to load.
const ROWS: usize = 50_000;
/// Blocks that are inserted while the next is made.
const ON_THEIR_WAY: usize = 2;
/// How often a block is sent again when ClickHouse has too much to do.
const RETRIES: u32 = 60;

/// Where the hits stand in their topic.
#[derive(Debug, Clone)]
pub struct Place {
    /// First part of the tokens: hits that are loaded again under another one are there twice.
    pub epoch: &'static str,
    /// Partition.
    pub partition: i32,
}

/// What was loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loaded {
    /// Rows.
    pub rows: u64,
    /// Blocks.
    pub blocks: u64,
    /// Bytes that were sent, compressed.
    pub bytes: u64,
}

/// Loads hits, in the order in which they come. Not to be called on a thread of the runtime.
///
/// # Errors
/// Where a block can't be made or inserted.
pub fn load<'w>(
    runtime: &Handle,
    database: &Database,
    place: &Place,
    hits: impl Iterator<Item = EnrichedHit<'w>>,
) -> Result<Loaded, BehaviourError> {
    let mut sender = Sender { runtime, database, place, sent: VecDeque::new(), loaded: Loaded::default() };
    let (mut columns, mut month) = (HitColumns::default(), None::<Month>);
    for (offset, hit) in (0..).zip(hits) {
        let received_at = hit.hit.received_at;
        let is_other_month = month.is_some_and(|month| !month.contains(received_at));
        if is_other_month || columns.rows() >= ROWS {
            sender.send(std::mem::take(&mut columns))?;
            month = None;
        }
        month.get_or_insert_with(|| Month::of(received_at));
        columns.push(&hit, Coordinates { partition: place.partition, offset });
    }
    if columns.rows() > 0 {
        sender.send(columns)?;
    }
    sender.finish()
}

struct Sender<'a> {
    runtime: &'a Handle,
    database: &'a Database,
    place: &'a Place,
    sent: VecDeque<JoinHandle<Result<(), BehaviourError>>>,
    loaded: Loaded,
}

impl Sender<'_> {
    fn send(&mut self, columns: HitColumns) -> Result<(), BehaviourError> {
        let block = columns.block().map_err(|problem| BehaviourError::Block(problem.to_string()))?;
        let token = format!("{}/{}/{}", self.place.epoch, self.place.partition, self.loaded.blocks);
        self.loaded.blocks += 1;
        self.loaded.rows += block.rows as u64;
        self.loaded.bytes += block.frames.len() as u64;
        self.wait_until(ON_THEIR_WAY - 1)?;
        self.sent.push_back(self.runtime.spawn(insert(self.database.clickhouse().clone(), token, block)));
        Ok(())
    }

    /// Waits until so many blocks are on their way at most.
    fn wait_until(&mut self, few: usize) -> Result<(), BehaviourError> {
        while self.sent.len() > few {
            let Some(first) = self.sent.pop_front() else { break };
            self.runtime.block_on(first).map_err(|problem| BehaviourError::Block(problem.to_string()))??;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Loaded, BehaviourError> {
        self.wait_until(0)?;
        Ok(self.loaded)
    }
}

async fn insert(clickhouse: ClickHouse, token: String, block: Block) -> Result<(), BehaviourError> {
    let frames = bytes::Bytes::from(block.frames);
    let mut retries = 0;
    loop {
        match clickhouse.insert(&token, frames.clone()).await {
            Ok(()) => return Ok(()),
            Err(Fault::SlowDown(_)) if retries < RETRIES => {
                retries += 1;
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            Err(fault) => return Err(BehaviourError::Insert { token, fault }),
        }
    }
}
