//! What makes a partner record the same record.
//!
//! A partner has one record for a way of matching, a value and a site: publishing it again replaces it. Records of
//! several partners about one company stand side by side, and so do those for one site and for all sites. The key in
//! the topic holds all four, match kind and value first: `ip_range 00 192.0.2.0/24 00 SITE 00 PARTNER`.

use crate::record::{MatchKind, PartnerRecord};

/// The parts of a record's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordKey<'a> {
    /// How a hit is matched.
    pub kind: MatchKind,
    /// To what.
    pub value: &'a str,
    /// The one site, or empty.
    pub site: &'a str,
    /// Whose record it is.
    pub partner: &'a str,
}

impl<'a> RecordKey<'a> {
    /// The key of a record.
    #[must_use]
    pub fn of(record: &'a PartnerRecord<'_>) -> Self {
        Self { kind: record.match_kind, value: &record.match_value, site: &record.site, partner: &record.partner }
    }

    /// As bytes. No part may hold a zero byte, which whoever publishes it sees to.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.kind.as_str(), self.value, self.site, self.partner].join("\0").into_bytes()
    }

    /// From bytes; nothing where they are no such key.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split('\0');
        let key = Self {
            kind: MatchKind::from_symbol(parts.next()?)?,
            value: parts.next()?,
            site: parts.next()?,
            partner: parts.next()?,
        };
        parts.next().is_none().then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = RecordKey { kind: MatchKind::IpRange, value: "192.0.2.0/24", site: "", partner: "acme" };
        assert_eq!(key.to_bytes(), b"ip_range\x00192.0.2.0/24\0\0acme");
        assert_eq!(RecordKey::read(&key.to_bytes()), Some(key));
        for wrong in
            [&b""[..], b"ip_range", b"ip_range\0a\0b", b"ip_range\0a\0b\0c\0d", b"shoe_size\0a\0b\0c", b"\xff\0\0\0"]
        {
            assert_eq!(RecordKey::read(wrong), None, "{wrong:?}");
        }
    }
}
