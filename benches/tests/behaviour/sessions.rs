//! Sessions, and where they came from.

use std::collections::{BTreeMap, BTreeSet};

use benches::traffic::truth::SessionTruth;
use benches::traffic::visit::Session;
use schemas::{Kind, SourceKind};

use crate::line;
use crate::stage::{Stage, day, stage, thrice};

/// Kind, name, term, campaign's source, medium and name of what brought a visitor.
pub fn source(stage: &Stage, origin: Option<usize>) -> [String; 6] {
    let Some(origin) = origin.map(|place| &stage.world.origins[place]) else {
        return [SourceKind::Unknown.as_str(), "", "", "", "", ""].map(str::to_owned);
    };
    let campaign = origin.campaign.as_ref();
    let (source, medium) = campaign.map_or(("", ""), |campaign| (campaign.source, campaign.medium));
    let name = campaign.map_or("", |campaign| &campaign.name);
    [origin.kind.as_str(), &origin.name, &origin.term, source, medium, name].map(str::to_owned)
}

fn session_line(stage: &Stage, session: &SessionTruth<'_>) -> String {
    let (visit, world) = (session.visit, &stage.world);
    let (told_by, id) = match visit.session {
        Session::Told(id) => ("given", id.to_string()),
        Session::Untold | Session::None => ("computed", String::new()),
    };
    let (agent, city) = (&world.agents[visit.agent], world.city(visit.city));
    let company = visit.known_to_partner(world).map_or(("", ""), |company| (&company.name, &company.domain));
    let card = session.card.clone().unwrap_or_default();
    line!(
        stage.site(visit.site),
        told_by,
        id,
        visit.visitor.id(),
        visit.visitor.is_anonymous(),
        day(session.started_at),
        session.started_at,
        session.ended_at,
        session.visible_ms,
        session.page_views,
        session.events,
        session.count(Kind::Download),
        session.count(Kind::Outlink),
        session.count(Kind::Search),
        session.count(Kind::Form),
        session.is_bounce(),
        stage.page(visit.site, session.entry_page),
        stage.page(visit.site, session.exit_page),
        source(stage, session.origin).join("\t"),
        agent.kind.as_str(),
        agent.os,
        agent.browser,
        &city.language[..2],
        city.country,
        city.region,
        city.name,
        world.networks[visit.network].organisation,
        company.0,
        company.1,
        card.name,
        card.email,
    )
}

fn compare_sessions(stage: &Stage) {
    let question = "SELECT site, session_id_source, if(session_id_source = 'given', toString(session_id), ''), visitor_id, \
        is_anonymous, toUInt16(day), toUnixTimestamp64Milli(started_at), toUnixTimestamp64Milli(ended_at), \
        visible_duration_ms, page_views, events, downloads, outlinks, searches, forms, is_bounce, entry_page, exit_page, \
        source_kind, source_name, source_term, campaign_source, campaign_medium, campaign_name, device_kind, os, browser, \
        language, country, region, city, network_organisation, company_name, company_domain, contact_name, contact_email \
        FROM {database}.sessions";
    let expected = stage.ledger.sessions(&stage.world).map(|session| session_line(stage, &session)).collect();
    stage.compare(question, expected);
}

#[test]
fn sessions_are_the_visits() {
    let Some(stage) = stage("sessions_are_the_visits") else { return };
    compare_sessions(stage);
}

/// Rows of one hit come in any order, also of one that begins a session.
#[test]
fn sessions_are_the_visits_where_every_hit_is_there_three_times() {
    let Some(stage) = thrice("sessions_are_the_visits_where_every_hit_is_there_three_times") else { return };
    compare_sessions(&stage);
    let of_several = "SELECT count() FROM (SELECT hit_id FROM {database}.session_hits GROUP BY hit_id \
        HAVING uniqExact(session_id) > 1)";
    stage.compare(of_several, vec!["0".to_owned()]);
}

/// Sessions of a day and source, or campaign.
#[derive(Default)]
pub struct Brought<'a> {
    pub sessions: usize,
    pub visitors: BTreeSet<&'a str>,
    pub bounces: usize,
    pub page_views: usize,
    pub downloads: usize,
    pub forms: usize,
    pub visible_ms: u64,
}

impl<'a> Brought<'a> {
    pub fn add(&mut self, session: &SessionTruth<'a>) {
        self.sessions += 1;
        self.visitors.insert(session.visit.visitor.id());
        self.bounces += usize::from(session.is_bounce());
        self.page_views += session.page_views;
        self.downloads += session.count(Kind::Download);
        self.forms += session.count(Kind::Form);
        self.visible_ms += session.visible_ms;
    }
}

#[test]
fn sources_brought_these_sessions() {
    let Some(stage) = stage("sources_brought_these_sessions") else { return };
    let mut sources: BTreeMap<_, Brought<'_>> = BTreeMap::new();
    for session in stage.ledger.sessions(&stage.world) {
        let [kind, name, _, campaign @ ..] = source(stage, session.origin);
        let key = (session.visit.site, day(session.started_at), kind, name, campaign);
        sources.entry(key).or_default().add(&session);
    }
    let line =
        |((site, day, kind, name, campaign), brought): ((usize, i64, String, String, [String; 3]), Brought<'_>)| {
            let done = line!(brought.page_views, brought.downloads, brought.forms, brought.visible_ms);
            let brought = line!(brought.sessions, brought.visitors.len(), brought.bounces, done);
            line!(stage.site(site), day, kind, name, campaign.join("\t"), brought)
        };
    let question = "SELECT site, toUInt16(day), source_kind, source_name, campaign_source, campaign_medium, campaign_name, \
        sessions, visitors, bounces, page_views, downloads, forms, visible_duration_ms FROM {database}.sources";
    stage.compare(question, sources.into_iter().map(line).collect());
}
