//! Waits that grow while something fails again and again.

use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits of `first`, then always twice the one before, `longest` at most.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// It failed: how long to wait now.
    pub fn fail(&mut self) -> Duration {
        let wait = self.next;
        self.next = if wait.is_zero() { SHORTEST } else { wait * 2 }.min(self.longest);
        wait
    }

    /// It went well.
    pub fn succeed(&mut self) {
        self.next = self.first;
    }
}

/// The second wait where the first is none.
const SHORTEST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: &mut Backoff, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.fail().as_millis()).collect()
    }

    #[test]
    fn waits_double_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        assert_eq!(waits(&mut backoff, 5), [100, 200, 400, 500, 500]);
        backoff.succeed();
        assert_eq!(waits(&mut backoff, 2), [100, 200]);
    }

    #[test]
    fn a_first_failure_may_cost_no_wait() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::from_secs(5));
        assert_eq!(waits(&mut backoff, 4), [0, 50, 100, 200]);
    }
}
