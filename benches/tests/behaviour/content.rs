//! Pages, files, searches, and robots.

use std::collections::{BTreeMap, BTreeSet};

use benches::traffic::origins::ROBOTS;
use benches::traffic::truth::Seen;
use benches::traffic::visit::Session;
use benches::traffic::world::Client;
use schemas::Kind;

use crate::line;
use crate::stage::{day, stage};

#[test]
fn pages_were_viewed_so_often_and_so_long() {
    let Some(stage) = stage("pages_were_viewed_so_often_and_so_long") else { return };
    let line = |((site, page), seen): ((usize, usize), Seen<'_>)| {
        let of = &stage.world.sites[site];
        let title = if of.client == Client::Tag { &of.pages[page].title } else { "" };
        let average = if seen.told == 0 { 0.0 } else { seen.visible_ms as f64 / seen.told as f64 };
        let times = line!(seen.first_at, seen.last_at);
        let how_often = line!(seen.times, seen.visitors.len(), seen.sessions.len(), average, seen.visible_ms);
        line!(of.key, of.host, of.pages[page].path, title, how_often, times)
    };
    let question = "SELECT site, page_host, page_path, page_title, views, visitors, sessions, \
        average_visible_ms, total_visible_ms, toUnixTimestamp64Milli(first_viewed_at), \
        toUnixTimestamp64Milli(last_viewed_at) FROM {database}.pages";
    stage.compare(question, stage.ledger.pages().into_iter().map(line).collect());
}

/// The addresses among those given that are of these visitors of a site, as ClickHouse writes a list.
fn contacts(given: &BTreeMap<(usize, &str), String>, site: usize, seen: &Seen<'_>) -> String {
    let mut addresses: Vec<_> = seen
        .visitors
        .iter()
        .filter_map(|visitor| given.get(&(site, *visitor)))
        .map(|address| address.to_lowercase())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let quoted: Vec<_> = addresses.iter().map(|address| format!("'{address}'")).collect();
    format!("[{}]", quoted.join(","))
}

#[test]
fn files_were_downloaded_by_these() {
    let Some(stage) = stage("files_were_downloaded_by_these") else { return };
    let given = stage.ledger.addresses(&stage.world);
    let line = |((site, file), seen): ((usize, usize), Seen<'_>)| {
        let address = &stage.world.sites[site].files[file];
        let name = address.rsplit('/').next().unwrap();
        let by = contacts(&given, site, &seen);
        let (times, visitors, sessions) = (seen.times, seen.visitors.len(), seen.sessions.len());
        line!(stage.site(site), address, name, times, visitors, sessions, by, seen.first_at, seen.last_at)
    };
    let question = "SELECT site, target_url, file_name, downloads, visitors, sessions, contacts, \
        toUnixTimestamp64Milli(first_downloaded_at), toUnixTimestamp64Milli(last_downloaded_at) FROM {database}.downloads";
    stage.compare(question, stage.ledger.deeds(Kind::Download).into_iter().map(line).collect());
}

#[test]
fn terms_were_searched_for_so_often() {
    let Some(stage) = stage("terms_were_searched_for_so_often") else { return };
    let line = |((site, term), seen): ((usize, String), Seen<'_>)| {
        let counts = line!(seen.times, seen.visitors.len(), seen.sessions.len());
        line!(stage.site(site), term, counts, seen.first_at, seen.last_at)
    };
    let question = "SELECT site, term, searches, visitors, sessions, toUnixTimestamp64Milli(first_searched_at), \
        toUnixTimestamp64Milli(last_searched_at) FROM {database}.searches";
    stage.compare(question, stage.ledger.searches().into_iter().map(line).collect());
}

#[test]
fn links_were_followed_by_these() {
    let Some(stage) = stage("links_were_followed_by_these") else { return };
    let line = |((site, link), seen): ((usize, usize), Seen<'_>)| {
        let address = &stage.world.sites[site].links[link];
        let counts = line!(seen.times, seen.visitors.len(), seen.sessions.len());
        line!(stage.site(site), address, counts, seen.first_at, seen.last_at)
    };
    let question = "SELECT site, target_url, outlinks, visitors, sessions, toUnixTimestamp64Milli(first_followed_at), \
        toUnixTimestamp64Milli(last_followed_at) FROM {database}.outlinks";
    stage.compare(question, stage.ledger.deeds(Kind::Outlink).into_iter().map(line).collect());
}

/// What happened to a page on a day.
#[derive(Default)]
struct PageDay<'a> {
    views: usize,
    visitors: BTreeSet<&'a str>,
    sessions: usize,
    entries: usize,
    exits: usize,
    told: usize,
    visible_ms: u64,
}

#[test]
fn pages_were_viewed_so_often_each_day() {
    let Some(stage) = stage("pages_were_viewed_so_often_each_day") else { return };
    let mut days: BTreeMap<(usize, i64, usize), PageDay<'_>> = BTreeMap::new();
    for visit in stage.ledger.visits().filter(|visit| !visit.visitor.is_robot()) {
        let (is_session, visible) = (visit.session != Session::None, visit.visible());
        let views: Vec<_> = visit.actions.iter().filter(|action| action.kind == Kind::PageView).collect();
        let mut seen = BTreeSet::new();
        for (place, view) in views.iter().enumerate() {
            // Views of one visit count on the day on which it began.
            let when = if is_session { visit.actions[0].occurred_at } else { view.occurred_at };
            let page = view.page.unwrap();
            let counted = days.entry((visit.site, day(when), page)).or_default();
            let visible = visible.get(&view.hit_id).copied().unwrap_or_default();
            counted.views += 1;
            counted.told += usize::from(visible > 0);
            counted.visible_ms += u64::from(visible);
            if is_session {
                counted.visitors.insert(visit.visitor.id());
                counted.sessions += usize::from(seen.insert(page));
                counted.entries += usize::from(place == 0);
                counted.exits += usize::from(place + 1 == views.len());
            }
        }
    }
    let line = |((site, day, page), counted): ((usize, i64, usize), PageDay<'_>)| {
        let of = &stage.world.sites[site];
        let borders = line!(counted.entries, counted.exits, counted.told, counted.visible_ms);
        let counts = line!(counted.views, counted.visitors.len(), counted.sessions, borders);
        line!(of.key, day, of.host, of.pages[page].path, counts)
    };
    let question = "SELECT site, toUInt16(day), page_host, page_path, views, visitors, sessions, entries, exits, \
        views_with_time, total_visible_ms FROM {database}.page_days";
    stage.compare(question, days.into_iter().map(line).collect());
}

#[test]
fn robots_are_in_their_own_view() {
    let Some(stage) = stage("robots_are_in_their_own_view") else { return };
    let line = |((site, robot), seen): ((usize, usize), Seen<'_>)| {
        let (user_agent, name) = ROBOTS[robot];
        let name = if name.is_empty() { user_agent } else { name };
        line!(stage.site(site), name, seen.times, seen.pages.len(), seen.first_at, seen.last_at)
    };
    let question = "SELECT site, bot_name, hits, pages, toUnixTimestamp64Milli(first_seen), \
        toUnixTimestamp64Milli(last_seen) FROM {database}.bots";
    stage.compare(question, stage.ledger.robots().into_iter().map(line).collect());
}
