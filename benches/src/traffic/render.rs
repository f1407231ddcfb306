//! From an action to its hit, as the enricher would have written it.

use std::borrow::Cow;

use schemas::{
    Campaign, Device, EnrichedHit, IpPolicy, Kind, Map, Network, PageAddress, PartnerMatch, Place, Protocol, RawHit,
    Signal, Source, SourceKind, VisitorIdSource,
};

use super::origins::{self, ROBOTS};
use super::person::Person;
use super::visit::{Action, CameFrom, EVENTS, LETTERS, Session, TERMS, Visit, Visitor};
use super::world::{Client, PARTNER, World};

/// Time from the collector to the enricher, milliseconds.
const ENRICHED_AFTER: i64 = 40;
const TAG_VERSION: &str = "1.0.0";
const GEOIP_VERSION: &str = "city 2026-11-01, network 2026-11-01";

/// The hit of an action that arrived then, Unix milliseconds.
pub(super) fn hit<'w>(world: &'w World, visit: &Visit, action: &Action, received_at: i64) -> EnrichedHit<'w> {
    let site = &world.sites[visit.site];
    let mut hit = EnrichedHit {
        hit: raw(world, visit, action, received_at),
        occurred_at: action.occurred_at,
        enriched_at: received_at + ENRICHED_AFTER,
        clock_skew_ms: visit.clock_skew,
        is_bot: visit.visitor.is_robot(),
        place: place(world, visit),
        network: network(world, visit),
        partner: partner(world, visit),
        geoip_version: GEOIP_VERSION.into(),
        ..EnrichedHit::default()
    };
    if visit.visitor.is_robot() {
        hit.bot_name = ROBOTS[visit.agent].1.into();
    } else {
        add_device(&mut hit, world, visit);
    }
    if let Some(page) = action.page {
        hit.page = PageAddress { host: (&site.host).into(), path: (&site.pages[page].path).into(), query: "".into() };
    }
    match action.from {
        CameFrom::Outside(place, click) => add_origin(&mut hit, &world.origins[place], click),
        CameFrom::Page(from, page) => {
            let host = &world.sites[from].host;
            hit.hit.referrer = (&world.sites[from].pages[page].url).into();
            let (name, referrer_host) = (host.into(), host.into());
            hit.source = Source { kind: SourceKind::Internal, name, term: "".into(), referrer_host };
        }
    }
    hit
}

fn raw<'w>(world: &'w World, visit: &Visit, action: &Action, received_at: i64) -> RawHit<'w> {
    let site = &world.sites[visit.site];
    let client = if visit.visitor.is_robot() || action.kind == Kind::MailOpen { Client::Pixel } else { site.client };
    let page = action.page.map(|page| &site.pages[page]);
    let mut raw = RawHit {
        hit_id: action.hit_id,
        site: site.key.into(),
        protocol: protocol(client),
        kind: action.kind,
        received_at,
        client_time: visit.clock_skew.map(|skew| action.occurred_at - skew),
        sent_at: visit.clock_skew.map(|skew| received_at - skew),
        visitor_id: visit.visitor.id().to_owned().into(),
        visitor_id_source: visitor_id_source(&visit.visitor, client),
        session_id: match visit.session {
            Session::Told(id) => Some(id),
            Session::Untold | Session::None => None,
        },
        page_view_id: action.view.filter(|view| *view != action.hit_id),
        page_url: page.map_or("", |page| page.url.as_str()).into(),
        duration_ms: (action.visible_ms > 0).then_some(action.visible_ms.into()),
        ip: visit.ip.clone().into(),
        ip_policy: if visit.visitor.is_anonymous() { IpPolicy::None } else { site.ip_policy },
        signal: if visit.visitor.is_anonymous() { Signal::GlobalPrivacyControl } else { Signal::None },
        ..RawHit::default()
    };
    add_deed(&mut raw, world, visit, action);
    if visit.visitor.is_robot() {
        raw.user_agent = ROBOTS[visit.agent].0.into();
        return raw;
    }
    let agent = &world.agents[visit.agent];
    raw.user_agent = (&agent.user_agent).into();
    raw.language = world.city(visit.city).language.into();
    if client == Client::Tag {
        raw.page_title = page.map_or("", |page| page.title.as_str()).into();
        raw.time_zone = world.city(visit.city).time_zone.into();
        raw.tag_version = TAG_VERSION.into();
        raw.screen_width = Some(agent.screen.0);
        raw.screen_height = Some(agent.screen.1);
    }
    raw
}

