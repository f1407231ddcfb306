//! Random choices that a seed decides.

use fastrand::Rng;
use uuid::Uuid;

/// A source of random choices; two of the same seed and number make the same ones.
#[derive(Debug, Clone)]
pub(super) struct Dice(Rng);

/// Scatters numbers: different ones stay different (splitmix64, Steele et al. 2014).
pub(super) const fn scatter(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Dice {
    /// The choices of the `number`th of a kind of things; `salt` tells the kinds apart.
    pub fn of(seed: u64, salt: u64, number: u64) -> Self {
        Self(Rng::with_seed(scatter(scatter(seed ^ salt.rotate_left(48)) ^ number)))
    }

    /// True in `share` of the cases.
    pub fn chance(&mut self, share: f64) -> bool {
        self.0.f64() < share
    }

    /// 0 to `end`, without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end.max(1))
    }

    /// From `start` to `end`, without `end`.
    pub fn between(&mut self, start: i64, end: i64) -> i64 {
        self.0.i64(start..end.max(start + 1))
    }

    /// Waiting times around a mean: many short, few long.
    pub fn around(&mut self, mean: f64) -> f64 {
        -(1.0 - self.0.f64()).ln() * mean
    }

    /// 0 to `end`, the first far more often than the last.
    pub fn popular(&mut self, end: usize) -> usize {
        let share = self.0.f64();
        ((share * share * share) * end as f64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// The `number`th id of a kind of things (`salt`) as a UUIDv7 (RFC 9562) of a point in time, Unix milliseconds. Ids of
/// different numbers differ.
pub(super) fn uuid_at(milliseconds: i64, seed: u64, salt: u64, number: u64) -> Uuid {
    // 62 bits that differ with the number, and 12 more.
    let low = scatter(number ^ scatter(seed ^ salt));
    let high = ((milliseconds as u64) << 16) | 0x7000 | (low >> 62) | ((scatter(low) & 0x3ff) << 2);
    Uuid::from_u64_pair(high, (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000)
}
