//! How long to wait before sending again.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
const FIRST_SLOWDOWN: Duration = Duration::from_millis(500);
const LONGEST_SLOWDOWN: Duration = Duration::from_secs(30);

/// Between half of `duration` and all of it, so that sinks that failed together do not come back together.
fn spread(duration: Duration) -> Duration {
    let half = duration / 2;
    let share = RandomState::new().hash_one(()) % 1024;
    half + half * (share as u32) / 1024
}

/// Waiting times of one thing that is tried again and again: twice as long each time.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        let wait = FIRST_RETRY.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_RETRY);
        self.attempts += 1;
        spread(wait)
    }
}

/// A pace that all inserts keep: when ClickHouse has too much to do, all of them wait.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Slowdown>);

#[derive(Debug, Default)]
struct Slowdown {
    until: Option<Instant>,
    wait: Duration,
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, Slowdown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// ClickHouse has too much to do: everything waits, longer each time.
    pub fn slow_down(&self) {
        let mut state = self.state();
        let now = Instant::now();
        if state.until.is_some_and(|until| now < until) {
            // One of several that were told the same at the same time.
            return;
        }
        state.wait = (state.wait * 2).clamp(FIRST_SLOWDOWN, LONGEST_SLOWDOWN);
        state.until = Some(now + spread(state.wait));
    }

    /// Something was stored: the next slow-down begins shorter.
    pub fn speed_up(&self) {
        let mut state = self.state();
        state.wait /= 2;
    }

    /// Waits as long as everything has to.
    pub async fn wait(&self) {
        loop {
            let until = self.state().until;
            match until.filter(|until| Instant::now() < *until) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..12).map(|_| backoff.next_wait()).collect();
        assert!((FIRST_RETRY / 2..=FIRST_RETRY).contains(&waits[0]), "{waits:?}");
        assert!((FIRST_RETRY..=FIRST_RETRY * 2).contains(&waits[1]), "{waits:?}");
        assert!((LONGEST_RETRY / 2..=LONGEST_RETRY).contains(&waits[11]), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_wait_when_told_to_and_several_at_once_count_once() {
        let pace = Pace::default();
        let start = Instant::now();
        pace.wait().await;
        assert_eq!(Instant::now(), start);
        (0..10).for_each(|_| pace.slow_down());
        pace.wait().await;
        let waited = Instant::now() - start;
        assert!((FIRST_SLOWDOWN / 2..=FIRST_SLOWDOWN + Duration::from_millis(2)).contains(&waited), "{waited:?}");
    }
}
