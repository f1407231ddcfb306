//! Conservation: whatever fails, every hit that a client was promised is in the table, once.
//!
//! A run starts one real Kafka and one real ClickHouse, and plays schedules on them. A schedule is drawn from its seed
//! ([`schedule`]): the three real programs ([`fleet`]) behind faulty cables ([`proxy`]), visitors who remember each
//! acknowledged hit ([`client`]), undecodable messages ([`poison`]), and a handful of faults ([`run`]). Then all is
//! healed, everything flows through, and the judge ([`judge`]) holds tables and topics against what was promised:
//!
//! * each acknowledged hit is in `hits` exactly once, each other one once or not at all, and nothing else;
//! * what one visitor was promised is on hits.raw in the order of the promises, and once where it was sent once and no
//!   collector was killed or restarted;
//! * views agree with `hits`, and the sink's audit is clean;
//! * received = the sum of outcomes, in each process that was neither killed nor restarted;
//! * each fault of ClickHouse or of the spool was felt ([`bite`]);
//! * each undecodable message of hits.raw is in hits.dead exactly once, each one of hits.enriched once or more under
//!   one id, and no hit is.
//!
//! The environment: `SEED` (of the first schedule, always the same by default; the next ones have the seeds after it), `SCHEDULES` (how many),
//! `FAILURES` (after how many of them a run ends, 5 by default), `PROGRAMS` (folder of the programs, by default beside
//! this test), `ONLY` (the number of one fault, to look at it alone). A schedule that fails is played again by
//! `SEED=its seed SCHEDULES=1`: the same faults at the same times. How threads and packets interleave is not the seed's
//! to say, so a rare failure may want several tries.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bite;
mod client;
mod fleet;
mod judge;
mod poison;
mod proxy;
mod run;
mod schedule;
mod topics;
mod world;

use local::{not_run, servers_or_skip, tail};
use schedule::Schedule;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;
use world::World;

/// Schedules of a short run, about four minutes: so many that each fault of the deck is dealt.
const SCHEDULES: u64 = 11;
/// Their first seed: a gate plays the same faults each time, so that a change is to blame when it closes. `make soak` draws
/// new ones.
const FIRST: u64 = 100;
/// A run that fails as often as this has told enough, unless `FAILURES` says otherwise.
const ENOUGH: u64 = 5;

#[test]
fn nothing_is_lost_and_nothing_is_twice() {
    const NAME: &str = "local::nothing_is_lost_and_nothing_is_twice";
    let absent = ["collector", "enricher", "sink"].map(|name| fleet::programs().join(name));
    if let Some(absent) = absent.iter().find(|program| !program.is_file()) {
        return not_run(NAME, &format!("{} is not built: cargo build --workspace --bins", absent.display()));
    }
    if !servers_or_skip(NAME) {
        return;
    }
    let first = number("SEED").unwrap_or(FIRST);
    let schedules = number("SCHEDULES").unwrap_or(SCHEDULES);
    let enough = usize::try_from(number("FAILURES").unwrap_or(ENOUGH)).unwrap();
    tell(&format!("conservation: SEED={first} SCHEDULES={schedules}"));
    let directory = std::env::temp_dir().join(format!("hitmeter-conservation-{first}-{}", std::process::id()));
    let mut world = World::start(&directory);
    let mut failed = Vec::new();
    for seed in (0..schedules).map(|number| first.wrapping_add(number)) {
        if !play(&mut world, seed, &directory.join(seed.to_string())) {
            failed.push(seed);
        }
        if failed.len() >= enough {
            break;
        }
    }
    drop(world);
    assert!(failed.is_empty(), "failed: {failed:?}; everything is kept in {}", directory.display());
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Plays one schedule; true when everything held.
fn play(world: &mut World, seed: u64, directory: &Path) -> bool {
    let schedule = Schedule::draw(seed);
    let begun = Instant::now();
    let mut run = run::Run::start(world, &schedule, directory);
    let aftermath = run.play();
    let findings = run.judge(&aftermath);
    let setup = run.fleet.setup.clone();
    let notes = run.finish();
    let ledger = &aftermath.ledger;
    let verdict = if findings.is_empty() { "holds" } else { "FAILED" };
    let (sent, promised) = (ledger.sent.len(), ledger.acknowledged.len());
    tell(&format!(
        "{verdict} in {:4.1} s, {promised} of {sent} hits promised: {schedule}",
        begun.elapsed().as_secs_f64()
    ));
    if findings.is_empty() {
        world.clean(&setup.prefix, &setup.database);
        let _ = std::fs::remove_dir_all(directory);
        return true;
    }
    for (answer, times) in &ledger.answers {
        tell(&format!("  {times} answers: {answer}"));
    }
    for text in &notes {
        tell(&format!("  {text}"));
    }
    for log in logs(directory) {
        tell(&format!("--- the end of {}\n{}", log.display(), tail(&log)));
    }
    for finding in &findings {
        tell(&format!("  FINDING: {finding}"));
    }
    tell(&format!("  topics {}*, database {}, files {}", setup.prefix, setup.database, directory.display()));
    tell(&format!(
        "  again: SEED={seed} SCHEDULES=1 cargo test -p local --test conservation -- --nocapture nothing_is"
    ));
    false
}

fn logs(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let mut logs: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|problem| panic!("{variable}={text}: {problem}")))
}

/// Past the capture of test output: a run of hours shows where it is.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
