//! Companies, by the best that is known of each visit.

use std::collections::{BTreeMap, BTreeSet};

use benches::traffic::truth::Evidence;
use benches::traffic::visit::{Session, Visit};
use schemas::Kind;

use crate::line;
use crate::stage::{Stage, stage};

/// What one company did on one site.
#[derive(Default)]
struct Company<'a> {
    evidence: BTreeSet<Evidence>,
    visits: Vec<&'a Visit>,
    contacts: BTreeSet<String>,
}

fn name(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Partner => "'partner'",
        Evidence::ContactEmail => "'contact_email'",
        Evidence::Network => "'network'",
    }
}

fn companies(stage: &Stage) -> BTreeMap<(usize, String), Company<'_>> {
    let addresses = stage.ledger.addresses(&stage.world);
    let mut companies: BTreeMap<_, Company<'_>> = BTreeMap::new();
    for visit in stage.ledger.visits().filter(|visit| !visit.visitor.is_robot()) {
        let email = addresses.get(&(visit.site, visit.visitor.id()));
        let (key, evidence) = visit.company(&stage.world, email);
        let company = companies.entry((visit.site, key)).or_default();
        company.evidence.insert(evidence);
        company.visits.push(visit);
        company.contacts.extend(visit.cards(&stage.world).map(|(_, card)| format!("'{}'", card.email.to_lowercase())));
    }
    companies
}

fn company_line(stage: &Stage, ((site, key), company): ((usize, String), Company<'_>)) -> String {
    let Company { evidence, visits, contacts } = company;
    let times = || visits.iter().flat_map(|visit| &visit.actions).map(|action| action.occurred_at);
    let count = |kind: Kind| visits.iter().map(|visit| visit.count(kind)).sum::<usize>();
    let visible: u64 = visits.iter().flat_map(|visit| visit.visible().into_values()).map(u64::from).sum();
    let visitors: BTreeSet<_> = visits.iter().map(|visit| visit.visitor.id()).filter(|id| !id.is_empty()).collect();
    let list = |values: Vec<String>| format!("[{}]", values.join(","));
    line!(
        stage.site(site),
        key,
        list(evidence.into_iter().map(|evidence| name(evidence).to_owned()).collect()),
        times().min().unwrap(),
        times().max().unwrap(),
        visitors.len(),
        visits.iter().filter(|visit| visit.session != Session::None).count(),
        count(Kind::PageView),
        visible,
        count(Kind::Download),
        count(Kind::Form),
        list(contacts.into_iter().collect()),
    )
}

#[test]
fn companies_are_told_by_the_best_evidence() {
    let Some(stage) = stage("companies_are_told_by_the_best_evidence") else { return };
    let question = "SELECT site, company, evidence, toUnixTimestamp64Milli(first_seen), toUnixTimestamp64Milli(last_seen), \
        visitors, sessions, page_views, visible_duration_ms, downloads, forms, contacts FROM {database}.companies";
    stage.compare(question, companies(stage).into_iter().map(|company| company_line(stage, company)).collect());
}
