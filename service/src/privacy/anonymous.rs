//! A hit without anything that identifies, or that leads to what somebody wants forgotten.

use std::borrow::Cow;
use std::net::IpAddr;

use schemas::{IpPolicy, Map, RawHit, Signal, Text, VisitorIdSource};

use super::made_at;

/// Takes off all that could tell who a hit is about: ids, business card, free properties, and the queries of addresses, which
/// may hold anything. Of the client's address the network part is left, where the site keeps any.
pub fn anonymise(hit: &mut RawHit<'_>) {
    hit.visitor_id = Text::default();
    hit.visitor_id_source = VisitorIdSource::None;
    hit.session_id = None;
    hit.contact = None;
    hit.signal = Signal::OptOut;
    if hit.ip_policy == IpPolicy::Full {
        hit.ip_policy = IpPolicy::Truncated;
    }
    hit.ip = hit.ip.parse().map_or_else(|_| Text::default(), |address| Text::Owned(network_part(address).to_string()));
    take_off_free_text(hit);
}

/// Takes off what no rule says the meaning of, and what may therefore name the person: free properties, the queries of
/// addresses; and the id that ties the hits of a page view together.
pub fn take_off_free_text(hit: &mut RawHit<'_>) {
    hit.page_view_id = None;
    hit.properties = Map::default();
    for address in [&mut hit.page_url, &mut hit.referrer, &mut hit.target_url] {
        cut_query(address);
    }
}

/// Makes a hit one of another visitor, who has no past up to a time, Unix milliseconds. Session and page view may have begun
/// before it: of a page view its id tells when, as tags make it (RFC 9562, version 7).
pub fn rename(hit: &mut RawHit<'_>, visitor: &str, since: i64) {
    hit.visitor_id = visitor.to_owned().into();
    hit.session_id = None;
    hit.page_view_id = hit.page_view_id.filter(|id| made_at(*id).is_some_and(|at| at > since));
}

/// What is left of an address that is cut: the first three of four bytes, or the first three of eight groups. A provider's
/// customers, not one of them.
#[must_use]
pub fn network_part(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            [a, b, c, 0].into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            [a, b, c, 0, 0, 0, 0, 0].into()
        }
    }
}

fn cut_query(address: &mut Text<'_>) {
    if let Some(end) = address.find(['?', '#']) {
        match address {
            Cow::Borrowed(text) => *text = &text[..end],
            Cow::Owned(text) => text.truncate(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::Contact;
    use schemas::codec::Encode;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nothing_of_the_person_is_left() {
        let properties = Map(vec![("plan".into(), "secret-9".into())]);
        let mut hit = RawHit {
            visitor_id: "secret-1".into(),
            session_id: Some(uuid::Uuid::from_u128(7)),
            page_view_id: Some(uuid::Uuid::from_u128(8)),
            contact: Some(Contact { email: "secret-2".into(), ..Contact::default() }),
            page_url: "https://shop.example/a?mail=secret-3".into(),
            referrer: Text::Owned("https://x.example/#secret-4".to_owned()),
            ip: "192.0.2.77".into(),
            ip_policy: IpPolicy::Full,
            properties,
            ..RawHit::default()
        };
        anonymise(&mut hit);
        assert_eq!(
            (&*hit.page_url, &*hit.referrer, &*hit.ip),
            ("https://shop.example/a", "https://x.example/", "192.0.2.0")
        );
        assert_eq!((hit.session_id, hit.page_view_id), (None, None));
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    }

    #[test]
    fn whoever_was_forgotten_has_no_page_view_of_before() {
        const NOON: i64 = 1_773_144_000_000;
        let view = |milliseconds: i64| {
            let (seconds, rest) = (milliseconds.unsigned_abs() / 1_000, milliseconds % 1_000);
            Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, u32::try_from(rest).unwrap() * 1_000_000))
        };
        let (before, after) = (view(NOON - 1), view(NOON + 1));
        for (id, expected) in [(before, None), (view(NOON), None), (after, Some(after)), (Uuid::from_u128(8), None)] {
            let session = Some(Uuid::from_u128(7));
            let mut hit = RawHit { page_view_id: Some(id), session_id: session, ..RawHit::default() };
            rename(&mut hit, "another", NOON);
            assert_eq!((&*hit.visitor_id, hit.session_id, hit.page_view_id), ("another", None, expected));
        }
    }
}
