//! What is added to a hit: an ordered list of small steps.
//!
//! A step reads the hit and the [`Context`], and fills its own fields of the [`EnrichedHit`]. It never fails: what goes
//! wrong is a [`Problem`], whose name is left in `enrichment_errors`, and the hit goes on. A step never waits for
//! anything: what it needs was looked up before ([`crate::hit::Enricher`]).

mod address_policy;
mod bot;
mod campaign;
pub(crate) mod clock;
mod device;
mod language;
mod network;
mod organisation;
mod page;
mod partner;
mod place;
mod source;
mod web_address;

use std::borrow::Cow;

use schemas::{EnrichedHit, RawHit, Text};
use service::sites::Site;

use crate::data::geoip::AddressFacts;
use crate::data::referrers::Referrers;
use crate::data::user_agents::UserAgentFacts;
use crate::partners::index::PartnerIndex;

/// What was looked up for one hit, for all its steps.
#[derive(Debug)]
pub struct Context<'a> {
    /// Enricher's clock, Unix milliseconds.
    pub now: i64,
    /// What the user agent and the client hints tell.
    pub user_agent: &'a UserAgentFacts,
    /// What the GeoIP databases tell about the address.
    pub address: &'a AddressFacts,
    /// Which GeoIP databases those are.
    pub geoip_version: &'a str,
    /// Known referrers.
    pub referrers: &'a Referrers,
    /// Settings of the hit's site, where they are known.
    pub site: Option<&'a Site>,
    /// What partners know.
    pub partners: &'a PartnerIndex,
}

/// One step.
pub type Step = for<'a> fn(&mut EnrichedHit<'a>, &Context<'a>);

/// The steps, in their order. The comment of each says why it stands where it stands.
pub const STEPS: &[(&str, Step)] = &[
    // First, since everything that depends on time depends on this one.
    ("clock", clock::add),
    // Parts of the page's address, from which source and campaign are read.
    ("page", page::add),
    // Before the source: a campaign names the source whatever the referrer is.
    ("campaign", campaign::add),
    ("source", source::add),
    ("device", device::add),
    // Robots are marked, never dropped.
    ("bot", bot::add),
    ("language", language::add),
    ("place", place::add),
    ("network", network::add),
    // After the network, whose organisation it names.
    ("organisation", organisation::add),
    // After the organisation, by whose domain a partner may know it.
    ("partner", partner::add),
    // Last: all steps before it may need the full address, none after it may see it.
    ("address policy", address_policy::apply),
];

/// What can go wrong with a hit that goes on nevertheless: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Problem {
    /// The client's clock, without a time of sending to correct it by, tells an impossible time.
    ClientTimeImplausible,
    /// The corrected time lies in the future or more than a week back.
    ClientTimeClamped,
    /// `page_url` is no address.
    PageUrlUnreadable,
    /// `referrer` is no address.
    ReferrerUnreadable,
    /// `language` is no language tag.
    LanguageUnreadable,
    /// `ip` is no IP address.
    IpUnreadable,
    /// The city database has a record that can't be read.
    PlaceUnreadable,
    /// The network database has a record that can't be read.
    NetworkUnreadable,
}

impl Problem {
    /// Every problem.
    pub const ALL: &'static [Self] = &[
        Self::ClientTimeImplausible,
        Self::ClientTimeClamped,
        Self::PageUrlUnreadable,
        Self::ReferrerUnreadable,
        Self::LanguageUnreadable,
        Self::IpUnreadable,
        Self::PlaceUnreadable,
        Self::NetworkUnreadable,
    ];

    /// Its name, as in `enrichment_errors` and in the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientTimeImplausible => "client_time_implausible",
            Self::ClientTimeClamped => "client_time_clamped",
            Self::PageUrlUnreadable => "page_url_unreadable",
            Self::ReferrerUnreadable => "referrer_unreadable",
            Self::LanguageUnreadable => "language_unreadable",
            Self::IpUnreadable => "ip_unreadable",
            Self::PlaceUnreadable => "place_unreadable",
            Self::NetworkUnreadable => "network_unreadable",
        }
    }
}

/// Takes a hit through all steps.
#[must_use]
pub fn enrich<'a>(hit: RawHit<'a>, context: &Context<'a>) -> EnrichedHit<'a> {
    let mut enriched = EnrichedHit { hit, enriched_at: context.now, ..EnrichedHit::default() };
    for (_, step) in STEPS {
        step(&mut enriched, context);
    }
    enriched
}

fn note(hit: &mut EnrichedHit<'_>, problem: Problem) {
    hit.enrichment_errors.push(Cow::Borrowed(problem.as_str()));
}

/// The same text without copying what the context owns.
fn lend<'a>(text: &'a Text<'static>) -> Text<'a> {
    Cow::Borrowed(text.as_ref())
}

#[cfg(test)]
pub(crate) mod testing {
    //! A context that knows nothing, for the unit tests of the steps.

    use super::*;

    /// Owns what a [`Context`] borrows.
    #[derive(Default)]
    pub struct Knowledge {
        pub now: i64,
        pub user_agent: UserAgentFacts,
        pub address: AddressFacts,
        pub referrers: Referrers,
        pub site: Option<Site>,
        pub partners: PartnerIndex,
    }

    impl Knowledge {
        pub fn context(&self) -> Context<'_> {
            Context {
                now: self.now,
                user_agent: &self.user_agent,
                address: &self.address,
                geoip_version: "City@1 Network@2",
                referrers: &self.referrers,
                site: self.site.as_ref(),
                partners: &self.partners,
            }
        }
    }

    /// The problems noted on a hit.
    pub fn problems(hit: &EnrichedHit<'_>) -> Vec<String> {
        hit.enrichment_errors.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn every_problem_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Problem::ALL.iter().map(|problem| problem.as_str()).collect();
        assert_eq!(names.len(), Problem::ALL.len());
    }

    #[test]
    fn the_address_policy_is_the_last_step() {
        assert_eq!(STEPS.last().unwrap().0, "address policy");
    }
}
