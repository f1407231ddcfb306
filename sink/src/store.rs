//! Where the rows of a batch go, and what is asked and written down beside them: ClickHouse, and what tests put in its place.

use std::future::Future;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::audit::report::Span;
use crate::clickhouse::ClickHouse;
use crate::fault::Fault;
use crate::privacy::ingestion;
use crate::privacy::notes::{self, Notes};

/// Where rows go.
pub trait Store: Send + Sync + 'static {
    /// Stores a block, or knows by its token that it has it.
    ///
    /// # Errors
    /// The class of the failure.
    fn insert(&self, token: &str, frames: Bytes) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Writes down which offsets of a partition have no row on purpose; what is written down already changes nothing.
    ///
    /// # Errors
    /// The class of the failure.
    fn record_erased(&self, partition: i32, offsets: &[i64]) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Which of these offsets of a partition have a row that was received within a span, Unix milliseconds.
    ///
    /// # Errors
    /// The class of the failure.
    fn stored(
        &self,
        partition: i32,
        offsets: RangeInclusive<i64>,
        received: RangeInclusive<i64>,
    ) -> impl Future<Output = Result<Vec<i64>, Fault>> + Send;

    /// Which offsets of a partition, of those from one to another, have no row on purpose, as is written down.
    ///
    /// # Errors
    /// The class of the failure.
    fn erased(
        &self,
        partition: i32,
        offsets: RangeInclusive<i64>,
    ) -> impl Future<Output = Result<Vec<Span>, Fault>> + Send;

    /// The last offset of a partition, from one on, that has a row.
    ///
    /// # Errors
    /// The class of the failure.
    fn last_stored(&self, partition: i32, first: i64) -> impl Future<Output = Result<Option<i64>, Fault>> + Send;

    /// Notes what is to be known of people whose rows follow; what is noted already changes nothing.
    ///
    /// # Errors
    /// The class of the failure.
    fn note(&self, notes: &Notes) -> impl Future<Output = Result<(), Fault>> + Send;
}

impl Store for ClickHouse {
    async fn insert(&self, token: &str, frames: Bytes) -> Result<(), Fault> {
        Self::insert(self, token, frames).await
    }

    async fn record_erased(&self, partition: i32, offsets: &[i64]) -> Result<(), Fault> {
        ingestion::record_erased(self, partition, offsets).await
    }

    async fn stored(
        &self,
        partition: i32,
        offsets: RangeInclusive<i64>,
        received: RangeInclusive<i64>,
    ) -> Result<Vec<i64>, Fault> {
        ingestion::stored(self, partition, &offsets, &received).await
    }

    async fn erased(&self, partition: i32, offsets: RangeInclusive<i64>) -> Result<Vec<Span>, Fault> {
        ingestion::erased(self, partition, &offsets).await
    }

    async fn last_stored(&self, partition: i32, first: i64) -> Result<Option<i64>, Fault> {
        ingestion::last_stored(self, partition, first).await
    }

    async fn note(&self, notes: &Notes) -> Result<(), Fault> {
        notes::write(self, notes).await
    }
}
