//! Hit ids that tell which hit of a run they name, and which hits of a run were answered for.

use uuid::{Builder, Uuid};

/// Bits of a UUIDv7 that are neither time, version nor variant, in its second half.
const RANDOM_BITS: u32 = 62;
const RANDOM_MASK: u64 = (1 << RANDOM_BITS) - 1;
/// Hits of one run at most.
const SEQUENCE_BITS: u32 = 40;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
/// Odd, so that multiplying by it can be undone; its bits are those of the golden ratio.
const FACTOR: u64 = 0x1e37_79b9_7f4a_7c15;

/// The hit ids of one run: UUIDv7 (RFC 9562) that look random, as real ones do to the codecs of a database, and from
/// which the number of the hit can still be read. All have the time at which the run was prepared.
#[derive(Debug, Clone, Copy)]
pub struct HitIds {
    /// Unix milliseconds.
    milliseconds: u64,
    /// Tells one run's ids from another's; the upper 22 bits.
    run: u64,
}

impl HitIds {
    /// Ids of a run at a time in Unix milliseconds, the same for the same `seed` and time.
    #[must_use]
    pub fn new(seed: u64, milliseconds: u64) -> Self {
        Self { milliseconds, run: scramble(seed & RANDOM_MASK) & !SEQUENCE_MASK & RANDOM_MASK }
    }

    /// The id of the hit with this number.
    #[must_use]
    pub fn id(&self, sequence: u64) -> Uuid {
        let random = scramble(self.run | (sequence & SEQUENCE_MASK));
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&(random as u16).to_be_bytes());
        bytes[2..].copy_from_slice(&random.to_be_bytes());
        Builder::from_unix_timestamp_millis(self.milliseconds, &bytes).into_uuid()
    }

    /// The number of the hit, where the id is one of this run.
    #[must_use]
    pub fn sequence(&self, id: Uuid) -> Option<u64> {
        let value = unscramble(id.as_u64_pair().1 & RANDOM_MASK);
        (value & !SEQUENCE_MASK == self.run).then_some(value & SEQUENCE_MASK)
    }
}

/// A permutation of the numbers of 62 bits.
fn scramble(value: u64) -> u64 {
    let value = value.wrapping_mul(FACTOR) & RANDOM_MASK;
    let value = value ^ (value >> (RANDOM_BITS / 2));
    value.wrapping_mul(FACTOR) & RANDOM_MASK
}

fn unscramble(value: u64) -> u64 {
    let value = value.wrapping_mul(inverse(FACTOR)) & RANDOM_MASK;
    let value = value ^ (value >> (RANDOM_BITS / 2));
    value.wrapping_mul(inverse(FACTOR)) & RANDOM_MASK
}

/// What undoes a multiplication by an odd number modulo 2^64: Newton's iteration, from five bits that are right to 80.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = (3u64.wrapping_mul(odd)) ^ 2;
    let mut round = 0;
    while round < 4 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
}

/// A set of hit numbers: one bit each.
#[derive(Debug, Clone, Default)]
pub struct HitSet {
    words: Vec<u64>,
    count: u64,
}

impl HitSet {
    /// Adds a number; false where it was there.
    pub fn insert(&mut self, sequence: u64) -> bool {
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= self.words.len() {
            self.words.resize((word + 1).next_power_of_two(), 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    /// Whether a number is there.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        self.words.get((sequence / 64) as usize).is_some_and(|word| word & (1 << (sequence % 64)) != 0)
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let most = self.words.len() as u64 * 64;
        (0..most).filter(|sequence| self.contains(*sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_its_time_that_tells_its_number() {
        let (ids, others) = (HitIds::new(1, 1_767_225_600_123), HitIds::new(2, 1_767_225_600_123));
        for sequence in [0, 1, 99, 1 << 20, SEQUENCE_MASK] {
            let id = ids.id(sequence);
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            assert_eq!(id.get_timestamp().unwrap().to_unix(), (1_767_225_600, 123_000_000));
            assert_eq!(ids.sequence(id), Some(sequence));
            assert_eq!(others.sequence(id), None);
        }
        assert_eq!(ids.sequence(Uuid::nil()), None);
    }

    #[test]
    fn a_set_counts_each_number_once() {
        let mut set = HitSet::default();
        assert!(set.insert(3) && set.insert(64) && set.insert(1_000) && !set.insert(64));
        assert_eq!((set.count(), set.iter().collect::<Vec<_>>()), (3, vec![3, 64, 1_000]));
        assert!(!set.contains(4) && !set.contains(1 << 40));
    }
}
