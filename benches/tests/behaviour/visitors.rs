//! Visitors: all that one id did on one site.

use benches::traffic::visit::{Session, Visit};
use schemas::{Contact, Kind, SourceKind, Text};

use crate::line;
use crate::stage::{Stage, stage};

/// The last card of which each field is filled.
fn last_fields(stage: &Stage, visits: &[&Visit]) -> Contact<'static> {
    let mut last = Contact::default();
    let keep = |field: &mut Text<'static>, told: Text<'static>| {
        if !told.is_empty() {
            *field = told;
        }
    };
    for (_, card) in visits.iter().flat_map(|visit| visit.cards(&stage.world)) {
        keep(&mut last.name, card.name);
        keep(&mut last.email, card.email);
        keep(&mut last.phone, card.phone);
        keep(&mut last.job_title, card.job_title);
        keep(&mut last.company, card.company);
        keep(&mut last.address, card.address);
    }
    last
}

/// Kind, name and campaign of what brought a visitor.
fn source(stage: &Stage, origin: Option<usize>) -> String {
    let Some(origin) = origin.map(|place| &stage.world.origins[place]) else {
        return line!(SourceKind::Unknown.as_str(), "", "");
    };
    let campaign = origin.campaign.as_ref().map_or("", |campaign| &campaign.name);
    line!(origin.kind.as_str(), origin.name, campaign)
}

fn visitor_line(stage: &Stage, site: usize, id: &str, visits: &[&Visit]) -> String {
    let world = &stage.world;
    let times = || visits.iter().flat_map(|visit| &visit.actions).map(|action| action.occurred_at);
    let count = |kind: Kind| visits.iter().map(|visit| visit.count(kind)).sum::<usize>();
    let visible: u64 = visits.iter().flat_map(|visit| visit.visible().into_values()).map(u64::from).sum();
    // A mail that is opened comes from outside, too.
    let mut origins = visits.iter().flat_map(|visit| visit.origins(world));
    let (first, last) = (origins.next(), origins.next_back());
    let latest = visits.last().unwrap();
    let (agent, city) = (&world.agents[latest.agent], world.city(latest.city));
    let known = visits.iter().rev().find_map(|visit| visit.known_to_partner(world));
    let company = known.map_or(("", ""), |company| (&company.name, &company.domain));
    let card = last_fields(stage, visits);
    line!(
        stage.site(site),
        id,
        latest.visitor.is_anonymous(),
        times().min().unwrap(),
        times().max().unwrap(),
        visits.iter().filter(|visit| visit.session != Session::None).count(),
        count(Kind::PageView),
        visible,
        count(Kind::Download),
        count(Kind::Form),
        count(Kind::Search),
        count(Kind::MailOpen),
        source(stage, first),
        source(stage, last.or(first)),
        agent.kind.as_str(),
        agent.os,
        agent.browser,
        &city.language[..2],
        city.country,
        city.region,
        city.name,
        world.networks[latest.network].organisation,
        company.0,
        company.1,
        line!(card.name, card.email, card.phone, card.job_title, card.company, card.address),
    )
}

#[test]
fn visitors_are_all_of_their_visits() {
    let Some(stage) = stage("visitors_are_all_of_their_visits") else { return };
    let question = "SELECT site, visitor_id, is_anonymous, toUnixTimestamp64Milli(first_seen), \
        toUnixTimestamp64Milli(last_seen), sessions, page_views, visible_duration_ms, downloads, forms, searches, \
        mail_opens, first_source_kind, first_source_name, first_campaign_name, last_source_kind, last_source_name, \
        last_campaign_name, device_kind, os, browser, language, country, region, city, network_organisation, \
        company_name, company_domain, contact_name, contact_email, contact_phone, contact_job_title, contact_company, \
        contact_address FROM {database}.visitors";
    let visitors = stage.ledger.visitors();
    let expected = visitors.iter().map(|((site, id), visits)| visitor_line(stage, *site, id, visits)).collect();
    stage.compare(question, expected);
}
