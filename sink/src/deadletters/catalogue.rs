//! What may be listed of dead letters, and what was done about each.

use std::collections::HashMap;
use std::ops::ControlFlow;

use schemas::{DeadLetter, Stage};
use uuid::Uuid;

use super::archive::{Archive, Found, Place};
use super::marker::{Deed, Mark};
use super::options::Filter;
use crate::error::SinkError;

/// A dead letter without its original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: Uuid,
    /// Where it is in the topic.
    pub place: Place,
    /// Who gave up.
    pub stage: Stage,
    /// Why.
    pub reason: String,
    /// What exactly was wrong; no personal data.
    pub detail: String,
    /// When, Unix milliseconds.
    pub dead_at: i64,
    /// Key of the site, where it is known.
    pub site: String,
    /// Topic that it came from; empty for a request.
    pub source_topic: String,
    /// Partition and offset that it came from.
    pub source: Option<(i32, i64)>,
    /// Size of the original.
    pub original_bytes: usize,
    /// What was done about it, if anything.
    pub deed: Option<Deed>,
}

impl Entry {
    fn of(place: Place, letter: &DeadLetter<'_>) -> Self {
        Self {
            id: letter.dead_letter_id,
            place,
            stage: letter.stage,
            reason: letter.reason.to_string(),
            detail: letter.detail.to_string(),
            dead_at: letter.dead_at,
            site: letter.site.to_string(),
            source_topic: letter.source_topic.to_string(),
            source: letter.source_partition.zip(letter.source_offset),
            original_bytes: letter.original.len(),
            deed: None,
        }
    }

    /// A letter that was delivered twice is one: the sink names the letter of a message always the same.
    fn is_copy_of(&self, other: &Self) -> bool {
        (self.id, self.stage, self.original_bytes, &self.reason)
            == (other.id, other.stage, other.original_bytes, &other.reason)
    }
}

/// The dead letters that a filter lets through, oldest first.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// The letters.
    pub entries: Vec<Entry>,
    /// Letters that would be there, but for what was done about them.
    pub closed: usize,
    /// Messages of the topic that are no dead letters.
    pub unreadable: u64,
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    entries: Vec<Entry>,
    /// Places among the entries, by id.
    by_id: HashMap<Uuid, usize>,
    marks: HashMap<Uuid, Mark>,
}

impl Reading {
    fn take(&mut self, entry: Entry) {
        let known = self.by_id.get(&entry.id).map(|index| &self.entries[*index]);
        if known.is_some_and(|known| entry.is_copy_of(known)) {
            return;
        }
        self.by_id.insert(entry.id, self.entries.len());
        self.entries.push(entry);
    }

    fn mark(&mut self, id: Uuid, mark: Mark) {
        let last = self.marks.entry(id).or_insert(mark);
        if mark.at >= last.at {
            *last = mark;
        }
    }

    fn finish(mut self, filter: &Filter) -> Catalogue {
        for entry in &mut self.entries {
            let mark = self.marks.get(&entry.id).filter(|mark| mark.at >= entry.dead_at);
            entry.deed = mark.map(|mark| mark.deed);
        }
        self.entries.sort_by_key(|entry| (entry.dead_at, entry.place));
        let found = self.entries.len();
        self.entries.retain(|entry| filter.closed || entry.deed.is_none());
        Catalogue { closed: found - self.entries.len(), entries: self.entries, unreadable: 0 }
    }
}

impl Catalogue {
    /// Reads the topic. Blocks.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn read(archive: &Archive, filter: &Filter) -> Result<Self, SinkError> {
        let mut reading = Reading::default();
        let unreadable = archive.read_since(filter.since, |Found { place, letter, .. }| {
            if let Some(mark) = Mark::of(letter, archive.topic()) {
                reading.mark(letter.dead_letter_id, mark);
            } else if filter.lets_through(letter, archive.topic_prefix()) {
                reading.take(Entry::of(place, letter));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Self { unreadable, ..reading.finish(filter) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u128, dead_at: i64, offset: i64) -> Entry {
        let letter = DeadLetter {
            dead_letter_id: Uuid::from_u128(id),
            reason: "refused".into(),
            dead_at,
            ..DeadLetter::default()
        };
        Entry::of(Place { partition: 0, offset }, &letter)
    }

    #[test]
    fn a_copy_is_no_second_letter_and_what_is_done_about_is_closed() {
        let mut reading = Reading::default();
        for entry in [entry(1, 30, 0), entry(1, 31, 1), entry(2, 10, 2), entry(3, 20, 3)] {
            reading.take(entry);
        }
        reading.mark(Uuid::from_u128(2), Mark { deed: Deed::Dropped, at: 40 });
        // Older than the letter, so about another one that had the same id.
        reading.mark(Uuid::from_u128(3), Mark { deed: Deed::Dropped, at: 19 });
        let catalogue = reading.finish(&Filter::default());
        assert_eq!(catalogue.entries, [entry(3, 20, 3), entry(1, 30, 0)]);
        assert_eq!(catalogue.closed, 1);
    }

    #[test]
    fn the_last_deed_counts_and_closed_ones_are_shown_on_request() {
        let mut reading = Reading::default();
        reading.take(entry(1, 10, 0));
        reading.mark(Uuid::from_u128(1), Mark { deed: Deed::Replayed, at: 30 });
        reading.mark(Uuid::from_u128(1), Mark { deed: Deed::Dropped, at: 20 });
        let catalogue = reading.finish(&Filter { closed: true, ..Filter::default() });
        assert_eq!(catalogue.entries, [Entry { deed: Some(Deed::Replayed), ..entry(1, 10, 0) }]);
    }
}
