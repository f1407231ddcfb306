//! When visits begin: more by day than by night, more on weekdays than on weekends.

use super::settings::DAY;

const HOUR: i64 = 3_600_000;
/// The Unix epoch was a Thursday.
const EPOCH_WEEKDAY: i64 = 3;

/// How much comes in each hour of the day, UTC.
const HOURS: [f64; 24] = [
    2.0, 1.5, 1.2, 1.0, 1.2, 2.0, 4.0, 7.0, 9.0, 10.0, 10.0, 9.0, 8.5, 9.5, 10.0, 9.5, 9.0, 8.0, 7.0, 6.5, 6.0, 5.0,
    4.0, 3.0,
];

/// Spreads traffic over a time.
#[derive(Debug)]
pub(super) struct Calendar {
    start: i64,
    end: i64,
    /// The share of the traffic before the end of each hour since `start`.
    until: Vec<f64>,
    hour: usize,
}

impl Calendar {
    /// Between two points in time, Unix milliseconds.
    pub fn new(start: i64, end: i64) -> Self {
        let mut sum = 0.0;
        let hours = (end - start + HOUR - 1) / HOUR;
        let mut until: Vec<f64> = Vec::with_capacity(hours as usize);
        for hour in 0..hours {
            let at = start + hour * HOUR;
            let part = (end - at).min(HOUR) as f64 / HOUR as f64;
            sum += part * weight(at);
            until.push(sum);
        }
        until.iter_mut().for_each(|share| *share /= sum);
        Self { start, end, until, hour: 0 }
    }

    /// When this share of the traffic has come, Unix milliseconds. Shares are asked for in rising order.
    pub fn time_of(&mut self, share: f64) -> i64 {
        while self.hour + 1 < self.until.len() && self.until[self.hour] < share {
            self.hour += 1;
        }
        let before = if self.hour == 0 { 0.0 } else { self.until[self.hour - 1] };
        let within = ((share - before) / (self.until[self.hour] - before)).clamp(0.0, 1.0);
        let from = self.start + self.hour as i64 * HOUR;
        let length = (self.end - from).min(HOUR);
        from + (within * (length - 1) as f64) as i64
    }
}

fn weight(at: i64) -> f64 {
    let day = at.div_euclid(DAY);
    let is_weekend = (day + EPOCH_WEEKDAY).rem_euclid(7) >= 5;
    HOURS[(at.rem_euclid(DAY) / HOUR) as usize] * if is_weekend { 0.4 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_goes_from_start_to_end_and_rests_at_night() {
        // Thursday, 1970-01-01.
        let mut calendar = Calendar::new(0, DAY);
        let times: Vec<i64> = (0..=1_000).map(|share| calendar.time_of(f64::from(share) / 1_000.0)).collect();
        assert!(times.is_sorted());
        assert_eq!((times[0], times[1_000]), (0, DAY - 1));
        let within = |from: i64, to: i64| times.iter().filter(|time| (from * HOUR..to * HOUR).contains(*time)).count();
        // Of 143.9 parts, 5.7 come from midnight to four, 38 from eight to noon.
        assert!((36..=44).contains(&within(0, 4)), "{}", within(0, 4));
        assert!((255..=273).contains(&within(8, 12)), "{}", within(8, 12));
    }

    #[test]
    fn weekends_are_quieter() {
        assert_eq!(weight(2 * DAY), 0.4 * weight(DAY));
        assert_eq!(weight(4 * DAY), weight(DAY));
    }
}
