//! The rights of the people behind the hits, proven: whatever is asked for while hits come in, it is done everywhere, and
//! nobody else notices.
//!
//! A run starts one real Kafka, one real ClickHouse and the real programs ([`world`]). Some hundred people, drawn from a
//! seed ([`people`]), come and go on several devices at the sites of two customers ([`traffic`]), while operators exercise
//! rights for them with the real `privacy` ([`commands`]) at moments of its choice. One command in five is killed (SIGKILL)
//! and run again; the sink is killed while it erases; Kafka stands still for a moment, so that hits are spooled; some hits
//! are refused by ClickHouse, go to hits.dead, and are replayed in the end. Then everything flows through, and the ledger
//! ([`ledger`]) of what was done is held against what there is:
//!
//! * an export holds each hit, form, session and visitor of the person at that customer's sites, and nothing else
//!   ([`access`]);
//! * each hit has the row that it is to have, or none; pages count what was done; receipts tell what was there
//!   ([`judge`]);
//! * in no column of any table and in no message is anything that names who was erased ([`scan`]), also not in what came
//!   late or was replayed; hits of who objected or was forgotten name nobody or somebody else; the spool is empty;
//! * a corrected name wins over what is older and comes later, and what the person says later over it;
//! * partners are given whoever permits it, and are told of whoever does not any more ([`sharing`]);
//! * all of hits.enriched, loaded again into an empty database, gives the same ([`replay`]);
//! * whoever objects has left the audience that all are in;
//! * no log, metric, receipt, error or query that ClickHouse remembers names anybody who ever came.
//!
//! What topics may still hold, as the README of `privacy` says: hits.raw for 72 hours, hits.enriched for 7 days and
//! hits.dead for 30, each what was written before the stage had learned of the request, and hits.raw also what comes late
//! of before it. What is replayed from hits.dead stands on hits.enriched again, and is dropped by whoever reads it.
//!
//! The environment: `SEED`, always the same by default; `PEOPLE`, 300 by default; `PROGRAMS`, the folder of the programs.
//! [`measure`] has more. The seed decides who does and asks what in which order, not how threads interleave.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod commands;
mod judge;
mod ledger;
mod measure;
mod partners;
mod people;
mod replay;
mod scan;
mod sharing;
#[allow(dead_code, reason = "the other test uses the rest")]
#[path = "../conservation/topics.rs"]
mod topics;
mod traffic;
mod world;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use commands::Desk;
use fastrand::Rng;
use judge::Judge;
use local::{not_run, servers_or_skip};
use people::{Right, Subject, sites_of};
use scan::Needles;
use traffic::{Action, Client, Crowd, REFUSED_PAGE, Visit};
use world::{DATABASE, GROUP, PREFIX, World, until};

/// The seed that a gate plays each time, so that a change is to blame when it closes.
const SEED: u64 = 600;
const PEOPLE: u64 = 300;
/// How long Kafka stands still: longer than the collector waits for it.
const STANDSTILL: Duration = Duration::from_secs(2);
/// A collector learns of an objection within this.
const LEARNED_WITHIN: Duration = Duration::from_secs(45);
/// How often the sink is killed while it erases, and when after it was started, milliseconds.
const KILLS: usize = 3;
const KILLED_AFTER: std::ops::Range<u64> = 500..9_000;

