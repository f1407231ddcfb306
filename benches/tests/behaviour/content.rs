//! Pages, files, searches, and robots.

use std::collections::BTreeMap;

use benches::traffic::origins::ROBOTS;
use benches::traffic::truth::Seen;
use benches::traffic::world::Client;
use schemas::Kind;

use crate::line;
use crate::stage::stage;

#[test]
fn pages_were_viewed_so_often_and_so_long() {
    let Some(stage) = stage("pages_were_viewed_so_often_and_so_long") else { return };
    let line = |((site, page), seen): ((usize, usize), Seen<'_>)| {
        let of = &stage.world.sites[site];
        let title = if of.client == Client::Tag { &of.pages[page].title } else { "" };
        // To the nearest thousandth, as the average is no whole number.
        let average =
            if seen.told == 0 { 0 } else { (seen.visible_ms * 1_000 + seen.told as u64 / 2) / seen.told as u64 };
        let times = line!(seen.first_at, seen.last_at);
        let how_often = line!(seen.times, seen.visitors.len(), seen.sessions.len(), average, seen.visible_ms);
        line!(of.key, of.host, of.pages[page].path, title, how_often, times)
    };
    let question = "SELECT site, page_host, page_path, page_title, views, visitors, sessions, \
        toUInt64(floor(average_visible_ms * 1000 + 0.5)), total_visible_ms, toUnixTimestamp64Milli(first_viewed_at), \
        toUnixTimestamp64Milli(last_viewed_at) FROM {database}.pages";
    stage.compare(question, stage.ledger.pages().into_iter().map(line).collect());
}

/// The addresses among those given that are of these visitors of a site, as ClickHouse writes a list.
fn contacts(given: &BTreeMap<(usize, &str), String>, site: usize, seen: &Seen<'_>) -> String {
    let mut addresses: Vec<_> = seen.visitors.iter().filter_map(|visitor| given.get(&(site, *visitor))).collect();
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
        line!(stage.site(site), term, seen.times, seen.visitors.len())
    };
    let question = "SELECT site, lower(search_term) AS term, uniqExact(hit_id), uniqExactIf(visitor_id, visitor_id != '') \
        FROM {database}.session_hits WHERE kind = 'search' GROUP BY site, term";
    stage.compare(question, stage.ledger.searches().into_iter().map(line).collect());
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
