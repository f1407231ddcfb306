//! `sink audit`: names every offset that is in `hits` twice, and every one that is missing.
//!
//! Rows carry their place in the topic. For each partition:
//!
//! 1. [`topic`]: asks Kafka where the partition begins, and how far the group has acknowledged.
//! 2. One query goes over the partition's offsets in order, and gives only those that do not follow the one before by
//!    one: doubles, and gaps.
//! 3. Gaps before the beginning of the topic can't be told any more. The others are read from Kafka: where nothing
//!    readable stands, there was a transaction's marker or an aborted message. What is readable and a dead letter is
//!    accounted for; what is neither is missing.
//!
//! It changes nothing, joins no group, and reads no more than two columns of the table and, of the topic, what lies around
//! gaps. Rows that a person had
//! erased are explained by `erased_offsets`; rows that were deleted otherwise, as under retention of the table, are missing.

pub mod report;
pub mod topic;

use clap::Args;
use clickhouse::Row;
use schemas::topics::HITS_ENRICHED;
use serde::Deserialize;
use service::options::KafkaOptions;

use crate::audit::report::{PartitionReport, Report, Span, merge};
use crate::audit::topic::{Extent, Source, dead_letters};
use crate::clickhouse::{ClickHouse, TABLE};
use crate::deadletters::options::time;
use crate::error::SinkError;
use crate::fault::Fault;
use crate::migrate::MigrateError;
use crate::options::ClickHouseOptions;
use crate::privacy::ingestion;

/// Options of `sink audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditOptions {
    /// Where the topic is.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Where the table is.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// Consumer group whose acknowledged offsets are held against the table
    #[arg(long, value_name = "GROUP", default_value = "sink")]
    pub group: String,
    /// From the first message of this time or later: `2026-03-10`, `2026-03-10T12:00`, both UTC, or as long ago as
    /// `26h`; otherwise all that the table has
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// Up to the first message of this time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
}

/// Two offsets that follow each other in the table, but not by one.
#[derive(Debug, Clone, Copy, Row, Deserialize)]
struct Step {
    previous: i64,
    offset: i64,
}

#[derive(Row, Deserialize)]
struct Summary {
    rows: u64,
    /// After the last row that is acknowledged; 0 where there is none.
    next: i64,
}

#[derive(Row, Deserialize)]
struct Different {
    hits: u64,
}

/// Doubles are looked at closer up to so many ranges a partition.
const CLOSER: usize = 100;

/// Holds the table against the topic.
///
/// # Errors
/// Where ClickHouse or Kafka can't be used. That something is wrong with the table is no error here.
pub async fn audit(options: AuditOptions) -> Result<Report, SinkError> {
    let clickhouse = ClickHouse::new(&options.clickhouse);
    let (source, extents) = {
        let options = options.clone();
        in_background(move || {
            let source = Source::open(&options.kafka, &options.group)?;
            let extents = source.extents(options.from, options.to)?;
            Ok((source, extents))
        })
        .await?
    };
    let mut partitions = Vec::new();
    for extent in &extents {
        partitions.push(of_partition(&clickhouse, extent).await?);
    }
    if !extents.iter().any(|extent| extent.is_committed) && partitions.iter().any(|partition| partition.rows > 0) {
        return Err(SinkError::Unacknowledged { group: options.group });
    }
    let mut partitions = in_background(move || {
        for partition in &mut partitions {
            partition.missing = source.readable(partition.partition, &partition.gaps)?;
        }
        Ok(partitions)
    })
    .await?;
    for partition in &mut partitions {
        leave_out_erased(&clickhouse, partition).await?;
    }
    let kafka = options.kafka;
    in_background(move || {
        if partitions.iter().any(|partition| !partition.missing.is_empty()) {
            let letters = dead_letters(&kafka, &kafka.topic(&HITS_ENRICHED))?;
            partitions.iter_mut().for_each(|partition| partition.account_for(&letters));
        }
        Ok(Report { partitions })
    })
    .await
}