#[test]
fn every_right_is_done_everywhere_and_nobody_else_notices() {
    const NAME: &str = "local::every_right_is_done_everywhere_and_nobody_else_notices";
    if !can_run(NAME) {
        return;
    }
    let (seed, count) = (number("SEED").unwrap_or(SEED), number("PEOPLE").unwrap_or(PEOPLE));
    tell(&format!("rights: SEED={seed} PEOPLE={count}"));
    let directory = std::env::temp_dir().join(format!("hitmeter-rights-{seed}-{}", std::process::id()));
    if let Some(hits) = number("HITS") {
        measure::measure(&directory, seed, hits);
        return std::fs::remove_dir_all(&directory).unwrap();
    }
    let subjects = people::draw(seed, usize::try_from(count).unwrap());
    let findings = play(&directory, seed, subjects);
    findings.iter().for_each(|finding| tell(&format!("  FINDING: {finding}")));
    assert!(findings.is_empty(), "{} findings; everything is kept in {}", findings.len(), directory.display());
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Plays all of it. Gives what was wrong.
fn play(directory: &Path, seed: u64, subjects: Vec<Subject>) -> Vec<String> {
    let begun = Instant::now();
    let step = |what: &str| tell(&format!("{:6.1} s: {what}", begun.elapsed().as_secs_f64()));
    let world = World::start(directory);
    world.query(&format!("ALTER TABLE {{db}}.hits ADD CONSTRAINT refused CHECK page_path != '{REFUSED_PAGE}'"));
    world.run_all();
    partners::publish(&world.brokers(), &subjects);
    let crowd = Crowd::new(subjects, &world.collector);
    let clients = crowd.start(seed);
    step("people come");
    world.freeze_kafka(STANDSTILL);
    until("that all have introduced themselves", || crowd.is_introduced().then_some(()).ok_or_else(String::new));
    wait_until_known(&world, &crowd.subjects);
    gather(&world, &crowd.subjects);
    step("everybody is known");

    let mut random = Rng::with_seed(seed ^ 1);
    let mut desk = Desk::new(&world, &crowd, random.fork());
    let mut asking: Vec<_> = crowd.subjects.iter().map(|subject| (first_wish(subject.right), subject)).collect();
    random.shuffle(&mut asking);
    let mut findings = while_sinks_are_killed(&world, random.fork(), || desk.exercise_all(asking));
    step("all have asked");
    findings.extend(sharing::judge(&world, &desk, &crowd.subjects, "first", |right| {
        matches!(right, Right::Permit | Right::Withdraw)
    }));
    let withdrawing = crowd.subjects.iter().filter(|subject| subject.right == Right::Withdraw);
    findings.extend(desk.exercise_all(withdrawing.map(|subject| (Right::Withdraw, subject)).collect()));
    findings.extend(sharing::judge(&world, &desk, &crowd.subjects, "second", |right| right == Right::Permit));
    findings.extend(sharing::judge_notices(&desk, &crowd.subjects));
    step("partners were given what is permitted");
    come_late(&crowd, random.fork());
    say_old_names(&crowd, random.fork());
    findings.extend(meet_objectors(&crowd, random.fork()));
    crowd.finish(clients);
    wait_until_loaded(&world);
    world.query("ALTER TABLE {db}.hits DROP CONSTRAINT refused");
    let brokers = world.brokers();
    world.must("sink", &["deadletters", "replay", "--kafka-brokers", &brokers, "--topic-prefix", PREFIX, "--all"]);
    wait_until_loaded(&world);
    desk.wait_until_done();
    world.sink(DATABASE, &["views", "settle"]);
    refresh_audiences(&world);
    step("everything is done");

    let ledger = std::mem::take(&mut *crowd.ledger.lock().unwrap());
    tell(&format!("{} hits of {} people, {} requests", ledger.hits.len(), crowd.subjects.len(), ledger.asked.len()));
    let needles = Needles::new(&crowd.subjects, &ledger.hits);
    findings.extend(Judge { world: &world, subjects: &crowd.subjects, ledger: &ledger, needles: &needles }.judge());
    step("judged");
    findings.extend(replay::judge(&world));
    step("replayed");
    world.stop_all();
    findings.extend(judge_files(&world, &needles));
    step("ended");
    findings
}

/// What somebody asks for first.
fn first_wish(right: Right) -> Right {
    if right == Right::Withdraw { Right::Permit } else { right }
}

/// Waits until it is known of each device whose it is, at each site, while people go on.
fn wait_until_known(world: &World, subjects: &[Subject]) {
    let of = |subject: &Subject| subject.devices.len() * sites_of(subject.customer).count();
    let all: usize = subjects.iter().map(of).sum();
    until("that everybody is known", || {
        let known = world.number("SELECT uniqExact(site, visitor_id) FROM {db}.contact_links");
        if known == all { Ok(()) } else { Err(format!("{known} of {all} devices are")) }
    });
}

/// Everybody is in an audience, and every third has an address of before that is merged into theirs: of those whose
/// receipts are not counted.
fn gather(world: &World, subjects: &[Subject]) {
    for site in &people::SITES {
        let everybody = ["--site", site.key, "--condition", "page_views >= 0"];
        world.sink(DATABASE, &[&["audiences", "define", judge::AUDIENCE], &everybody[..]].concat());
    }
    refresh_audiences(world);
    for subject in
        subjects.iter().filter(|each| each.number % 3 == 0 && !each.keeps_still && each.right != Right::Access)
    {
        for site in sites_of(subject.customer) {
            let (now, before) = (&subject.email, subject.email.replace('@', "@before."));
            world.query(&format!(
                "INSERT INTO {{db}}.contact_merges (site, contact, merged_into) VALUES ('{}', '{before}', '{now}')",
                site.key
            ));
        }
    }
}

/// Whoever is in it comes in, whoever is not goes out.
fn refresh_audiences(world: &World) {
    world.sink(DATABASE, &["audiences", "refresh"]);
}

/// Waits until nothing is on its way any more.
fn wait_until_loaded(world: &World) {
    let brokers = world.brokers();
    until("the end of the topics", || {
        let spool = std::fs::read_dir(world.directory.join("spool")).unwrap().flatten();
        let segments = spool.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "spool"));
        if segments.count() > 0 {
            return Err("hits are in the spool".to_owned());
        }
        topics::read_by(&brokers, "rights.enricher", &format!("{PREFIX}hits.raw"))?;
        topics::read_by(&brokers, GROUP, &format!("{PREFIX}hits.enriched"))
    });
}

