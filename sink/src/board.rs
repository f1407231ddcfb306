//! The partitions that this sink reads, and what of each is on its way.
//!
//! A message goes to the [`Assembler`] of its partition; a batch that is cut goes to the [`Loader`] on a task of its
//! own, once the commit that lists its offsets was answered with success (see [`intents`](crate::intents)); when it is
//! stored, the partition's [`Ledger`] says how far the offset may move. While several batches of a partition
//! are on their way, its next one grows; a partition that takes its share of memory is not read, and none is while more
//! memory is taken than allowed: so a slow ClickHouse gets larger batches, then slows down the reading, and nothing else.
//!
//! One thread owns the board, the one that polls the consumer; tasks tell it how they ended over a channel.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use schemas::Reader;
use service::privacy::asked::Asked;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batch::{Assembler, Batch, Cut, Limits, Message};
use crate::dead_letters::Graveyard;
use crate::error::SinkError;
use crate::fault::Fault;
use crate::intents::{self, Range};
use crate::ledger::{Commit, Ledger};
use crate::load::Loader;
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use crate::store::Store;

/// A partition with so many batches on their way cuts none for its age: what comes makes the open one larger.
const BATCHES_ON_THEIR_WAY: usize = 4;
/// One partition may take this part of the memory with such batches; beyond it is not read, until half is free again.
const SHARE_OF_MEMORY: usize = 4;
/// How long a message that can't be read now waits until it is tried again.
const HOLD: Duration = Duration::from_secs(1);
/// Acknowledgements wait for the next list to be committed, but no longer than this: a commit waits for the broker.
const ACKNOWLEDGE: Duration = Duration::from_millis(200);
/// How long the next commit waits after one that failed.
const COMMIT_AGAIN: Duration = Duration::from_millis(100);
/// How often a handover looks whether something is to be committed.
const HANDOVER: Duration = Duration::from_millis(50);

/// What a board works with.
pub struct Setting<S, G> {
    /// The topic.
    pub topic: String,
    /// First part of the tokens.
    pub epoch: Arc<str>,
    /// When batches are cut.
    pub limits: Limits,
    /// Most that all batches together, and the rooms of earlier ones, may take in memory, bytes.
    pub memory_limit: usize,
    /// Reads messages.
    pub reader: Arc<Reader>,
    /// Takes batches to their end.
    pub loader: Arc<Loader<S, G>>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tasks that load.
    pub tasks: TaskTracker,
    /// Where these tasks run.
    pub runtime: tokio::runtime::Handle,
    /// Whether a partition of which nothing is committed is held against the table.
    pub expects_new: bool,
    /// What people asked of us.
    pub asked: Arc<Asked>,
    /// Said to whoever erases rows: true while this sink has the first partition, as one sink of the group does.
    pub is_first: Arc<AtomicBool>,
}

/// The partitions that this sink reads.
pub struct Board<S, G> {
    setting: Setting<S, G>,
    partitions: HashMap<i32, Partition>,
    rooms: Arc<Rooms>,
    assignments: u64,
    waiting: usize,
    is_full: bool,
    ended: (Sender<Ended>, Receiver<Ended>),
    next_acknowledgement: Option<Instant>,
    next_commit: Option<Instant>,
    failure: Option<SinkError>,
    /// See [`Board::take_passed_over`].
    passed_over: Option<std::ops::Range<i64>>,
}

/// A partition that this sink is given, as its last owner left it.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// Its number.
    pub partition: i32,
    /// The committed offset, where there is one.
    pub offset: Option<i64>,
    /// Ranges that may be stored already, or not.
    pub listed: Vec<Range>,
}

struct Partition {
    /// Tells this assignment from an earlier one of the same partition.
    assignment: u64,
    assembler: Assembler,
    ledger: Ledger,
    /// Nothing before this offset is to come: the committed one, then the one behind the last that came.
    next: Option<i64>,
    /// Batches that wait until they are listed.
    opened: VecDeque<Batch>,
    /// Batches that are being stored.
    sent: usize,
    /// Messages that can't be read now, and those that came after them.
    held: VecDeque<Held>,
    retry_held_at: Option<Instant>,
    /// Gives up what is on its way.
    stop: CancellationToken,
    /// Memory of what was taken and is not on its way yet.
    memory: usize,
    /// Memory of what is on its way.
    on_the_way: usize,
    is_paused: bool,
}

