//! How what a record matches is written, in its key and in itself.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemas::MatchKind;

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
        MatchKind::EmailDomain => domain(value),
        MatchKind::CompanyDomain => domain(value).map(|name| psl::domain_str(&name).unwrap_or(&name).to_owned()),
        MatchKind::VisitorId => Ok(value.to_owned()),
    }
}

/// Reads a CIDR range, or an address as the range of one.
///
/// # Errors
/// Where it is neither.
pub fn range(value: &str) -> Result<IpNet, String> {
    let read = value.parse::<IpNet>().or_else(|_| value.parse::<std::net::IpAddr>().map(IpNet::from));
    let wrong = |_| format!("{value:?} is no range such as 192.0.2.0/24 or 2001:db8::/32");
    read.map(|range| without_clothes(range.trunc())).map_err(wrong)
}

/// IPv4 in the clothes of IPv6 (`::ffff:192.0.2.0/120`, RFC 4291) is IPv4, as where addresses are read.
fn without_clothes(range: IpNet) -> IpNet {
    let bare = |range: Ipv6Net| Ipv4Net::new(range.addr().to_ipv4_mapped()?, range.prefix_len().checked_sub(96)?).ok();
    match range {
        IpNet::V6(clothed) => bare(clothed).map_or(range, IpNet::V4),
        IpNet::V4(_) => range,
    }
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
    fn values_have_one_way_to_be_written() {
        let hash = "B4C9A289323B21A01C3E940F150EB9B8C542587F1ABFD8F0E1CC1FFC5E475514";
        for (kind, value, expected) in [
            (MatchKind::IpRange, "192.0.2.77/24", "192.0.2.0/24"),
            (MatchKind::IpRange, " 192.0.2.77 ", "192.0.2.77/32"),
            (MatchKind::IpRange, "2001:DB8::1/32", "2001:db8::/32"),
            (MatchKind::EmailHash, hash, &hash.to_lowercase()),
            (MatchKind::EmailDomain, "Example.COM.", "example.com"),
            (MatchKind::EmailDomain, "bücher.example.org", "xn--bcher-kva.example.org"),
            (MatchKind::CompanyDomain, "www.Bücher.example", "xn--bcher-kva.example"),
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
