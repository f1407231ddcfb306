//! From topic to topic.
//!
//! * [`worker`]: reads, enriches, hands to the batch; starts afresh when something fails.
//! * [`backoff`]: how long it waits before that.
//! * [`batch`]: what was read and not yet committed. The one place where a batch begins and ends.
//! * [`tally`]: the outcomes of its hits, none of which can be lost uncounted.
//! * [`outbox`]: the producer, its transactions, and whether all it was given is acknowledged.
//! * [`duplicates`]: which hits were enriched a short time before.
//! * [`recall`]: reads that back from hits.enriched when a partition comes.
//! * [`group`]: what the consumer is told by its group: partitions that come and go, and lag.

pub mod backoff;
pub mod batch;
pub mod duplicates;
pub mod group;
pub mod outbox;
pub mod recall;
pub mod tally;
pub mod worker;
