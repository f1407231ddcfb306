//! Months, as the table is partitioned by them.

use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};

use crate::native::columns::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};

/// A calendar month in UTC, as the points in time that are in it, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    start: i64,
    end: i64,
}

/// As the table holds it, and so as ClickHouse sees the month.
fn as_stored(timestamp: i64) -> i64 {
    timestamp.clamp(EARLIEST_TIMESTAMP, LATEST_TIMESTAMP)
}

impl Month {
    /// The month that a point in time is in, Unix milliseconds.
    #[must_use]
    pub fn of(timestamp: i64) -> Self {
        let timestamp = as_stored(timestamp);
        Self::around(timestamp).unwrap_or(Self { start: timestamp, end: timestamp + 1 })
    }

    /// Works for every point in time that the table can hold.
    fn around(timestamp: i64) -> Option<Self> {
        let first = Offset::UTC.to_datetime(Timestamp::from_millisecond(timestamp).ok()?).date().first_of_month();
        let next = first.checked_add(1.month()).ok()?;
        let midnight = |day: Date| Offset::UTC.to_timestamp(day.to_datetime(Time::midnight())).ok();
        Some(Self { start: midnight(first)?.as_millisecond(), end: midnight(next)?.as_millisecond() })
    }

    /// Whether a point in time is in it, Unix milliseconds.
    #[must_use]
    pub fn contains(&self, timestamp: i64) -> bool {
        (self.start..self.end).contains(&as_stored(timestamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_with_its_first_millisecond_and_ends_before_the_next() {
        // 2024-02-29 12:00:00 UTC; February 2024 is 1706745600 to 1709251200.
        let february = Month::of(1_709_208_000_000);
        assert!(february.contains(1_706_745_600_000) && february.contains(1_709_251_199_999));
        assert!(!february.contains(1_706_745_599_999) && !february.contains(1_709_251_200_000));
    }

    #[test]
    fn what_the_table_cannot_hold_is_in_the_month_it_is_stored_in() {
        assert!(Month::of(i64::MAX).contains(LATEST_TIMESTAMP) && Month::of(LATEST_TIMESTAMP).contains(i64::MAX));
        assert!(Month::of(i64::MIN).contains(EARLIEST_TIMESTAMP));
        assert!(!Month::of(0).contains(-1));
    }
}