async fn of_partition(clickhouse: &ClickHouse, extent: &Extent) -> Result<PartitionReport, SinkError> {
    let Extent { partition, begin, low, acknowledged, end, .. } = *extent;
    let database = clickhouse.database();
    let until = end.map_or(String::new(), |end| format!(" AND kafka_offset < {end}"));
    let condition = format!("kafka_partition = {partition} AND kafka_offset >= {begin}{until}");
    let before = begin - 1;
    let steps: Vec<Step> = rows(
        clickhouse,
        &format!(
            "SELECT previous, kafka_offset AS offset FROM (SELECT kafka_offset, lagInFrame(kafka_offset, 1, toInt64({before})) \
             OVER (ORDER BY kafka_offset ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS previous FROM {database}.{TABLE} \
             WHERE {condition}) WHERE kafka_offset - previous != 1 ORDER BY kafka_offset"
        ),
    )
    .await?;
    let summary: Vec<Summary> = rows(
        clickhouse,
        &format!(
            "SELECT count() AS rows, maxOrDefaultIf(kafka_offset + 1, kafka_offset < {acknowledged}) AS next FROM \
             {database}.{TABLE} WHERE {condition}"
        ),
    )
    .await?;
    let (rows, next) = summary.first().map_or((0, 0), |summary| (summary.rows, summary.next));
    let mut report = PartitionReport { partition, rows, checked: acknowledged - low, ..Default::default() };
    let copies: Vec<i64> = steps.iter().filter(|step| step.offset == step.previous).map(|step| step.offset).collect();
    for span in merge(copies) {
        report.doubles.push((span, hits_of(clickhouse, partition, span, report.doubles.len()).await?));
    }
    let gaps = steps.iter().filter(|step| step.offset > step.previous && step.offset < acknowledged);
    let gaps = gaps.map(|step| Span { first: step.previous + 1, last: step.offset - 1 });
    // After the last row nothing follows that would show a gap.
    let tail = Span { first: next.max(begin), last: acknowledged - 1 };
    for gap in gaps.chain([tail]) {
        report.before_the_beginning += Span { last: gap.last.min(low - 1), ..gap }.length();
        let gap = Span { first: gap.first.max(low), ..gap };
        if gap.length() > 0 {
            report.gaps.push(gap);
        }
    }
    Ok(report)
}

/// What somebody had erased has no row on purpose.
async fn leave_out_erased(clickhouse: &ClickHouse, report: &mut PartitionReport) -> Result<(), SinkError> {
    let (Some(first), Some(last)) = (report.missing.first(), report.missing.last()) else { return Ok(()) };
    let erased = ingestion::erased(clickhouse, report.partition, &(*first..=*last)).await.map_err(failed)?;
    report.leave_out(&erased);
    Ok(())
}

/// How many different hits stand at these offsets; more than offsets where it was not one message that is there twice.
async fn hits_of(clickhouse: &ClickHouse, partition: i32, span: Span, number: usize) -> Result<Option<u64>, SinkError> {
    if number >= CLOSER {
        return Ok(None);
    }
    let (database, Span { first, last }) = (clickhouse.database(), span);
    let query = format!(
        "SELECT uniqExact(hit_id) AS hits FROM {database}.{TABLE} \
         WHERE kafka_partition = {partition} AND kafka_offset BETWEEN {first} AND {last}"
    );
    let found: Vec<Different> = rows(clickhouse, &query).await?;
    Ok(found.first().map(|found| found.hits))
}

async fn rows<R: clickhouse::RowOwned + clickhouse::RowRead>(
    clickhouse: &ClickHouse,
    query: &str,
) -> Result<Vec<R>, SinkError> {
    clickhouse.rows(query).await.map_err(failed)
}

fn failed(fault: Fault) -> SinkError {
    SinkError::Migrate(MigrateError::Query { fault })
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SinkError::Ended("the audit"))?
}