/// Kills the sink now and then while something is done.
fn while_sinks_are_killed<T>(world: &World, mut random: Rng, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..KILLS {
                let end = Instant::now() + Duration::from_millis(random.u64(KILLED_AFTER));
                while Instant::now() < end {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                world.kill("sink");
                tell("the sink is killed");
                world.run_sink();
            }
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

/// Hits from before an erasure come after it: of a device that is known, and of one that only a form gives away.
fn come_late(crowd: &Crowd, random: Rng) {
    let mut client = Client::new(crowd, random);
    let asked = crowd.ledger.lock().unwrap().asked.clone();
    for asked in asked.iter().filter(|asked| asked.right == Right::Erase) {
        let subject = &crowd.subjects[asked.subject];
        let site = sites_of(subject.customer).next().unwrap();
        for device in [Some(0), None] {
            let actions = vec![Action::Form];
            client.send(&Visit { subject, site, device, actions, occurred: Some(asked.from - 5_000) });
        }
    }
}

/// Whoever had their name corrected: a form with the old name from before that comes late, at each site; and at the first one of
/// every other's a newer form, in which they go back to it.
fn say_old_names(crowd: &Crowd, random: Rng) {
    let mut client = Client::new(crowd, random);
    let asked = crowd.ledger.lock().unwrap().asked.clone();
    for asked in asked.iter().filter(|asked| asked.right == Right::Rectify) {
        let subject = &crowd.subjects[asked.subject];
        let (device, actions) = (Some(0), vec![Action::Form]);
        if asked.subject % 2 == 0 {
            let site = sites_of(subject.customer).next().unwrap();
            client.send(&Visit { subject, site, device, actions: actions.clone(), occurred: None });
        }
        for site in sites_of(subject.customer) {
            client.send(&Visit { subject, site, device, actions: actions.clone(), occurred: Some(asked.from - 5_000) });
        }
    }
}

/// Who objects is given the opt-out cookie once the collector has learned of it, and with each contact from then on. Gives
/// who was not.
fn meet_objectors(crowd: &Crowd, random: Rng) -> Vec<String> {
    let mut client = Client::new(crowd, random);
    let mut findings = Vec::new();
    for subject in crowd.subjects.iter().filter(|subject| subject.right == Right::Object) {
        for device in 0..subject.devices.len() {
            for site in sites_of(subject.customer) {
                let is_given = until_given(crowd, &mut client, (subject, device, site));
                if !is_given {
                    findings.push(format!("device {device} of {} is given no cookie at {}", subject.number, site.key));
                }
            }
        }
        let ledger = crowd.ledger.lock().unwrap();
        let given = ledger.of(subject.number).map(|hit| (hit.site.key, hit.device, hit.is_opted_out));
        let given: Vec<_> = given.collect();
        if !given.is_sorted_by_key(|(.., is_given)| *is_given) {
            findings.push(format!("the cookie was given to {}, and then not: {given:?}", subject.number));
        }
    }
    findings
}

/// Sends until the cookie comes, for as long as it may take a collector to learn of an objection.
fn until_given(crowd: &Crowd, client: &mut Client<'_>, who: (&Subject, usize, &'static people::Site)) -> bool {
    let (subject, device, site) = who;
    let deadline = Instant::now() + LEARNED_WITHIN;
    while Instant::now() < deadline {
        let _turn = crowd.hold(subject.number);
        client.send(&Visit { subject, site, device: Some(device), actions: vec![Action::Page], occurred: None });
        if crowd.ledger.lock().unwrap().of(subject.number).last().is_some_and(|hit| hit.is_opted_out) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    false
}

/// Nobody is named in what programs wrote down of their own accord, and nothing is in the spool.
fn judge_files(world: &World, needles: &Needles) -> Vec<String> {
    let folders = ["outputs", "spool"].map(|name| world.directory.join(name));
    let mut findings = judge::files(needles, &[&folders[0], &folders[1]]);
    for log in ["kafka/kafka.log", "clickhouse/clickhouse.log"] {
        if let Some(found) = needles.find(&std::fs::read(world.directory.join(log)).unwrap()).first() {
            findings.push(format!("{found:?} in {log}"));
        }
    }
    let metrics = std::fs::read_to_string(folders[0].join("collector.metrics")).unwrap();
    let spooled = metrics.lines().find_map(|line| line.strip_prefix("collector_spool_published_total "));
    if spooled.is_none_or(|count| count == "0") {
        findings.push("nothing was ever spooled".to_owned());
    }
    findings
}

/// Whether the programs and the servers are here; else it says what is missing.
fn can_run(name: &str) -> bool {
    let absent = ["collector", "enricher", "sink", "privacy"].map(|name| world::programs().join(name));
    if let Some(absent) = absent.iter().find(|program| !program.is_file()) {
        not_run(name, &format!("{} is not built: cargo build --workspace --bins", absent.display()));
        return false;
    }
    servers_or_skip(name)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|problem| panic!("{variable}={text}: {problem}")))
}

/// Past the capture of test output: a run of minutes shows where it is.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
