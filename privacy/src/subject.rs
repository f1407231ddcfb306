//! What names a person.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use schemas::SubjectKind;
use service::privacy::keys::{Key, Keys, normal};

/// The fields of a contact.
pub const FIELDS: [&str; 6] = ["name", "email", "phone", "job_title", "company", "address"];

/// Something that names a person, in the one way in which it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identifier {
    /// What it is.
    pub kind: SubjectKind,
    /// The address, number or id.
    pub value: String,
}

impl PartialOrd for Identifier {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identifier {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.kind.as_str(), &self.value).cmp(&(other.kind.as_str(), &other.value))
    }
}

impl Identifier {
    /// From a value however it is written; nothing where it names nobody.
    #[must_use]
    pub fn new(kind: SubjectKind, value: &str) -> Option<Self> {
        let value = normal(kind, value);
        (!value.is_empty()).then_some(Self { kind, value })
    }

    /// Its hash at a site, lower-case hex.
    #[must_use]
    pub fn hash(&self, key: &Key, site: &str) -> String {
        hex::encode(key.hash(site, self.kind, &self.value))
    }

    /// Its hashes at a site under all keys.
    pub fn hashes<'a>(&'a self, keys: &'a Keys, site: &'a str) -> impl Iterator<Item = String> + 'a {
        keys.iter().map(move |key| self.hash(key, site))
    }

    /// The kind, for people.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self.kind {
            SubjectKind::Email => "e-mail",
            SubjectKind::Phone => "phone",
            SubjectKind::VisitorId => "visitor",
            SubjectKind::Unknown => "unknown",
        }
    }
}

/// The values of one kind.
pub fn values(identifiers: &BTreeSet<Identifier>, kind: SubjectKind) -> impl Iterator<Item = &str> {
    identifiers.iter().filter(move |each| each.kind == kind).map(|each| each.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_the_same_however_it_is_written_and_none_where_it_names_nobody() {
        let email = |value| Identifier::new(SubjectKind::Email, value);
        assert_eq!(email(" Ada@Example.com "), email("ada@example.com"));
        assert_ne!(email("4711"), Identifier::new(SubjectKind::VisitorId, "4711"));
        assert_eq!(Identifier::new(SubjectKind::Phone, "n/a"), None);
        assert_eq!(email("  "), None);
    }
}
