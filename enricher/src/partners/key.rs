//! What makes a partner record the same record.
//!
//! A partner has one record for a way of matching, a value and a site: publishing it again replaces it. Records of
//! several partners about one company stand side by side, and so do those for one site and for all sites. The key in
//! the topic holds all four, match kind and value first: `ip_range 00 192.0.2.0/24 00 SITE 00 PARTNER`.

use ipnet::IpNet;
use schemas::{MatchKind, PartnerRecord};

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

    /// As bytes. No part may hold a zero byte, which [`super::file`] sees to.
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

/// The one way in which a value is written, so that what is equal is found equal.
///
/// # Errors
/// Says what is wrong with the value, and how it is written rightly.
pub fn normalise(kind: MatchKind, value: &str) -> Result<String, String> {
    let value = value.trim();
    if value.is_empty() {
        return Err("it is empty".to_owned());
    }
    if value.contains('\0') {
        return Err("it holds a zero byte".to_owned());
    }
    match kind {
        MatchKind::Unknown => Err("a record needs one of the known kinds of matching".to_owned()),
        MatchKind::IpRange => range(value).map(|range| range.to_string()),
        MatchKind::EmailHash => email_hash(value),
        MatchKind::EmailDomain | MatchKind::CompanyDomain => domain(value),
        MatchKind::VisitorId => Ok(value.to_owned()),
    }
}

/// Reads a CIDR range, or an address as the range of one.
///
/// # Errors
/// Where it is neither.
pub fn range(value: &str) -> Result<IpNet, String> {
    let read = value.parse::<IpNet>().or_else(|_| value.parse::<std::net::IpAddr>().map(IpNet::from));
    read.map(|range| range.trunc()).map_err(|_| format!("{value:?} is no range such as 192.0.2.0/24 or 2001:db8::/32"))
}

fn email_hash(value: &str) -> Result<String, String> {
    let hash = value.to_ascii_lowercase();
    if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(hash);
    }
    // The value itself may be a person's address, so it is not repeated.
    Err("it is not 64 hexadecimal digits: the SHA-256 of the trimmed lower-case e-mail address".to_owned())
}

fn domain(value: &str) -> Result<String, String> {
    let wrong = || format!("{value:?} is no domain such as example.com");
    // Reads as browsers do, so that an international name gets its ASCII form.
    let url::Host::Domain(name) = url::Host::parse(value).map_err(|_| wrong())? else { return Err(wrong()) };
    let name = name.trim_end_matches('.');
    if name.contains('.') && psl::domain_str(name).is_some() { Ok(name.to_owned()) } else { Err(wrong()) }
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

    #[test]
    fn values_have_one_way_to_be_written() {
        let hash = "B4C9A289323B21A01C3E940F150EB9B8C542587F1ABFD8F0E1CC1FFC5E475514";
        for (kind, value, expected) in [
            (MatchKind::IpRange, "192.0.2.77/24", "192.0.2.0/24"),
            (MatchKind::IpRange, " 192.0.2.77 ", "192.0.2.77/32"),
            (MatchKind::IpRange, "2001:DB8::1/32", "2001:db8::/32"),
            (MatchKind::EmailHash, hash, &hash.to_lowercase()),
            (MatchKind::EmailDomain, "Example.COM.", "example.com"),
            (MatchKind::CompanyDomain, "bücher.example.org", "xn--bcher-kva.example.org"),
            (MatchKind::VisitorId, " V-1 ", "V-1"),
        ] {
            assert_eq!(normalise(kind, value).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for (kind, value) in [
            (MatchKind::IpRange, "192.0.2.0/33"),
            (MatchKind::IpRange, "example.com"),
            (MatchKind::EmailHash, "someone@example.com"),
            (MatchKind::EmailHash, "abc"),
            (MatchKind::EmailDomain, "localhost"),
            (MatchKind::EmailDomain, "com"),
            (MatchKind::EmailDomain, "https://example.com"),
            (MatchKind::CompanyDomain, "192.0.2.1"),
            (MatchKind::VisitorId, ""),
            (MatchKind::VisitorId, "a\0b"),
            (MatchKind::Unknown, "a"),
        ] {
            let refused = normalise(kind, value).unwrap_err();
            assert!(!refused.contains("someone"), "{refused}");
        }
    }
}
