//! What a partner knows about the visitor's company or the visitor. One record is taken; the first that matches, from
//! the most to the least certain:
//!
//! 1. the visitor (an id of a cookie or of the client, never one of the day),
//! 2. the hash of a submitted e-mail address, 3. its domain,
//! 4. the range of the address, longest first,
//! 5. the domain of the network's organisation.
//!
//! The first three say something about a person. They are left out for a hit under an objection, and for a person who
//! refused sharing with partners or being measured. What remains tells of a network, whoever uses it; and where the
//! address was cut, only ranges that are no narrower than what is left of it.

use std::net::IpAddr;

use schemas::{Consent, EnrichedHit, PartnerMatch, PartnerRecord, RawHit, Signal, VisitorIdSource};
use service::privacy::anonymous::network_part;
use sha2::{Digest, Sha256};

use super::Context;

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, context: &Context<'a>) {
    if context.partners.is_empty() {
        return;
    }
    let found = by_person(&hit.hit, context)
        .or_else(|| by_address(&hit.hit, context))
        .or_else(|| context.partners.by_company_domain(&hit.network.domain, &hit.hit.site, context.now));
    hit.partner = found.map(told);
}

fn by_person<'a>(hit: &RawHit<'_>, context: &Context<'a>) -> Option<PartnerRecord<'a>> {
    if !may_know_person(hit) {
        return None;
    }
    let (partners, site, now) = (context.partners, hit.site.as_ref(), context.now);
    if matches!(hit.visitor_id_source, VisitorIdSource::Cookie | VisitorIdSource::Client)
        && let Some(found) = partners.by_visitor(&hit.visitor_id, site, now)
    {
        return Some(found);
    }
    let email = hit.contact.as_ref().map(|contact| contact.email.trim().to_lowercase())?;
    let (_, domain) = email.rsplit_once('@')?;
    if partners.has_email_hashes()
        && let Some(found) = partners.by_email_hash(&hex::encode(Sha256::digest(&email)), site, now)
    {
        return Some(found);
    }
    partners.by_email_domain(domain, site, now)
}

fn may_know_person(hit: &RawHit<'_>) -> bool {
    let refuses = |consent: &Consent<'_>| consent.partner_sharing == Some(false) || consent.measurement == Some(false);
    hit.signal == Signal::None && !hit.consent.as_ref().is_some_and(refuses)
}

fn by_address<'a>(hit: &RawHit<'_>, context: &Context<'a>) -> Option<PartnerRecord<'a>> {
    let address = context.address.address?;
    context.partners.by_address(address, longest_range(hit, address), &hit.site, context.now)
}

/// The longest range that an address can be said to be in. The collector cuts addresses under an objection as the
/// address policy does, and one that ends in zeros may have been cut.
fn longest_range(hit: &RawHit<'_>, address: IpAddr) -> u8 {
    let cut = hit.signal != Signal::None && network_part(address) == address;
    match (address, cut) {
        (IpAddr::V4(_), true) => 24,
        (IpAddr::V4(_), false) => 32,
        (IpAddr::V6(_), true) => 48,
        (IpAddr::V6(_), false) => 128,
    }
}

