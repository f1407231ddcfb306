//! What people asked of us, applied to a hit before anything else is done with it.

use schemas::RawHit;
use schemas::topics::visitor_key;
use service::privacy::anonymous::{anonymise, rename};
use service::privacy::directives::{Directives, Person, Verdict};

use crate::enrichments::clock;

/// Whose a hit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visitor {
    /// Of the visitor that the collector told.
    Same,
    /// Of another one, or of none: the message needs another key, as the old one names the person.
    Another,
}

impl Visitor {
    /// The key of the enriched hit's message, where it is not that of the raw hit's.
    #[must_use]
    pub fn key_of(self, hit: &RawHit<'_>) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        match self {
            Self::Same => return None,
            Self::Another => visitor_key(&hit.site, &hit.visitor_id, &mut key),
        }
        Some(key)
    }
}

/// Makes of a hit what the person it is about wants. None where they had it erased.
#[must_use]
pub fn apply(directives: &Directives, hit: &mut RawHit<'_>) -> Option<Visitor> {
    if directives.is_empty() {
        return Some(Visitor::Same);
    }
    let (at, _) = clock::occurred_at(hit);
    let person = Person { site: &hit.site, visitor: &hit.visitor_id, contact: hit.contact.as_ref(), at };
    match directives.judge(&person) {
        Verdict::Keep => return Some(Visitor::Same),
        Verdict::Erase => return None,
        Verdict::Anonymise => anonymise(hit),
        Verdict::Rename { visitor, since } => rename(hit, &visitor, since),
    }
    Some(Visitor::Another)
}
