//! Fenced intents: what a sink is about to insert, written where only the owner of the partition can write. Pure.
//!
//! # The protocol, for each partition
//!
//! 1. A batch is cut freely. Its offsets, first to last, become a [`Range`].
//! 2. Before anything of it is inserted, the first offset that is not acknowledged is committed, with metadata that
//!    lists the ranges from there on: `hitmeter/1 epoch=0 100-199 200-350`.
//! 3. The range is inserted as one block into one partition of the table, under the token
//!    epoch/topic/partition/first-last. A retry sends the same bytes under the same token.
//! 4. It is acknowledged by moving the offset and shortening the list, in one commit.
//! 5. Whoever is assigned the partition reads offset and list, reads the listed ranges again, cuts at their ends and
//!    nowhere else, inserts them under their tokens, and then goes on.
//!
//! # Why each offset lands exactly once
//!
//! - *Nothing is inserted that is not listed.* An insert is sent only after the commit that lists it was answered with
//!   success; a commit that fails, or whose answer does not come, is repeated first.
//! - *A list is never overwritten by an older one.* One thread makes all commits, each waits for its answer, so there is
//!   one at a time. The broker takes them from members of the current generation only; a sink that lost the partition gets
//!   an error and inserts nothing new.
//! - *The next owner sees every list that was accepted.* The broker answers the assignment of a new generation after
//!   that was written to the group's log, where it stands behind all commits of earlier generations.
//! - *So every insert of an earlier owner, also one that arrives late, is of a listed range*: it was listed before it was
//!   sent, and it stays listed until it is stored. The next owner inserts the same offsets under the same token, and
//!   ClickHouse drops whichever comes second, as long as it remembers the token: see [`window`](crate::window).
//! - *And nothing is left out*: ranges follow each other from the committed offset, reading goes on behind the last one. A
//!   ClickHouse that was killed may know a token and not have the rows; what a range lacks after a failed attempt, or when it
//!   is made again, is inserted under a token that everybody derives alike from the range: see [`load`](crate::load).
//!
//! What the argument rests on, besides Kafka and ClickHouse doing what they document: the topic's records are still there
//! when a range is read again (a range whose records are gone is told and counted); a table's constraints are not relaxed
//! while a range that was split because of them is listed; and a member without `--group-instance-id` that was paused, lost
//! its partition, and wakes up when the group has become empty meanwhile, is told so before it commits; and a broker
//! does not handle a commit whose connection broke after a later commit of the same member. `tests/pure/model.rs` searches
//! the protocol through, in the small.

use std::fmt::Write as _;
use std::sync::Arc;

/// Most ranges of a partition that are listed at a time. The broker takes 4,096 bytes of metadata by default; so many
/// ranges of the largest offsets, each under another epoch of the largest length, fit.
pub const MOST_RANGES: usize = 32;
/// Longest name of an epoch.
pub const LONGEST_EPOCH: usize = 32;

const MARK: &str = "hitmeter/1";

/// Offsets that are inserted under one token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Range {
    /// First part of the token.
    pub epoch: Arc<str>,
    /// First offset.
    pub first: i64,
    /// Last offset.
    pub last: i64,
}

/// Why metadata can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the metadata {metadata:?} of the committed offset {why}; run the version that wrote it until it has stopped orderly, or \
     reset the group's offsets"
)]
pub struct IntentError {
    /// What was read.
    pub metadata: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The metadata that lists these ranges.
#[must_use]
pub fn write<'a>(ranges: impl IntoIterator<Item = &'a Range>) -> String {
    let mut metadata = MARK.to_owned();
    let mut epoch: Option<&str> = None;
    for range in ranges {
        if epoch != Some(&range.epoch) {
            epoch = Some(&range.epoch);
            metadata.push_str(" epoch=");
            metadata.push_str(&range.epoch);
        }
        // Writing to a text does not fail.
        let _ = write!(metadata, " {}-{}", range.first, range.last);
    }
    metadata
}

/// The ranges that metadata lists. None where somebody else wrote it: an offset that was committed by a tool.
///
/// # Errors
/// Where it is of another version, or not as [`write()`] writes it: going on would insert twice.
pub fn read(metadata: &str) -> Result<Vec<Range>, IntentError> {
    let wrong = |why| IntentError { metadata: metadata.to_owned(), why };
    let mut words = metadata.split(' ');
    match words.next() {
        Some(MARK) => {}
        Some(other) if other.starts_with("hitmeter/") => return Err(wrong("is of a version that is not known here")),
        _ => return Ok(Vec::new()),
    }
    let (mut epoch, mut ranges): (Option<Arc<str>>, Vec<Range>) = (None, Vec::new());
    for word in words {
        if let Some(name) = word.strip_prefix("epoch=") {
            epoch = Some(name.into());
            continue;
        }
        let epoch = epoch.clone().ok_or_else(|| wrong("names a range without an epoch"))?;
        let offsets = word.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let (first, last): (i64, i64) = offsets.ok_or_else(|| wrong("has a range that is none"))?;
        let after = ranges.last().map_or(-1, |range| range.last);
        if !(after < first && first <= last) {
            return Err(wrong("has ranges out of order"));
        }
        ranges.push(Range { epoch, first, last });
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(epoch: &str, first: i64, last: i64) -> Range {
        Range { epoch: epoch.into(), first, last }
    }

    #[test]
    fn it_reads_as_documented() {
        let ranges = [range("0", 100, 199), range("0", 200, 350)];
        assert_eq!(write(&ranges), "hitmeter/1 epoch=0 100-199 200-350");
        let ranges = [range("0", 100, 199), range("b", 200, 350), range("b", 351, 351)];
        assert_eq!(write(&ranges), "hitmeter/1 epoch=0 100-199 epoch=b 200-350 351-351");
        assert_eq!(write(&[]), "hitmeter/1");
    }

    #[test]
    fn what_others_wrote_lists_nothing_and_what_is_not_understood_is_no_guess() {
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("kafka-consumer-groups"), Ok(vec![]));
        for wrong in [
            "hitmeter/2 epoch=0 1-2",
            "hitmeter/1 1-2",
            "hitmeter/1 epoch=0 2-1",
            "hitmeter/1 epoch=0 x-1",
            "hitmeter/1 epoch=0 5-9 9-10",
            "hitmeter/1 epoch=0 5",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_longest_list_fits_into_the_metadata_that_a_broker_takes() {
        let epoch = |number: usize| format!("{number:0LONGEST_EPOCH$}");
        let start = i64::MAX - 2 * MOST_RANGES as i64;
        let ranges: Vec<_> =
            (0..MOST_RANGES).map(|n| range(&epoch(n), start + 2 * n as i64, start + 2 * n as i64 + 1)).collect();
        assert!(write(&ranges).len() <= 4096, "{}", write(&ranges).len());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(steps in prop::collection::vec((0i64..9, 0i64..1000, 0u8..3), 0..MOST_RANGES)) {
            let mut next = 0;
            let ranges: Vec<_> = steps.iter().map(|(gap, length, epoch)| {
                let first = next + gap;
                next = first + length + 1;
                range(&epoch.to_string(), first, first + length)
            }).collect();
            prop_assert_eq!(read(&write(&ranges)), Ok(ranges));
        }
    }
}
