//! Whether a hit may be kept, and as what. Decided before anything is stored.

use schemas::Signal;
use service::sites::{ConsentPolicy, SignalPolicy, Site};

use crate::client::Client;
use crate::cookies;

/// What is done with a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Kept as it is.
    Keep,
    /// Kept without anything that identifies: no cookie, no id, no contact, the address cut.
    Anonymous(Signal),
    /// Not kept.
    Drop,
}

/// Decides by the person's opt-out, the signals of the browser and the consent that came with the hit.
#[must_use]
pub fn decide(site: &Site, client: &Client<'_>, measurement_consent: Option<bool>) -> Decision {
    match objection(site, client, measurement_consent) {
        None => Decision::Keep,
        Some(signal) => under(site, signal),
    }
}

/// What an objection means on a site.
#[must_use]
pub fn under(site: &Site, signal: Signal) -> Decision {
    match site.signals {
        SignalPolicy::Drop => Decision::Drop,
        SignalPolicy::Anonymous => Decision::Anonymous(signal),
    }
}

fn objection(site: &Site, client: &Client<'_>, measurement_consent: Option<bool>) -> Option<Signal> {
    if client.cookie(cookies::OPT_OUT).is_some() {
        return Some(Signal::OptOut);
    }
    if client.global_privacy_control() {
        return Some(Signal::GlobalPrivacyControl);
    }
    if client.do_not_track() {
        return Some(Signal::DoNotTrack);
    }
    // A refusal counts on every site, a missing answer only where consent is required.
    let permitted = measurement_consent.unwrap_or(site.consent == ConsentPolicy::NotRequired);
    (!permitted).then_some(Signal::NoConsent)
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;
    use crate::client::Forwarding;
    use crate::options::ForwardingHeader;

    fn decision(site: &Site, header: Option<(&'static str, &'static str)>, consent: Option<bool>) -> Decision {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        let forwarding = Forwarding { trusted: &[], header: ForwardingHeader::XForwardedFor };
        decide(site, &Client::new(std::net::IpAddr::from([127, 0, 0, 1]).into(), &headers, &forwarding), consent)
    }

    #[test]
    fn every_objection_makes_a_hit_anonymous() {
        let site = Site::default();
        assert_eq!(decision(&site, None, None), Decision::Keep);
        for (header, signal) in [
            (("sec-gpc", "1"), Signal::GlobalPrivacyControl),
            (("dnt", "1"), Signal::DoNotTrack),
            (("cookie", "hitmeter_opt_out=1"), Signal::OptOut),
        ] {
            assert_eq!(decision(&site, Some(header), Some(true)), Decision::Anonymous(signal));
        }
        assert_eq!(decision(&site, Some(("dnt", "0")), None), Decision::Keep);
        assert_eq!(decision(&site, None, Some(false)), Decision::Anonymous(Signal::NoConsent));
    }

    #[test]
    fn where_consent_is_required_silence_is_a_no() {
        let site = Site { consent: ConsentPolicy::Required, ..Site::default() };
        assert_eq!(decision(&site, None, None), Decision::Anonymous(Signal::NoConsent));
        assert_eq!(decision(&site, None, Some(true)), Decision::Keep);
    }

    #[test]
    fn a_site_may_drop_instead() {
        let site = Site { signals: SignalPolicy::Drop, ..Site::default() };
        assert_eq!(decision(&site, Some(("sec-gpc", "1")), None), Decision::Drop);
        assert_eq!(decision(&site, None, None), Decision::Keep);
    }
}
