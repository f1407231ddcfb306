//! How much traffic, of when.

/// A day, milliseconds.
pub const DAY: i64 = 24 * 3_600_000;

/// What decides the traffic: the same settings make the same hits, byte for byte.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Decides all that is drawn.
    pub seed: u64,
    /// Rows to make, about: repeats and robots included, some tens more or fewer.
    pub hits: u64,
    /// When the first visit may begin, Unix milliseconds.
    pub start: i64,
    /// When the last hit has arrived, Unix milliseconds.
    pub end: i64,
    /// Sites, one to five.
    pub sites: usize,
    /// Companies that people come from.
    pub companies: usize,
}

impl Settings {
    /// Ninety days that end at a point in time (Unix milliseconds), on five sites.
    #[must_use]
    pub fn new(seed: u64, hits: u64, end: i64) -> Self {
        let companies = (hits / 4_000).clamp(40, 20_000) as usize;
        Self { seed, hits, start: end - 90 * DAY, end, sites: 5, companies }
    }

    /// The same over another time, milliseconds.
    #[must_use]
    pub fn lasting(self, milliseconds: i64) -> Self {
        Self { start: self.end - milliseconds, ..self }
    }
}
