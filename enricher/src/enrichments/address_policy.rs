//! What is kept of the address, as the site says: all, the network part, or nothing. What is no address is never kept,
//! since there is no telling what it holds.

use std::borrow::Cow;

use schemas::{EnrichedHit, IpPolicy, Text};
use service::privacy::anonymous::network_part;

use super::{Context, Problem, note};

pub(super) fn apply<'a>(hit: &mut EnrichedHit<'a>, context: &Context<'a>) {
    let address = context.address.address;
    if address.is_none() && !hit.hit.ip.is_empty() {
        note(hit, Problem::IpUnreadable);
    }
    hit.hit.ip = match (hit.hit.ip_policy, address) {
        (IpPolicy::None, _) | (_, None) => Text::default(),
        (IpPolicy::Truncated, Some(address)) => Cow::Owned(network_part(address).to_string()),
        (IpPolicy::Full, Some(address)) => Cow::Owned(address.to_string()),
    };
}

#[cfg(test)]
mod tests {
    use schemas::RawHit;

    use super::super::testing::{Knowledge, problems};
    use super::*;
    use crate::data::geoip::AddressFacts;

    fn kept(ip: &str, ip_policy: IpPolicy) -> (String, Vec<String>) {
        let address = AddressFacts { address: crate::data::geoip::read_address(ip), ..AddressFacts::default() };
        let knowledge = Knowledge { address, ..Knowledge::default() };
        let raw = RawHit { ip: ip.into(), ip_policy, ..RawHit::default() };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        apply(&mut hit, &knowledge.context());
        let problems = problems(&hit);
        (hit.hit.ip.into_owned(), problems)
    }

    #[test]
    fn the_policy_decides_what_is_kept() {
        for (ip, policy, expected) in [
            ("203.0.113.77", IpPolicy::Full, "203.0.113.77"),
            ("203.0.113.77", IpPolicy::Truncated, "203.0.113.0"),
            ("203.0.113.77", IpPolicy::None, ""),
            ("2001:db8:1:2:3:4:5:6", IpPolicy::Full, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8:1:2:3:4:5:6", IpPolicy::Truncated, "2001:db8:1::"),
            ("::ffff:203.0.113.77", IpPolicy::Truncated, "203.0.113.0"),
            ("", IpPolicy::Full, ""),
        ] {
            assert_eq!(kept(ip, policy), (expected.to_owned(), vec![]), "{ip} {policy:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_kept_and_noted() {
        for policy in [IpPolicy::Full, IpPolicy::Truncated, IpPolicy::None] {
            for ip in ["203.0.113.77:1234", "someone@example.com", "999.1.1.1"] {
                assert_eq!(kept(ip, policy), (String::new(), vec!["ip_unreadable".to_owned()]), "{ip} {policy:?}");
            }
        }
    }
}
