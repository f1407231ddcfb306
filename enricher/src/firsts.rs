//! What may happen thousands of times a second: the log tells the first for each reason, and how many there are.

use crate::hit::Coordinates;

/// Messages that are not told of yet, by reason.
#[derive(Debug)]
pub(crate) struct Firsts<Reason>(Vec<First<Reason>>);

/// The first message for a reason, and how many there are.
#[derive(Debug)]
pub(crate) struct First<Reason> {
    pub reason: Reason,
    pub count: u64,
    pub partition: i32,
    pub offset: i64,
    pub detail: String,
}

impl<Reason> Default for Firsts<Reason> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<Reason: PartialEq> Firsts<Reason> {
    /// One more.
    pub fn add(&mut self, reason: Reason, detail: &str, Coordinates { partition, offset, .. }: Coordinates<'_>) {
        match self.0.iter_mut().find(|first| first.reason == reason) {
            Some(first) => first.count += 1,
            None => self.0.push(First { reason, count: 1, partition, offset, detail: detail.to_owned() }),
        }
    }

    /// All of them, which are told of now, or never.
    pub fn take(&mut self) -> Vec<First<Reason>> {
        std::mem::take(&mut self.0)
    }
}
