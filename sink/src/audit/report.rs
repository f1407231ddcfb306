//! What an audit found, and how it is told. Pure.

use std::collections::HashSet;
use std::fmt;

use clickhouse::Row;
use serde::Deserialize;

/// Offsets from first to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Row, Deserialize)]
pub struct Span {
    /// First.
    pub first: i64,
    /// Last.
    pub last: i64,
}

impl Span {
    /// How many offsets; 0 where it ends before it begins.
    #[must_use]
    pub fn length(&self) -> i64 {
        (self.last - self.first + 1).max(0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(formatter, "offset {}", self.first);
        }
        write!(formatter, "offsets {}-{}", self.first, self.last)
    }
}

/// Offsets in order, as few spans as can be. One that is there several times counts once.
#[must_use]
pub fn merge(offsets: Vec<i64>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for offset in offsets {
        match spans.last_mut() {
            Some(span) if offset <= span.last + 1 => span.last = offset,
            _ => spans.push(Span { first: offset, last: offset }),
        }
    }
    spans
}

/// What was found in one partition.
#[derive(Debug, Clone, Default)]
pub struct PartitionReport {
    /// The partition.
    pub partition: i32,
    /// Rows of it in the table.
    pub rows: u64,
    /// Acknowledged offsets that are still in the topic.
    pub checked: i64,
    /// Offsets that are in the table more than once, and how many different hits stand there, where that was asked.
    pub doubles: Vec<(Span, Option<u64>)>,
    /// Offsets without a row that are no longer in the topic: what stood there can't be told.
    pub before_the_beginning: i64,
    /// Acknowledged offsets without a row that are in the topic, in order.
    pub gaps: Vec<Span>,
    /// Those among them where a message stands that is not accounted for, in order.
    pub missing: Vec<i64>,
    /// Those where a dead letter tells what became of it.
    pub dead: usize,
    /// Those whose hits somebody had erased.
    pub erased: usize,
}

impl PartitionReport {
    /// Takes the offsets that have dead letters, as (partition, offset), from what is missing.
    pub fn account_for(&mut self, letters: &HashSet<(i32, i64)>) {
        let before = self.missing.len();
        self.missing.retain(|offset| !letters.contains(&(self.partition, *offset)));
        self.dead = before - self.missing.len();
    }

    /// Takes the offsets of erased hits from what is missing. The spans are in order of their beginnings.
    pub fn leave_out(&mut self, erased: &[Span]) {
        let before = self.missing.len();
        let (mut spans, mut reached) = (erased.iter().peekable(), i64::MIN);
        self.missing.retain(|offset| {
            while let Some(span) = spans.next_if(|span| span.first <= *offset) {
                reached = reached.max(span.last);
            }
            *offset > reached
        });
        self.erased = before - self.missing.len();
    }

    fn without_a_message(&self) -> i64 {
        let gaps: i64 = self.gaps.iter().map(Span::length).sum();
        gaps - (self.missing.len() + self.dead + self.erased) as i64
    }
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// In each partition.
    pub partitions: Vec<PartitionReport>,
}

impl Report {
    /// Offsets that are in the table more than once.
    #[must_use]
    pub fn doubled(&self) -> i64 {
        self.partitions.iter().flat_map(|partition| &partition.doubles).map(|(span, _)| span.length()).sum()
    }

    /// Offsets whose hits are nowhere.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.partitions.iter().map(|partition| partition.missing.len()).sum()
    }

    /// Whether each offset is where it has to be, once.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.doubled() == 0 && self.missing() == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for report in &self.partitions {
            let number = report.partition;
            writeln!(
                formatter,
                "partition {number}: {} rows; {} acknowledged offsets are in the topic, of those without a row {} are dead \
                 letters, {} were erased and {} are no messages (markers and aborted transactions); {} older ones without a row can't be told",
                report.rows,
                report.checked,
                report.dead,
                report.erased,
                report.without_a_message(),
                report.before_the_beginning,
            )?;
            for (span, hits) in &report.doubles {
                let different = match hits {
                    Some(hits) if i64::try_from(*hits).is_ok_and(|hits| hits > span.length()) => {
                        ", and they are different hits: the topic was made anew, or they were loaded from another"
                    }
                    _ => "",
                };
                writeln!(formatter, "partition {number}: DOUBLE: {span} in the table more than once{different}")?;
            }
            for span in merge(report.missing.clone()) {
                writeln!(formatter, "partition {number}: MISSING: {span} neither in the table nor a dead letter")?;
            }
        }
        match (self.doubled(), self.missing()) {
            (0, 0) => writeln!(formatter, "clean: nothing twice, nothing missing"),
            (doubled, missing) => writeln!(formatter, "not clean: {doubled} offsets twice, {missing} missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_spans() {
        let span = |first, last| Span { first, last };
        assert_eq!(merge(vec![]), []);
        assert_eq!(merge(vec![3, 4, 4, 5, 7, 9, 10]), [span(3, 5), span(7, 7), span(9, 10)]);
        assert_eq!((span(3, 5).length(), span(3, 2).length(), span(3, -9).length()), (3, 0, 0));
    }

    #[test]
    fn what_was_erased_is_not_missing() {
        let mut partition = PartitionReport { missing: vec![1, 2, 5, 6, 9], ..PartitionReport::default() };
        partition.leave_out(&[Span { first: 2, last: 5 }, Span { first: 3, last: 3 }, Span { first: 9, last: 20 }]);
        assert_eq!((partition.missing, partition.erased), (vec![1, 6], 3));
    }

    #[test]
    fn it_is_told_which_offsets() {
        let mut partition = PartitionReport {
            partition: 3,
            rows: 96,
            checked: 100,
            doubles: vec![(Span { first: 7, last: 8 }, Some(2)), (Span { first: 20, last: 20 }, Some(2))],
            gaps: vec![Span { first: 50, last: 55 }],
            missing: vec![50, 51, 53],
            ..PartitionReport::default()
        };
        partition.account_for(&HashSet::from([(3, 53), (4, 50)]));
        let report = Report { partitions: vec![partition] };
        let told = report.to_string();
        assert!(told.contains("partition 3: DOUBLE: offsets 7-8 in the table more than once\n"), "{told}");
        assert!(
            told.contains("partition 3: DOUBLE: offset 20 in the table more than once, and they are different"),
            "{told}"
        );
        assert!(told.contains("partition 3: MISSING: offsets 50-51 neither"), "{told}");
        assert!(told.contains("1 are dead letters, 0 were erased and 3 are no messages"), "{told}");
        assert!(told.ends_with("not clean: 3 offsets twice, 2 missing\n") && !report.is_clean(), "{told}");
    }
}
