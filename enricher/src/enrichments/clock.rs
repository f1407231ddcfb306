//! When it happened. Clients' clocks are wrong by seconds to years. The collector knows when the hit arrived and, from
//! clients that tell when they sent it, how wrong their clock is.

use schemas::{EnrichedHit, RawHit};

use super::{Context, Problem, note};

const SECOND: i64 = 1_000;
const DAY: i64 = 24 * 3_600 * SECOND;
/// Hits may wait on a device that is offline, but not for longer than this.
const LONGEST_WAIT: i64 = 7 * DAY;
/// Without a time of sending, a client's time is believed only if it is not older than this.
const BELIEVED_AGE: i64 = DAY;
/// Clocks that are kept by the network are this exact.
const TOLERANCE: i64 = 5 * SECOND;

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, _: &Context<'a>) {
    hit.clock_skew_ms = skew(&hit.hit);
    let (occurred, problem) = occurred_at(&hit.hit);
    hit.occurred_at = occurred;
    if let Some(problem) = problem {
        note(hit, problem);
    }
}

fn skew(hit: &RawHit<'_>) -> Option<i64> {
    hit.sent_at.map(|sent| hit.received_at.saturating_sub(sent))
}

/// When a hit happened, Unix milliseconds, and what was wrong with what its client says of that.
pub(crate) fn occurred_at(hit: &RawHit<'_>) -> (i64, Option<Problem>) {
    match (hit.client_time, skew(hit)) {
        (None, _) => (hit.received_at, None),
        (Some(time), Some(skew)) => corrected(time.saturating_add(skew), hit.received_at),
        (Some(time), None) => believed(time, hit.received_at),
    }
}

fn corrected(time: i64, received: i64) -> (i64, Option<Problem>) {
    let earliest = received.saturating_sub(LONGEST_WAIT);
    let clamped = time.clamp(earliest, received);
    (clamped, (time.abs_diff(clamped) > TOLERANCE.unsigned_abs()).then_some(Problem::ClientTimeClamped))
}

fn believed(time: i64, received: i64) -> (i64, Option<Problem>) {
    let plausible = received.saturating_sub(BELIEVED_AGE)..=received.saturating_add(TOLERANCE);
    if plausible.contains(&time) {
        (time.min(received), None)
    } else {
        (received, Some(Problem::ClientTimeImplausible))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Knowledge, problems};
    use super::*;

    /// 2023-11-14 22:13:20 UTC.
    const RECEIVED: i64 = 1_700_000_000_000;

    fn clock(client_time: Option<i64>, sent_at: Option<i64>) -> (i64, Option<i64>, Vec<String>) {
        let knowledge = Knowledge::default();
        let raw = RawHit { received_at: RECEIVED, client_time, sent_at, ..RawHit::default() };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        add(&mut hit, &knowledge.context());
        (hit.occurred_at, hit.clock_skew_ms, problems(&hit))
    }

    #[test]
    fn a_clock_that_is_an_hour_slow_is_corrected() {
        let hour = 3_600_000;
        // It happened 2 s before it was sent, and arrived at once.
        let (occurred, skew, problems) = clock(Some(RECEIVED - hour - 2_000), Some(RECEIVED - hour));
        assert_eq!((occurred, skew), (RECEIVED - 2_000, Some(hour)));
        assert!(problems.is_empty());
    }

    #[test]
    fn a_clock_that_is_years_fast_is_corrected() {
        let years = 10 * 365 * DAY;
        let (occurred, skew, _) = clock(Some(RECEIVED + years - 60_000), Some(RECEIVED + years));
        assert_eq!((occurred, skew), (RECEIVED - 60_000, Some(-years)));
    }

    #[test]
    fn a_corrected_time_is_clamped_to_the_week_before_arrival() {
        let (occurred, _, problems) = clock(Some(RECEIVED - 8 * DAY), Some(RECEIVED));
        assert_eq!(occurred, RECEIVED - 7 * DAY);
        assert_eq!(problems, ["client_time_clamped"]);
        // It can't have happened after it was sent; a little after is the clock's grain and no problem.
        assert_eq!(clock(Some(RECEIVED + 10), Some(RECEIVED)), (RECEIVED, Some(0), vec![]));
        assert_eq!(clock(Some(RECEIVED + 5_001), Some(RECEIVED)).2, ["client_time_clamped"]);
    }

    #[test]
    fn without_a_time_of_sending_only_a_plausible_time_is_believed() {
        assert_eq!(clock(Some(RECEIVED - DAY), None), (RECEIVED - DAY, None, vec![]));
        assert_eq!(clock(Some(RECEIVED + 5_000), None), (RECEIVED, None, vec![]));
        for impossible in [RECEIVED - DAY - 1, RECEIVED + 5_001, 0, i64::MIN, i64::MAX] {
            let expected = (RECEIVED, None, vec!["client_time_implausible".to_owned()]);
            assert_eq!(clock(Some(impossible), None), expected);
        }
    }

    #[test]
    fn without_a_client_time_it_happened_on_arrival() {
        assert_eq!(clock(None, None), (RECEIVED, None, vec![]));
        assert_eq!(clock(None, Some(RECEIVED - 5)), (RECEIVED, Some(5), vec![]));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        for client in [i64::MIN, i64::MAX] {
            for sent in [i64::MIN, i64::MAX] {
                let (occurred, _, _) = clock(Some(client), Some(sent));
                assert!((RECEIVED - 7 * DAY..=RECEIVED).contains(&occurred));
            }
        }
    }
}