struct Held {
    offset: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// How a task ended.
struct Ended {
    partition: i32,
    assignment: u64,
    first: i64,
    memory: usize,
    /// None where it was told to give up.
    result: Option<Result<(), SinkError>>,
}

impl Partition {
    fn new<S, G>(assigned: Assigned, assignment: u64, setting: &Setting<S, G>, rooms: &Arc<Rooms>) -> Self {
        let Assigned { partition, offset, listed } = assigned;
        let assembler = Assembler::new(partition, setting.limits, Arc::clone(&setting.metrics));
        let assembler = assembler.in_rooms(Arc::clone(rooms));
        Self {
            assignment,
            assembler: assembler.under(Arc::clone(&setting.asked)).replaying(listed.clone()),
            ledger: Ledger::resumed(offset, listed),
            next: offset,
            opened: VecDeque::new(),
            sent: 0,
            held: VecDeque::new(),
            retry_held_at: None,
            stop: CancellationToken::new(),
            memory: 0,
            on_the_way: 0,
            is_paused: false,
        }
    }

    /// What is made again stands in the list already: it waits for no room, as a list that was left full has none before
    /// its first range is stored.
    fn next_to_open(&mut self) -> Option<Batch> {
        if self.ledger.has_room() { self.assembler.next_ready() } else { self.assembler.next_ready_replay() }
    }

    fn is_behind(&self) -> bool {
        self.on_their_way() >= BATCHES_ON_THEIR_WAY
    }

    fn on_their_way(&self) -> usize {
        self.sent + self.opened.len()
    }

    fn should_pause(&self, is_full: bool, share: usize) -> bool {
        // Resuming costs a round of fetching, hence not at the first byte that is free.
        let has_enough =
            if self.is_paused { self.on_the_way > share / 2 } else { self.is_behind() && self.on_the_way >= share };
        // What is made again can't be cut earlier: it is read to its end, or it would wait for ever.
        let must_go_on = self.assembler.is_replaying();
        !self.held.is_empty() || (!must_go_on && (is_full || has_enough))
    }
}

impl<S: Store, G: Graveyard> Board<S, G> {
    /// Without partitions.
    #[must_use]
    pub fn new(setting: Setting<S, G>) -> Self {
        Self {
            setting,
            partitions: HashMap::new(),
            rooms: Arc::default(),
            assignments: 0,
            waiting: 0,
            is_full: false,
            ended: channel(),
            next_acknowledgement: None,
            next_commit: None,
            failure: None,
            passed_over: None,
        }
    }

    /// The last offset that the table has of a partition of which nothing is committed, from the beginning of the topic on: none
    /// where the partition is new. Waits for ClickHouse.
    ///
    /// # Errors
    /// The class of a failure of ClickHouse.
    pub fn last_stored(&self, partition: i32, beginning: i64) -> Result<Option<i64>, Fault> {
        if !self.setting.expects_new {
            return Ok(None);
        }
        self.setting.runtime.block_on(self.setting.loader.last_stored(partition, beginning))
    }

    /// Partitions are this sink's from now on.
    pub fn assign(&mut self, partitions: Vec<Assigned>) {
        for assigned in partitions {
            self.assignments += 1;
            if !assigned.listed.is_empty() {
                let (partition, ranges) = (assigned.partition, intents::write(&assigned.listed));
                tracing::info!(partition, ranges, "announced but not acknowledged, will be inserted again");
            }
            let number = assigned.partition;
            let new = Partition::new(assigned, self.assignments, &self.setting, &self.rooms);
            self.partitions.insert(number, new);
        }
        self.setting.metrics.assigned_partitions.set(self.partitions.len() as i64);
    }