fn protocol(client: Client) -> Protocol {
    match client {
        Client::Tag => Protocol::Tag,
        Client::Api => Protocol::Api,
        Client::Pixel => Protocol::Pixel,
    }
}

fn visitor_id_source(visitor: &Visitor, client: Client) -> VisitorIdSource {
    match (visitor, client) {
        (Visitor::Nobody(_), _) => VisitorIdSource::None,
        (Visitor::ForADay(..), _) => VisitorIdSource::DailyHash,
        (_, Client::Pixel) => VisitorIdSource::Cookie,
        (_, Client::Tag | Client::Api) => VisitorIdSource::Client,
    }
}

fn add_deed<'w>(raw: &mut RawHit<'w>, world: &'w World, visit: &Visit, action: &Action) {
    let site = &world.sites[visit.site];
    match action.kind {
        Kind::Download => raw.target_url = site.files[action.detail].as_str().into(),
        Kind::Outlink => raw.target_url = site.links[action.detail].as_str().into(),
        Kind::Search => raw.search_term = TERMS[action.detail].into(),
        Kind::Event => {
            raw.event_name = EVENTS[action.detail].into();
            raw.properties = Map(vec![("variant".into(), if action.detail == 0 { "short" } else { "long" }.into())]);
        }
        Kind::MailOpen => raw.properties = Map(vec![("letter".into(), LETTERS[action.detail].into())]),
        Kind::Form => {
            if let Visitor::Known(person, _) = visit.visitor {
                let person = Person::of(world, person);
                raw.contact = Some(person.card(world, action.occurred_at, action.is_short_form()));
            }
        }
        Kind::PageView | Kind::Heartbeat | Kind::Identify => {}
    }
}

fn add_device<'w>(hit: &mut EnrichedHit<'w>, world: &'w World, visit: &Visit) {
    let agent = &world.agents[visit.agent];
    hit.device = Device {
        kind: agent.kind,
        os: agent.os.into(),
        browser: agent.browser.into(),
        browser_version: (&agent.browser_version).into(),
        ..Device::default()
    };
    hit.language = world.city(visit.city).language[..2].into();
}

fn place<'w>(world: &'w World, visit: &Visit) -> Place<'w> {
    let city = world.city(visit.city);
    Place {
        country: city.country.into(),
        region: city.region.into(),
        city: city.name.into(),
        latitude: Some(city.latitude),
        longitude: Some(city.longitude),
        time_zone: city.time_zone.into(),
    }
}

fn network<'w>(world: &'w World, visit: &Visit) -> Network<'w> {
    let network = &world.networks[visit.network];
    Network {
        number: Some(network.number),
        organisation: (&network.organisation).into(),
        domain: (&network.domain).into(),
    }
}

fn partner<'w>(world: &'w World, visit: &Visit) -> Option<PartnerMatch<'w>> {
    let company = visit.known_to_partner(world)?;
    Some(PartnerMatch {
        partner: PARTNER.into(),
        matched_by: "ip_range".into(),
        company_name: (&company.name).into(),
        company_domain: (&company.domain).into(),
        attributes: Map(vec![("industry".into(), company.industry.into())]),
        permitted_uses: vec!["measurement".into()],
    })
}

fn add_origin<'w>(hit: &mut EnrichedHit<'w>, origin: &'w origins::Origin, click: u64) {
    hit.hit.referrer = origin.referrer.as_str().into();
    hit.source = Source {
        kind: origin.kind,
        name: origin.name.as_str().into(),
        term: origin.term.as_str().into(),
        referrer_host: origin.referrer_host.as_str().into(),
    };
    let Some(campaign) = &origin.campaign else { return };
    let mut query = campaign.query();
    hit.campaign = Campaign {
        source: campaign.source.into(),
        medium: campaign.medium.into(),
        name: (&campaign.name).into(),
        click_id_kind: campaign.click_id_kind.into(),
        ..Campaign::default()
    };
    if !campaign.click_id_kind.is_empty() {
        let id = format!("{click:016x}");
        query = format!("{query}&{}={id}", campaign.click_id_kind);
        hit.campaign.click_id = id.into();
    }
    hit.hit.page_url = format!("{}?{query}", hit.hit.page_url).into();
    hit.page.query = Cow::Owned(query);
}
