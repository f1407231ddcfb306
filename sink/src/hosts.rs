//! Several ClickHouse servers with the same tables: which of them is asked next.
//!
//! A host that failed rests, twice as long each time, and is then tried again; the others are asked in turn meanwhile.
//! Where all of them rest, they are asked in turn all the same: it is for the caller to wait between attempts, never for
//! this to refuse one.
//!
//! A host whose rest is over is on trial: one caller gets it, told so, to ask it something harmless before it trusts it
//! with an insert that it might keep for a whole time-out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The rest after a first failure.
pub const FIRST_REST: Duration = Duration::from_secs(5);
/// The longest rest.
pub const LONGEST_REST: Duration = Duration::from_secs(300);

/// What is known of a host.
#[derive(Debug, Clone, Copy, Default)]
struct Health {
    /// Failures since it last did what it was asked.
    failures: u32,
    rests_until: Option<Instant>,
    /// Its rest was over and somebody tries it.
    is_on_trial: bool,
}

impl Health {
    fn rest(self) -> Duration {
        FIRST_REST.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(LONGEST_REST)
    }

    fn is_resting(self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

/// A host that is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Its place in the list.
    pub host: usize,
    /// Whether it failed before and is tried again.
    pub is_trial: bool,
}

/// Hosts, by their places in a list.
#[derive(Debug)]
pub struct Hosts(Mutex<State>);

#[derive(Debug)]
struct State {
    hosts: Vec<Health>,
    next: usize,
}

impl Hosts {
    /// So many hosts of which nothing is known; one at least.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(Mutex::new(State { hosts: vec![Health::default(); count.max(1)], next: 0 }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host to ask now.
    pub fn choose(&self) -> Choice {
        let (mut state, now) = (self.state(), Instant::now());
        let count = state.hosts.len();
        if count == 1 {
            return Choice { host: 0, is_trial: false };
        }
        let is_due = |health: &Health| health.rests_until.is_some_and(|until| until <= now);
        if let Some(host) = state.hosts.iter().position(is_due) {
            let health = &mut state.hosts[host];
            // The others do not follow before it is known how this one fares.
            health.rests_until = Some(now + health.rest());
            health.is_on_trial = true;
            return Choice { host, is_trial: true };
        }
        let mut in_turn = (0..count).map(|step| (state.next + step) % count);
        let host = in_turn.find(|host| !state.hosts[*host].is_resting(now)).unwrap_or(state.next);
        state.next = (host + 1) % count;
        Choice { host, is_trial: false }
    }

    /// The order in which to ask for what any of them can answer: as they are listed, those that rest last.
    #[must_use]
    pub fn in_order(&self) -> Vec<usize> {
        let (state, now) = (self.state(), Instant::now());
        let mut order: Vec<usize> = (0..state.hosts.len()).collect();
        order.sort_by_key(|host| state.hosts[*host].is_resting(now));
        order
    }

    /// A host did what it was asked. Gives whether it had failed before.
    pub fn succeed(&self, host: usize) -> bool {
        std::mem::take(&mut self.state().hosts[host]).failures > 0
    }

    /// A host failed. Gives for how long it rests.
    pub fn fail(&self, host: usize) -> Duration {
        let mut state = self.state();
        let (now, health) = (Instant::now(), &mut state.hosts[host]);
        if let Some(until) = health.rests_until.filter(|until| now < *until && !health.is_on_trial) {
            // One of several requests that failed together.
            return until - now;
        }
        health.failures = health.failures.saturating_add(1);
        let rest = health.rest();
        (health.rests_until, health.is_on_trial) = (Some(now + rest), false);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(hosts: &Hosts, count: usize) -> Vec<usize> {
        (0..count).map(|_| hosts.choose().host).collect()
    }

    #[test]
    fn those_that_work_are_asked_in_turn() {
        assert_eq!(chosen(&Hosts::new(3), 6), [0, 1, 2, 0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_failed_rests_and_is_then_tried_by_one() {
        let hosts = Hosts::new(3);
        assert_eq!(hosts.fail(1), FIRST_REST);
        assert_eq!(chosen(&hosts, 4), [0, 2, 0, 2]);
        assert_eq!(hosts.in_order(), [0, 2, 1]);
        tokio::time::sleep(FIRST_REST).await;
        assert_eq!(hosts.choose(), Choice { host: 1, is_trial: true });
        assert_eq!(chosen(&hosts, 2), [0, 2]);
        // It works again.
        assert!(hosts.succeed(1));
        assert!(!hosts.succeed(1));
        assert_eq!(chosen(&hosts, 3), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_rests_longer_each_time_up_to_a_limit() {
        let hosts = Hosts::new(2);
        let mut rests = Vec::new();
        for _ in 0..9 {
            rests.push(hosts.fail(0).as_secs());
            tokio::time::sleep(LONGEST_REST).await;
        }
        assert_eq!(rests, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_rest_they_are_asked_in_turn_and_whoever_answers_is_back() {
        let hosts = Hosts::new(2);
        hosts.fail(1);
        hosts.fail(0);
        assert_eq!(chosen(&hosts, 4), [0, 1, 0, 1]);
        assert!(hosts.succeed(1));
        assert_eq!(chosen(&hosts, 2), [1, 1]);
    }

    #[test]
    fn one_alone_is_always_asked() {
        let hosts = Hosts::new(1);
        hosts.fail(0);
        assert_eq!(hosts.choose(), Choice { host: 0, is_trial: false });
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_fails_doubles_the_rest() {
        let hosts = Hosts::new(2);
        hosts.fail(0);
        tokio::time::sleep(FIRST_REST).await;
        assert_eq!(hosts.choose(), Choice { host: 0, is_trial: true });
        assert_eq!(hosts.fail(0), 2 * FIRST_REST);
        assert_eq!(chosen(&hosts, 2), [1, 1]);
    }

    /// Four inserts that were on their way when a host died are one failure.
    #[tokio::test(start_paused = true)]
    async fn failures_at_the_same_time_count_once() {
        let hosts = Hosts::new(2);
        (0..4).for_each(|_| assert_eq!(hosts.fail(0), FIRST_REST));
    }
}