    /// Whether a partition is this sink's.
    #[must_use]
    pub fn has(&self, partition: i32) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Why the sink has to end, if it has to.
    pub fn take_failure(&mut self) -> Option<SinkError> {
        self.failure.take()
    }

    /// Whether all is known that people asked of us. While it is not, no hit may be taken.
    #[must_use]
    pub fn knows_all_directives(&self) -> bool {
        self.setting.asked.is_all_known()
    }

    /// Whether the sink has to end.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The sink has to end for this.
    pub fn fail(&mut self, error: SinkError) {
        self.failure = self.failure.take().or(Some(error));
    }

    /// Offsets before the message that was taken last which had none, where they are more than the end of a transaction takes.
    pub fn take_passed_over(&mut self) -> Option<std::ops::Range<i64>> {
        self.passed_over.take()
    }

    /// Takes the next message of a partition. True where [`Board::tick`] should not wait.
    pub fn take(&mut self, partition: i32, message: Message<'_>, now: Instant) -> bool {
        let Some(state) = self.partitions.get_mut(&partition) else { return false };
        if let Some(next) = state.next.filter(|next| message.offset < *next) {
            let (topic, offset) = (self.setting.topic.clone(), message.offset);
            self.fail(SinkError::WentBack { topic, partition, next, offset });
            return true;
        }
        let next = state.next.replace(message.offset + 1);
        self.passed_over = next.filter(|next| message.offset > next + 1).map(|next| next..message.offset);
        if !state.held.is_empty() {
            state.held.push_back(Held::from(message));
            return true;
        }
        match state.assembler.take(message, &self.setting.reader, now) {
            Ok(grown) => {
                state.memory += grown;
                self.waiting += grown;
                state.assembler.has_ready() || self.waiting >= self.setting.memory_limit
            }
            Err(error) => {
                tracing::warn!(%error, partition, "a message can't be read now, the partition waits");
                state.held.push_back(Held::from(message));
                state.retry_held_at = Some(now + HOLD);
                true
            }
        }
    }

    /// All that has to be done from time to time: takes note of what is stored, cuts what is old, sends what is cut,
    /// pauses and resumes, commits.
    pub fn tick<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, now: Instant) {
        while let Ok(ended) = self.ended.1.try_recv() {
            self.note(ended);
        }
        self.retry_held(now);
        let on_time = self.partitions.values_mut().filter(|partition| !partition.is_behind());
        on_time.for_each(|partition| partition.assembler.cut_if_old(now));
        self.watch_memory();
        self.open_ready();
        self.pause_and_resume(consumer);
        self.commit(consumer, now);
        self.send_listed();
        self.setting.metrics.waiting_bytes.set(self.waiting as i64);
        self.setting.is_first.store(self.has(0), Ordering::Relaxed);
    }

    fn note(&mut self, ended: Ended) {
        self.waiting -= ended.memory;
        let Some(partition) = self.partitions.get_mut(&ended.partition) else { return };
        if partition.assignment != ended.assignment {
            return;
        }
        partition.on_the_way -= ended.memory;
        partition.sent -= 1;
        match ended.result {
            Some(Ok(())) => partition.ledger.done(ended.first),
            Some(Err(error)) => self.fail(error),
            None => {}
        }
    }

    fn retry_held(&mut self, now: Instant) {
        for (number, partition) in &mut self.partitions {
            if partition.retry_held_at.is_none_or(|at| now < at) {
                continue;
            }
            while let Some(held) = partition.held.front() {
                match partition.assembler.take(held.message(), &self.setting.reader, now) {
                    Ok(grown) => {
                        partition.memory += grown;
                        self.waiting += grown;
                        partition.held.pop_front();
                    }
                    Err(error) => {
                        tracing::warn!(%error, partition = number, "a message still can't be read, the partition waits");
                        break;
                    }
                }
            }
            partition.retry_held_at = (!partition.held.is_empty()).then(|| now + HOLD);
        }
    }

