//! The clock that tells how old spooled hits are.

use std::time::{Duration, Instant};

/// The machine's clock, but never further than the time that has passed since the start: a clock that is put ahead while
/// hits wait for Kafka would make all of them too old at once. One that is put back counts as it is, and they wait longer.
///
/// Of what an earlier process left, only the machine's clock can tell the age: it is to be right when the collector starts.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    began_at: i64,
}

impl Clock {
    /// A clock that starts when the machine's says `began_at`, milliseconds since 1970.
    pub fn start(began_at: i64) -> Self {
        Self { began: Instant::now(), began_at }
    }

    /// What time it is, where the machine's clock says `told`; both milliseconds since 1970.
    pub fn now(&self, told: i64) -> i64 {
        self.after(self.began.elapsed(), told)
    }

    fn after(&self, passed: Duration, told: i64) -> i64 {
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        told.min(self.began_at.saturating_add(passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_clock_that_is_put_ahead_makes_no_hit_older() {
        let clock = Clock::start(100 * HOUR);
        let hour = Duration::from_secs(3600);
        assert_eq!(clock.after(hour, 101 * HOUR), 101 * HOUR);
        assert_eq!(clock.after(hour, 900 * HOUR), 101 * HOUR);
        assert_eq!(clock.after(2 * hour, 102 * HOUR), 102 * HOUR);
    }

    #[test]
    fn a_clock_that_is_put_back_counts_as_it_is() {
        assert_eq!(Clock::start(100 * HOUR).after(Duration::from_secs(3600), 99 * HOUR), 99 * HOUR);
    }
}
