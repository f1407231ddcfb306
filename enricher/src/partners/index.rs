//! All partner records in memory, found by the ways in which a hit can match.
//!
//! Bounded in bytes: a record that does not fit is refused and counted, never silently forgotten.

use std::borrow::Cow;
use std::hash::Hash;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use schemas::{MatchKind, PartnerRecord, RecordKey};

use super::key;
use super::store::Store;
use crate::data::LONGEST_HOST;

/// The use that a record must permit to enrich hits.
const PURPOSE: &str = "measurement";
/// Why a record of the topic is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It can't be decoded.
    Undecodable,
    /// Its key is not the one of its content, or no key at all.
    WrongKey,
    /// Its value can't match anything.
    WrongValue,
    /// The index is full.
    Full,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 4] = [Self::Undecodable, Self::WrongKey, Self::WrongValue, Self::Full];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::WrongKey => "wrong_key",
            Self::WrongValue => "wrong_value",
            Self::Full => "full",
        }
    }
}

/// The records.
#[derive(Debug)]
pub struct PartnerIndex {
    store: Store,
    hashes: RandomState,
    /// How many records match in each way: ways without any are not tried.
    kinds: [usize; MatchKind::ALL.len()],
    /// How many ranges there are of each prefix length, for IPv4 and IPv6: only those are tried.
    lengths: [[u32; 129]; 2],
    most_bytes: usize,
}

impl Default for PartnerIndex {
    fn default() -> Self {
        Self::with_room_for(usize::MAX)
    }
}