    /// Nothing is read from the limit on until half of it is free again; what is open is sent, as it would only lie.
    fn watch_memory(&mut self) {
        let limit = self.setting.memory_limit;
        if !self.is_full && self.waiting >= limit {
            self.is_full = true;
            self.partitions.values_mut().for_each(|partition| partition.assembler.cut(Cut::Memory));
        } else if self.is_full && self.waiting <= limit / 2 {
            self.is_full = false;
        }
        self.rooms.keep(limit.saturating_sub(self.waiting));
    }

    /// What is cut takes its place in the list, as long as there is room.
    fn open_ready(&mut self) {
        for partition in self.partitions.values_mut() {
            while let Some(batch) = partition.next_to_open() {
                let epoch = batch.replays.as_ref().map_or(&self.setting.epoch, |range| &range.epoch);
                partition.ledger.open(Range { epoch: Arc::clone(epoch), first: batch.first, last: batch.last });
                partition.memory -= batch.memory();
                partition.on_the_way += batch.memory();
                partition.opened.push_back(batch);
            }
        }
    }

    /// What the broker has in its list is inserted.
    fn send_listed(&mut self) {
        let Self { partitions, setting, ended, .. } = self;
        for (number, partition) in partitions {
            while let Some(batch) = partition.opened.pop_front_if(|batch| partition.ledger.is_listed(batch.first)) {
                partition.sent += 1;
                send(setting, *number, partition, batch, ended.0.clone());
            }
        }
    }

    fn pause_and_resume<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>) {
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        let (mut paused, share) = (0, self.setting.memory_limit / SHARE_OF_MEMORY);
        for (number, partition) in &mut self.partitions {
            let should = partition.should_pause(self.is_full, share);
            if should != partition.is_paused {
                if should { &mut pause } else { &mut resume }.add_partition(&self.setting.topic, *number);
                partition.is_paused = should;
            }
            paused += i64::from(should);
        }
        self.setting.metrics.paused_partitions.set(paused);
        if pause.count() > 0
            && let Err(error) = consumer.pause(&pause)
        {
            tracing::warn!(%error, "partitions could not be paused");
        }
        if resume.count() > 0
            && let Err(error) = consumer.resume(&resume)
        {
            tracing::warn!(%error, "partitions could not be resumed");
        }
    }

    /// Commits offsets and lists of all partitions at once, and waits for the answer: there is one commit at a time, so
    /// that none overtakes another.
    fn commit<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        let has_unlisted = self.partitions.values().any(|partition| partition.ledger.has_unlisted());
        if !is_due(self.next_commit) || !(has_unlisted || is_due(self.next_acknowledgement)) {
            return;
        }
        let to_commit = |(number, partition): (&i32, &Partition)| Some((*number, partition.ledger.to_commit()?));
        let commits: Vec<(i32, Commit)> = self.partitions.iter().filter_map(to_commit).collect();
        if commits.is_empty() {
            return;
        }
        match commit_now(consumer, &self.setting.topic, &commits) {
            Ok(()) => {
                for (number, commit) in commits {
                    if let Some(partition) = self.partitions.get_mut(&number) {
                        partition.ledger.commit_succeeded(commit);
                    }
                }
                (self.next_commit, self.next_acknowledgement) = (None, Some(Instant::now() + ACKNOWLEDGE));
            }
            Err(error) => {
                self.setting.metrics.commit_failures.inc();
                tracing::warn!(%error, "offsets could not be committed, will be repeated before anything is inserted");
                self.next_commit = Some(Instant::now() + COMMIT_AGAIN);
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OffsetMetadataTooLarge) {
                    self.fail(SinkError::Metadata);
                }
            }
        }
    }

    /// Those among these partitions that are not read at the moment.
    #[must_use]
    pub fn paused_among(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut paused = TopicPartitionList::new();
        let is_paused = |number: &&i32| self.partitions.get(number).is_some_and(|partition| partition.is_paused);
        for number in partitions.iter().filter(is_paused) {
            paused.add_partition(&self.setting.topic, *number);
        }
        paused
    }

    /// Partitions are another sink's from now on: what was read of them is stored and committed, as far as that can be
    /// done until `deadline`. The rest is given up, and read again by whoever has the partition next.
    pub fn release<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, released: &[i32], deadline: Instant) {
        for number in released {
            if let Some(partition) = self.partitions.get_mut(number) {
                partition.assembler.cut(Cut::End);
            }
        }
        loop {
            let now = Instant::now();
            self.open_ready();
            let is_done = !self.is_on_its_way(released);
            if is_done {
                self.next_acknowledgement = None;
            }
            self.commit(consumer, now);
            self.send_listed();
            let left = deadline.saturating_duration_since(now);
            if self.has_failed() || left.is_zero() || consumer.assignment_lost() {
                break;
            }
            if is_done && !released.iter().any(|number| self.has_to_commit(*number)) {
                break;
            }
            if let Ok(ended) = self.ended.1.recv_timeout(left.min(HANDOVER)) {
                self.note(ended);
            }
        }
        self.forget(released);
    }

    fn has_to_commit(&self, number: i32) -> bool {
        self.partitions.get(&number).is_some_and(|partition| partition.ledger.to_commit().is_some())
    }

    /// Partitions were taken away without notice: they may be another sink's already.
    pub fn forget(&mut self, lost: &[i32]) {
        for number in lost {
            if let Some(partition) = self.partitions.remove(number) {
                partition.stop.cancel();
                self.setting.metrics.forget_lag(*number);
                // What is sent gives back its memory when it ends; what is not does so now.
                self.waiting -= partition.memory + partition.opened.iter().map(Batch::memory).sum::<usize>();
            }
        }
        self.setting.metrics.assigned_partitions.set(self.partitions.len() as i64);
    }

    /// Gives up all that is not stored.
    pub fn forget_all(&mut self) {
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.forget(&all);
        self.setting.is_first.store(false, Ordering::Relaxed);
    }

    /// Stores and commits what was read of all partitions, as far as that can be done until `deadline`.
    pub fn drain<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, deadline: Instant) {
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.release(consumer, &all, deadline);
    }

    fn is_on_its_way(&self, partitions: &[i32]) -> bool {
        let mut states = partitions.iter().filter_map(|number| self.partitions.get(number));
        states.any(|state| state.on_their_way() > 0 || state.assembler.has_ready())
    }
}