fn told(record: PartnerRecord<'_>) -> PartnerMatch<'_> {
    PartnerMatch {
        partner: record.partner,
        matched_by: record.match_kind.as_str().into(),
        company_name: record.company_name,
        company_domain: record.company_domain,
        attributes: record.attributes,
        permitted_uses: record.permitted_uses,
    }
}

#[cfg(test)]
mod tests {
    use schemas::{Contact, MatchKind, RecordKey, Text};

    use super::super::testing::Knowledge;
    use super::*;
    use crate::data::geoip::AddressFacts;
    use crate::partners::index::PartnerIndex;

    fn index(records: &[(MatchKind, &str, &str)]) -> PartnerIndex {
        let mut index = PartnerIndex::default();
        for (kind, value, site) in records {
            let record = PartnerRecord {
                partner: "acme".into(),
                match_kind: *kind,
                match_value: Text::Owned((*value).to_owned()),
                site: Text::Owned((*site).to_owned()),
                company_name: "Example".into(),
                permitted_uses: vec!["measurement".into()],
                ..PartnerRecord::default()
            };
            index.apply(&RecordKey::of(&record).to_bytes(), Some(record.clone())).unwrap();
        }
        index
    }

    fn everything() -> PartnerIndex {
        let hash = hex::encode(Sha256::digest("someone@example.com"));
        index(&[
            (MatchKind::VisitorId, "v1", "demo"),
            (MatchKind::EmailHash, &hash, ""),
            (MatchKind::EmailDomain, "example.com", ""),
            (MatchKind::IpRange, "192.0.2.0/28", ""),
            (MatchKind::IpRange, "192.0.0.0/16", ""),
            (MatchKind::CompanyDomain, "provider.net", ""),
        ])
    }

    fn full_hit() -> RawHit<'static> {
        let contact = Contact { email: " Someone@Example.com ".into(), ..Contact::default() };
        RawHit {
            site: "demo".into(),
            visitor_id: "v1".into(),
            visitor_id_source: VisitorIdSource::Cookie,
            contact: Some(contact),
            ip: "192.0.2.1".into(),
            ..RawHit::default()
        }
    }

    fn matched(raw: RawHit<'static>, partners: PartnerIndex) -> Option<(String, String)> {
        let address = crate::data::geoip::read_address(&raw.ip);
        let knowledge = Knowledge {
            partners,
            address: AddressFacts { address, ..AddressFacts::default() },
            ..Knowledge::default()
        };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        hit.network.domain = "provider.net".into();
        add(&mut hit, &knowledge.context());
        hit.partner.map(|found| (found.matched_by.into_owned(), found.company_name.into_owned()))
    }

    fn matched_by(raw: RawHit<'static>) -> Option<String> {
        matched(raw, everything()).map(|(by, _)| by)
    }

    #[test]
    fn the_most_certain_match_wins() {
        assert_eq!(matched_by(full_hit()).as_deref(), Some("visitor_id"));
        let of_the_day = RawHit { visitor_id_source: VisitorIdSource::DailyHash, ..full_hit() };
        assert_eq!(matched_by(of_the_day).as_deref(), Some("email_hash"));
        let colleague = Contact { email: "other@example.com".into(), ..Contact::default() };
        let colleague = RawHit { visitor_id: "v2".into(), contact: Some(colleague), ..full_hit() };
        assert_eq!(matched_by(colleague).as_deref(), Some("email_domain"));
        let stranger = RawHit { visitor_id: "v2".into(), contact: None, ..full_hit() };
        assert_eq!(matched_by(stranger.clone()).as_deref(), Some("ip_range"));
        let elsewhere = RawHit { ip: "198.51.100.1".into(), ..stranger };
        assert_eq!(matched_by(elsewhere).as_deref(), Some("company_domain"));
        assert_eq!(matched(full_hit(), PartnerIndex::default()), None);
        let by_visitor = matched(full_hit(), everything()).unwrap();
        assert_eq!(by_visitor.1, "Example");
    }

    #[test]
    fn under_an_objection_nothing_is_matched_by_person() {
        for signal in Signal::ALL.iter().filter(|signal| **signal != Signal::None) {
            let hit = RawHit { signal: *signal, ..full_hit() };
            assert_eq!(matched_by(hit).as_deref(), Some("ip_range"), "{signal:?}");
        }
    }

    #[test]
    fn who_refuses_partners_or_measurement_is_not_matched_by_person() {
        let refusals = [
            Consent { partner_sharing: Some(false), ..Consent::default() },
            Consent { measurement: Some(false), ..Consent::default() },
        ];
        for consent in refusals {
            let hit = RawHit { consent: Some(consent), ..full_hit() };
            assert_eq!(matched_by(hit).as_deref(), Some("ip_range"));
        }
        let agrees = Consent { partner_sharing: Some(true), ..Consent::default() };
        assert_eq!(matched_by(RawHit { consent: Some(agrees), ..full_hit() }).as_deref(), Some("visitor_id"));
    }

    #[test]
    fn a_domain_matches_however_it_is_written() {
        let partners = || index(&[(MatchKind::EmailDomain, "xn--bcher-kva.example", "")]);
        for domain in
            ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "mail.bücher.example", "bücher.example."]
        {
            let contact = Contact { email: format!("anna@{domain}").into(), ..Contact::default() };
            let found = matched(RawHit { contact: Some(contact), ..full_hit() }, partners());
            assert_eq!(found.map(|(by, _)| by).as_deref(), Some("email_domain"), "{domain}");
        }
    }

    #[test]
    fn a_cut_address_matches_no_range_narrower_than_the_cut() {
        let partners = || index(&[(MatchKind::IpRange, "192.0.2.0/28", "")]);
        let cut = RawHit { signal: Signal::OptOut, ip: "192.0.2.0".into(), ..full_hit() };
        assert_eq!(matched(cut.clone(), partners()), None);
        assert_eq!(matched_by(cut).as_deref(), Some("ip_range"), "the wider range");
        let whole = RawHit { ip: "192.0.2.0".into(), contact: None, visitor_id: "".into(), ..full_hit() };
        assert!(matched(whole, partners()).is_some());
    }
}