impl PartnerIndex {
    /// An empty index that holds so many bytes.
    #[must_use]
    pub fn with_room_for(most_bytes: usize) -> Self {
        Self {
            store: Store::default(),
            hashes: RandomState::default(),
            kinds: [0; MatchKind::ALL.len()],
            lengths: [[0; 129]; 2],
            most_bytes,
        }
    }

    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// True where it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes its records take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.store.bytes()
    }

    /// Takes in one message of the topic: a record, or the removal of the record with this key.
    ///
    /// # Errors
    /// Where the record can't be used; what had this key is removed then, since it is no longer what the topic says.
    pub fn apply(&mut self, key: &[u8], record: Option<PartnerRecord<'_>>) -> Result<(), Refusal> {
        let key = RecordKey::read(key).ok_or(Refusal::WrongKey)?;
        self.remove(&key);
        match record {
            None => Ok(()),
            Some(record) if RecordKey::of(&record) != key => Err(Refusal::WrongKey),
            Some(record) => self.insert(&record),
        }
    }

    fn insert(&mut self, record: &PartnerRecord<'_>) -> Result<(), Refusal> {
        let (kind, value) = (record.match_kind, record.match_value.as_ref());
        if key::normalise(kind, value).as_deref() != Ok(value) {
            return Err(Refusal::WrongValue);
        }
        let hash = self.hash_of(kind, value).ok_or(Refusal::WrongValue)?;
        if !self.store.add(hash, record, self.most_bytes) {
            return Err(Refusal::Full);
        }
        self.kinds[kind as usize] += 1;
        if let Some(length) = self.length_of(kind, value) {
            *length += 1;
        }
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey<'_>) {
        let Some(hash) = self.hash_of(key.kind, key.value) else { return };
        if self.store.remove(hash, |record| RecordKey::of(record) == *key) {
            self.kinds[key.kind as usize] -= 1;
            if let Some(length) = self.length_of(key.kind, key.value) {
                *length -= 1;
            }
        }
    }

    /// Under which hash records stand that match in this way; nothing where none ever will.
    fn hash_of(&self, kind: MatchKind, value: &str) -> Option<u32> {
        match kind {
            MatchKind::Unknown => None,
            MatchKind::IpRange => key::range(value).ok().map(|range| self.hash((kind, range))),
            _ => Some(self.hash((kind, value))),
        }
    }

    fn hash(&self, place: impl Hash) -> u32 {
        // Half of it tells a million records apart.
        std::hash::BuildHasher::hash_one(&self.hashes, place) as u32
    }

    fn length_of(&mut self, kind: MatchKind, value: &str) -> Option<&mut u32> {
        let range = (kind == MatchKind::IpRange).then(|| key::range(value).ok()).flatten()?;
        Some(&mut self.lengths[family(range.addr())][usize::from(range.prefix_len())])
    }

    fn has(&self, kind: MatchKind) -> bool {
        self.kinds[kind as usize] > 0
    }

    /// True where records match by an e-mail address's hash, so that hashing one is worth its time.
    #[must_use]
    pub fn has_email_hashes(&self) -> bool {
        self.has(MatchKind::EmailHash)
    }

    /// The record of the longest range around an address that may be used now and on this site. Ranges longer than
    /// `longest` are left out: for an address that was cut they would name a neighbour.
    #[must_use]
    pub fn by_address(&self, address: IpAddr, longest: u8, site: &str, now: i64) -> Option<PartnerRecord<'_>> {
        let lengths = &self.lengths[family(address)];
        (0..=longest).rev().filter(|length| lengths[usize::from(*length)] > 0).find_map(|length| {
            let range = IpNet::new(address, length).ok()?.trunc();
            let under = self.store.under(self.hash((MatchKind::IpRange, range)));
            let matching = under.filter(|record| {
                record.match_kind == MatchKind::IpRange && key::range(&record.match_value) == Ok(range)
            });
            best(matching, site, now)
        })
    }

    /// The record for an e-mail address's hash that may be used now and on this site.
    #[must_use]
    pub fn by_email_hash(&self, hash: &str, site: &str, now: i64) -> Option<PartnerRecord<'_>> {
        best(self.by_text(MatchKind::EmailHash, hash), site, now)
    }

    /// The record for an e-mail address's domain, or the nearest domain above it.
    #[must_use]
    pub fn by_email_domain(&self, domain: &str, site: &str, now: i64) -> Option<PartnerRecord<'_>> {
        self.by_domain(MatchKind::EmailDomain, domain, site, now)
    }

    /// The record for a company's domain, or the nearest domain above it.
    #[must_use]
    pub fn by_company_domain(&self, domain: &str, site: &str, now: i64) -> Option<PartnerRecord<'_>> {
        self.by_domain(MatchKind::CompanyDomain, domain, site, now)
    }

    /// The record for a visitor of this site. A visitor id is unique within a site only, so records for all sites never
    /// match by it.
    #[must_use]
    pub fn by_visitor(&self, visitor_id: &str, site: &str, now: i64) -> Option<PartnerRecord<'_>> {
        if !self.has(MatchKind::VisitorId) {
            return None;
        }
        best(self.by_text(MatchKind::VisitorId, visitor_id).filter(|record| !record.site.is_empty()), site, now)
    }

    fn by_text(&self, kind: MatchKind, value: &str) -> impl Iterator<Item = PartnerRecord<'_>> {
        let under = self.store.under(self.hash((kind, value)));
        under.filter(move |record| record.match_kind == kind && record.match_value == value)
    }

    fn by_domain(&self, kind: MatchKind, domain: &str, site: &str, now: i64) -> Option<PartnerRecord<'_>> {
        if !self.has(kind) || domain.len() > LONGEST_HOST {
            return None;
        }
        let domain = written_as_in_records(kind, domain)?;
        let registrable = psl::domain_str(&domain)?;
        let mut name = &*domain;
        loop {
            if let Some(found) = best(self.by_text(kind, name), site, now) {
                return Some(found);
            }
            if name.len() <= registrable.len() {
                return None;
            }
            name = name.split_once('.')?.1;
        }
    }
}

/// A domain in the one way in which records have it. Most are written so already.
fn written_as_in_records(kind: MatchKind, domain: &str) -> Option<Cow<'_, str>> {
    if domain.is_ascii() && !domain.ends_with('.') {
        return Some(Cow::Borrowed(domain));
    }
    key::normalise(kind, domain).ok().map(Cow::Owned)
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

/// Of several partners' records the one for this very site, then the latest, then by the partner's name, so that all
/// workers decide alike.
fn best<'a>(records: impl Iterator<Item = PartnerRecord<'a>>, site: &str, now: i64) -> Option<PartnerRecord<'a>> {
    let usable = records.filter(|record| {
        (record.site.is_empty() || record.site == site)
            && record.valid_until.is_none_or(|until| now < until)
            && record.permitted_uses.iter().any(|purpose| purpose == PURPOSE)
    });
    usable.max_by(|one, other| {
        let rank = |record: &PartnerRecord<'_>| (!record.site.is_empty(), record.updated_at);
        rank(one).cmp(&rank(other)).then_with(|| other.partner.cmp(&one.partner))
    })
}