/// A sink whose partitions are lost says so itself: the broker would refuse it, too, but not in a group without members.
fn commit_now<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    commits: &[(i32, Commit)],
) -> Result<(), KafkaError> {
    let lost = || Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::AssignmentLost));
    let mut offsets = TopicPartitionList::new();
    for (number, commit) in commits {
        let mut element = offsets.add_partition(topic, *number);
        element.set_offset(Offset::Offset(commit.offset))?;
        element.set_metadata(&commit.metadata);
    }
    if consumer.assignment_lost() {
        return lost();
    }
    consumer.commit(&offsets, CommitMode::Sync)?;
    if consumer.assignment_lost() { lost() } else { Ok(()) }
}

/// Loads a batch on a task of its own.
fn send<S: Store, G: Graveyard>(
    setting: &Setting<S, G>,
    number: i32,
    partition: &mut Partition,
    batch: Batch,
    ended: Sender<Ended>,
) {
    let (loader, stop) = (Arc::clone(&setting.loader), partition.stop.clone());
    let (assignment, first, memory) = (partition.assignment, batch.first, batch.memory());
    let load = async move {
        let result = stop.run_until_cancelled_owned(async { loader.load(batch).await }).await;
        // Nobody listens once the sink has ended.
        let _ = ended.send(Ended { partition: number, assignment, first, memory, result });
    };
    setting.tasks.spawn_on(load, &setting.runtime);
}

impl From<Message<'_>> for Held {
    fn from(message: Message<'_>) -> Self {
        Self { offset: message.offset, key: message.key.to_vec(), value: message.value.map(<[u8]>::to_vec) }
    }
}

impl Held {
    fn message(&self) -> Message<'_> {
        Message { offset: self.offset, key: &self.key, value: self.value.as_deref() }
    }
}
