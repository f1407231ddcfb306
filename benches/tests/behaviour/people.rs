//! Contacts: people who gave an address, and the visitors that they are.

use std::collections::BTreeMap;

use benches::traffic::visit::{Action, Visit};
use schemas::Contact;

use crate::line;
use crate::stage::{Stage, stage};

/// A card, the form it was submitted with, and the visit in which that was.
type Card<'a> = (&'a Visit, &'a Action, Contact<'static>);

/// Every card that somebody submitted, by site and person, in order of time.
fn cards(stage: &Stage) -> BTreeMap<(usize, u32), Vec<Card<'_>>> {
    let mut cards: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for visit in stage.ledger.visits() {
        let Some(person) = visit.visitor.person() else { continue };
        for (action, card) in visit.cards(&stage.world) {
            cards.entry((visit.site, person)).or_default().push((visit, action, card));
        }
    }
    cards.values_mut().for_each(|cards| cards.sort_by_key(|(_, action, _)| action.occurred_at));
    cards
}

#[test]
fn contacts_are_what_was_told_last() {
    let Some(stage) = stage("contacts_are_what_was_told_last") else { return };
    let line = |((site, _), cards): ((usize, u32), Vec<Card<'_>>)| {
        let last = |field: for<'a> fn(&'a Contact<'static>) -> &'a str| {
            let told = cards.iter().rev().map(|(_, _, card)| field(card)).find(|text| !text.is_empty());
            line!(told.unwrap_or_default(), told.map_or("", |_| "form"))
        };
        let contact = cards[0].2.email.to_lowercase();
        let person = line!(last(|card| &card.name), last(|card| &card.email), last(|card| &card.phone));
        // Of the company a partner may tell, too, with a card on which the person does not: the latest counts.
        let company = cards.iter().rev().find_map(|(visit, _, card)| match visit.known_to_partner(&stage.world) {
            _ if !card.company.is_empty() => Some(line!(card.company, "form")),
            partner => partner.map(|company| line!(company.name, "partner")),
        });
        let company = company.unwrap_or(line!("", ""));
        let work = line!(last(|card| &card.job_title), company, last(|card| &card.address));
        let times = line!(cards[0].1.occurred_at, cards[cards.len() - 1].1.occurred_at);
        line!(stage.site(site), contact, person, work, format!("['{contact}']"), times)
    };
    let question = "SELECT site, contact, name, name_source, email, email_source, phone, phone_source, job_title, \
        job_title_source, company, company_source, address, address_source, emails, \
        toUnixTimestamp64Milli(first_told_at), toUnixTimestamp64Milli(last_told_at) FROM {database}.contacts";
    stage.compare(question, cards(stage).into_iter().map(line).collect());
}

/// Also those of their visitors who came before the address was given, and by each device.
#[test]
fn contacts_are_these_visitors() {
    let Some(stage) = stage("contacts_are_these_visitors") else { return };
    let mut links: BTreeMap<(usize, String, String), Vec<i64>> = BTreeMap::new();
    for ((site, _), cards) in cards(stage) {
        for (visit, action, card) in cards {
            let link = (site, visit.visitor.id().to_owned(), card.email.to_lowercase());
            links.entry(link).or_default().push(action.occurred_at);
        }
    }
    let line = |((site, visitor, contact), times): ((usize, String, String), Vec<i64>)| {
        line!(stage.site(site), visitor, contact, contact, "form", times[0], times[times.len() - 1])
    };
    let question = "SELECT site, visitor_id, contact, submitted_as, evidence, toUnixTimestamp64Milli(linked_since), \
        toUnixTimestamp64Milli(linked_at) FROM {database}.contact_visitors";
    stage.compare(question, links.into_iter().map(line).collect());
}