#[cfg(test)]
mod tests {
    use schemas::Text;

    use super::super::store::ENTRY_BYTES;
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn record(kind: MatchKind, value: &str, partner: &str, site: &str) -> PartnerRecord<'static> {
        PartnerRecord {
            partner: Text::Owned(partner.to_owned()),
            match_kind: kind,
            match_value: Text::Owned(value.to_owned()),
            site: Text::Owned(site.to_owned()),
            permitted_uses: vec!["measurement".into()],
            updated_at: NOW,
            ..PartnerRecord::default()
        }
    }

    fn put(index: &mut PartnerIndex, record: PartnerRecord<'static>) {
        let key = RecordKey::of(&record).to_bytes();
        index.apply(&key, Some(record)).unwrap();
    }

    fn partner(found: Option<PartnerRecord<'_>>) -> Option<String> {
        found.map(|record| record.partner.to_string())
    }

    fn at(index: &PartnerIndex, address: &str, longest: u8) -> Option<String> {
        partner(index.by_address(address.parse().unwrap(), longest, "demo", NOW))
    }

    #[test]
    fn the_longest_range_wins() {
        let mut index = PartnerIndex::default();
        for (range, name) in [("192.0.2.0/24", "wide"), ("192.0.2.64/26", "narrow"), ("2001:db8::/32", "six")] {
            put(&mut index, record(MatchKind::IpRange, range, name, ""));
        }
        assert_eq!(at(&index, "192.0.2.65", 32).as_deref(), Some("narrow"));
        assert_eq!(at(&index, "192.0.2.1", 32).as_deref(), Some("wide"));
        assert_eq!(at(&index, "2001:db8:7::1", 128).as_deref(), Some("six"));
        assert_eq!(at(&index, "198.51.100.1", 32), None);
        // An address that was cut to 192.0.2.0 is not known to be in the narrow range.
        assert_eq!(at(&index, "192.0.2.65", 24).as_deref(), Some("wide"));
    }

    #[test]
    fn a_range_of_ipv4_in_the_clothes_of_ipv6_is_one_of_ipv4() {
        let range = key::normalise(MatchKind::IpRange, "::ffff:192.0.2.64/122").unwrap();
        let mut index = PartnerIndex::default();
        put(&mut index, record(MatchKind::IpRange, &range, "mapped", ""));
        assert_eq!(at(&index, "192.0.2.65", 32).as_deref(), Some("mapped"));
        assert_eq!(at(&index, "192.0.2.1", 32), None);
    }

    #[test]
    fn an_expired_or_unpermitted_range_gives_way_to_a_wider_one() {
        let mut index = PartnerIndex::default();
        put(&mut index, record(MatchKind::IpRange, "192.0.2.0/24", "wide", ""));
        put(
            &mut index,
            PartnerRecord { valid_until: Some(NOW), ..record(MatchKind::IpRange, "192.0.2.0/26", "old", "") },
        );
        let advertising = vec!["advertising".into()];
        put(
            &mut index,
            PartnerRecord { permitted_uses: advertising, ..record(MatchKind::IpRange, "192.0.2.0/28", "ads", "") },
        );
        assert_eq!(at(&index, "192.0.2.1", 32).as_deref(), Some("wide"));
        let earlier = index.by_address("192.0.2.1".parse().unwrap(), 32, "demo", NOW - 1);
        assert_eq!(partner(earlier).as_deref(), Some("old"));
    }

    #[test]
    fn a_record_for_the_site_wins_and_one_for_another_never_matches() {
        let mut index = PartnerIndex::default();
        put(
            &mut index,
            PartnerRecord { updated_at: NOW + 5, ..record(MatchKind::EmailHash, &"a".repeat(64), "all", "") },
        );
        put(&mut index, record(MatchKind::EmailHash, &"a".repeat(64), "own", "demo"));
        put(&mut index, record(MatchKind::EmailHash, &"b".repeat(64), "other", "shop"));
        assert_eq!(partner(index.by_email_hash(&"a".repeat(64), "demo", NOW)).as_deref(), Some("own"));
        assert_eq!(partner(index.by_email_hash(&"a".repeat(64), "shop", NOW)).as_deref(), Some("all"));
        assert_eq!(partner(index.by_email_hash(&"b".repeat(64), "demo", NOW)), None);
    }

    #[test]
    fn of_several_partners_the_latest_wins_then_the_name() {
        let mut index = PartnerIndex::default();
        for (name, updated_at) in [("b", NOW), ("a", NOW), ("c", NOW - 1)] {
            put(&mut index, PartnerRecord { updated_at, ..record(MatchKind::EmailDomain, "example.com", name, "") });
        }
        assert_eq!(partner(index.by_email_domain("example.com", "demo", NOW)).as_deref(), Some("a"));
    }

    #[test]
    fn a_domain_matches_what_is_below_it_but_no_public_suffix() {
        let mut index = PartnerIndex::default();
        put(&mut index, record(MatchKind::CompanyDomain, "example.co.uk", "company", ""));
        for (domain, expected) in [
            ("example.co.uk", Some("company")),
            ("mail.eu.example.co.uk", Some("company")),
            ("notexample.co.uk", None),
            ("co.uk", None),
            ("", None),
        ] {
            assert_eq!(partner(index.by_company_domain(domain, "demo", NOW)).as_deref(), expected, "{domain}");
        }
    }

    #[test]
    fn a_visitor_matches_on_the_records_site_only() {
        let mut index = PartnerIndex::default();
        put(&mut index, record(MatchKind::VisitorId, "v1", "all", ""));
        assert_eq!(partner(index.by_visitor("v1", "demo", NOW)), None);
        put(&mut index, record(MatchKind::VisitorId, "v1", "own", "demo"));
        assert_eq!(partner(index.by_visitor("v1", "demo", NOW)).as_deref(), Some("own"));
    }

    #[test]
    fn replaced_and_removed_records_leave_nothing_behind() {
        let mut index = PartnerIndex::default();
        let all = [
            record(MatchKind::IpRange, "192.0.2.0/24", "p", ""),
            record(MatchKind::EmailHash, &"a".repeat(64), "p", ""),
            record(MatchKind::EmailDomain, "example.com", "p", ""),
            record(MatchKind::CompanyDomain, "example.com", "p", ""),
            record(MatchKind::VisitorId, "v", "p", "demo"),
        ];
        for record in &all {
            put(&mut index, record.clone());
            put(&mut index, PartnerRecord { company_name: "Example".into(), ..record.clone() });
        }
        assert_eq!(index.len(), all.len());
        for record in &all {
            index.apply(&RecordKey::of(record).to_bytes(), None).unwrap();
        }
        assert_eq!((index.len(), index.bytes()), (0, 0));
        assert_eq!(index.lengths, [[0; 129]; 2]);
        assert_eq!(index.kinds, [0; MatchKind::ALL.len()]);
    }

    #[test]
    fn what_cant_be_used_is_refused_and_replaces_what_was_there() {
        let good = record(MatchKind::EmailDomain, "example.com", "p", "");
        let key = RecordKey::of(&good).to_bytes();
        let mut index = PartnerIndex::default();
        put(&mut index, good.clone());
        let other = record(MatchKind::EmailDomain, "example.org", "p", "");
        assert_eq!(index.apply(&key, Some(other)), Err(Refusal::WrongKey));
        assert!(index.is_empty());
        let shouted = record(MatchKind::EmailDomain, "EXAMPLE.COM", "p", "");
        let shouted_key = RecordKey::of(&shouted).to_bytes();
        assert_eq!(index.apply(&shouted_key, Some(shouted)), Err(Refusal::WrongValue));
        assert_eq!(index.apply(b"nonsense", None), Err(Refusal::WrongKey));
        let mut small = PartnerIndex::with_room_for(ENTRY_BYTES);
        assert_eq!(small.apply(&key, Some(good)), Err(Refusal::Full));
    }

    #[test]
    fn what_is_longer_than_a_host_can_be_belongs_to_nobody() {
        let mut index = PartnerIndex::default();
        put(&mut index, record(MatchKind::CompanyDomain, "steel.example", "one", ""));
        let below = |length: usize| format!("{}steel.example", "a.".repeat(length));
        let found = |length| index.by_company_domain(&below(length), "demo", NOW).is_some();
        assert!(found(120) && !found(121));
    }
}
