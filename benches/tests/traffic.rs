//! The traffic is what it says: the same for the same seed, in order of arrival, with the hard cases in it, and such that
//! its ledger is the only right answer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails here has failed")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use benches::traffic::visit::{CameFrom, Session, Visit, Visitor};
use benches::traffic::world::Client;
use benches::traffic::{DAY, Ledger, Settings, Traffic, World};
use schemas::{Encode, EnrichedHit, Kind};

/// 2026-03-01 00:00:00 UTC, Unix milliseconds.
const END: i64 = 1_772_323_200_000;
const SEED: u64 = 7;
const HITS: u64 = 60_000;
const MINUTE: i64 = 60_000;

/// Forty days, over the end of January.
fn world(seed: u64) -> World {
    World::new(Settings::new(seed, HITS, END).lasting(40 * DAY))
}

fn ledger(world: &World) -> Ledger {
    let mut traffic = Traffic::new(world).with_ledger();
    traffic.by_ref().for_each(drop);
    traffic.into_ledger()
}

fn digest(seed: u64) -> u64 {
    let (world, mut hasher, mut bytes) = (world(seed), DefaultHasher::new(), Vec::new());
    for hit in Traffic::new(&world) {
        bytes.clear();
        hit.encode(&mut bytes);
        bytes.hash(&mut hasher);
    }
    hasher.finish()
}

#[test]
fn a_seed_decides_everything() {
    assert_eq!(digest(SEED), digest(SEED));
    assert_ne!(digest(SEED), digest(SEED + 1));
}

#[test]
fn hits_come_in_order_of_arrival_and_are_as_many_as_asked_for() {
    let world = world(SEED);
    let mut traffic = Traffic::new(&world).with_ledger();
    let (mut last, mut rows, mut ids) = (world.settings.start, 0, HashSet::new());
    for hit in traffic.by_ref() {
        assert!((last..=END).contains(&hit.hit.received_at) && hit.occurred_at <= hit.hit.received_at);
        last = hit.hit.received_at;
        rows += 1;
        ids.insert(hit.hit.hit_id);
    }
    let counts = traffic.ledger().counts();
    assert_eq!((rows, ids.len() as u64), (counts.rows, counts.hits));
    assert!((HITS..HITS + 500).contains(&rows), "{rows}");
}

/// What the enricher makes of a client's clock.
fn corrected(hit: &EnrichedHit<'_>) -> i64 {
    match (hit.hit.client_time, hit.hit.sent_at) {
        (Some(time), Some(sent)) => time + (hit.hit.received_at - sent),
        _ => hit.hit.received_at,
    }
}

#[test]
fn a_hit_happened_when_its_clocks_say() {
    for hit in Traffic::new(&world(SEED)) {
        assert_eq!((hit.occurred_at, Some(hit.occurred_at)), (corrected(&hit), Some(corrected(&hit))));
        assert!(hit.hit.received_at - hit.occurred_at <= 7 * DAY);
    }
}

/// Visits by site and visitor, in order of time.
fn by_visitor(ledger: &Ledger) -> BTreeMap<(usize, &str), Vec<&Visit>> {
    let mut visitors = ledger.visitors();
    visitors.values_mut().for_each(|visits| visits.retain(|visit| visit.session != Session::None));
    visitors
}

/// Whoever finds sessions by half an hour's gaps can only find these.
#[test]
fn untold_sessions_follow_from_the_gaps() {
    let world = world(SEED);
    let ledger = ledger(&world);
    let (mut longest, mut shortest) = (0, i64::MAX);
    for visits in by_visitor(&ledger).values() {
        let untold: Vec<&&Visit> = visits.iter().filter(|visit| visit.session == Session::Untold).collect();
        for visit in &untold {
            let gaps = visit.actions.windows(2).map(|pair| pair[1].occurred_at - pair[0].occurred_at);
            assert!(gaps.clone().all(|gap| gap > 0));
            longest = longest.max(gaps.max().unwrap_or(0));
        }
        for pair in untold.windows(2) {
            let ended = pair[0].actions.last().unwrap().occurred_at;
            shortest = shortest.min(pair[1].actions[0].occurred_at - ended);
        }
    }
    assert_eq!(longest, 30 * MINUTE);
    assert!(shortest > 30 * MINUTE && shortest < 30 * MINUTE + 100, "{shortest}");
}

#[test]
fn told_sessions_have_ids_of_their_own_on_each_site() {
    let world = world(SEED);
    let (ledger, mut seen) = (ledger(&world), HashSet::new());
    for visit in ledger.visits() {
        if let Session::Told(id) = visit.session {
            assert!(seen.insert((visit.site, id)));
        }
    }
}

/// How often each hard case is there, by its name.
fn hard_cases(world: &World, ledger: &Ledger) -> BTreeMap<&'static str, usize> {
    let month = |at: i64| at >= END - 28 * DAY;
    let mut cases = BTreeMap::new();
    let mut note = |name: &'static str, is_there: bool| *cases.entry(name).or_insert(0) += usize::from(is_there);
    let mut sites_of: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for visit in ledger.visits() {
        let (first, last) = (visit.actions.first().unwrap(), visit.actions.last().unwrap());
        let human = !visit.visitor.is_robot();
        note("robots", !human);
        note("nobody", matches!(visit.visitor, Visitor::Nobody(_)));
        note("for a day", matches!(visit.visitor, Visitor::ForADay(..)));
        note("over midnight", first.occurred_at.div_euclid(DAY) != last.occurred_at.div_euclid(DAY));
        note("over the end of a month", month(first.received_at) != month(last.received_at));
        note("without session ids", visit.session == Session::Untold);
        note("by pixel", human && world.sites[visit.site].client == Client::Pixel);
        note("clock wrong by months", visit.clock_skew.is_some_and(|skew| skew > 60 * DAY));
        note("known to a partner", visit.known_to_partner(world).is_some());
        note("from another site", first.kind == Kind::PageView && matches!(first.from, CameFrom::Page(..)));
        note("several sources", visit.origins(world).into_iter().collect::<BTreeSet<_>>().len() > 1);
        let views = visit.actions.iter().map(|action| action.view);
        note(
            "two tabs",
            views.collect::<Vec<_>>().windows(3).any(|three| three[0] == three[2] && three[0] != three[1]),
        );
        for action in &visit.actions {
            note("late by hours", action.received_at - action.occurred_at > 4 * 3_600_000);
            note("late by six days", action.received_at - action.occurred_at > 6 * DAY);
            note("twice", action.repeated_at.is_some());
            note("twice, without session ids", action.repeated_at.is_some() && visit.session == Session::Untold);
            note("twice, in two months", action.repeated_at.is_some_and(|at| month(at) != month(action.occurred_at)));
            note("mails", action.kind == Kind::MailOpen);
        }
        note("forms", visit.cards(world).next().is_some());
        if human && !visit.visitor.id().is_empty() {
            sites_of.entry(visit.visitor.id()).or_default().insert(visit.site);
        }
    }
    note("visitors of several sites", sites_of.values().any(|sites| sites.len() > 1));
    cases
}

#[test]
fn the_hard_cases_are_there() {
    let world = world(SEED);
    let cases = hard_cases(&world, &ledger(&world));
    let missing: Vec<_> = cases.iter().filter(|(_, count)| **count == 0).collect();
    assert!(missing.is_empty(), "{missing:?} of {cases:#?}");
}
