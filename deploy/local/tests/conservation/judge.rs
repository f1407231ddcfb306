//! What must hold once everything has flowed through, whatever went wrong before.

use crate::fleet::{Fleet, Kind, Member, programs};
use crate::run::Aftermath;
use crate::topics::{Contents, Place};
use crate::world::World;
use std::collections::{HashMap, HashSet};
use std::process::Command;
use uuid::Uuid;

/// How many of the ids of one finding are told.
const TOLD: usize = 12;

/// What was found, for people; nothing when all holds.
pub type Findings = Vec<String>;

/// Holds what is there against what was promised.
pub fn judge(world: &World, fleet: &Fleet, aftermath: &Aftermath) -> Findings {
    let mut findings: Findings = aftermath.unsettled.iter().chain(&aftermath.unfelt).cloned().collect();
    let contents = Contents::read(&world.brokers(), &fleet.setup.prefix);
    let rows = rows(world, &fleet.setup.database);
    conservation(aftermath, &contents, &rows, &mut findings);
    repetitions(fleet, aftermath, &contents, &mut findings);
    order(aftermath, &contents, &mut findings);
    dead_letters(aftermath, &contents, &mut findings);
    settle(world, &fleet.setup.database, &mut findings);
    views(world, &fleet.setup.database, &mut findings);
    for member in &fleet.members {
        outcomes(member, &mut findings);
    }
    audit(world, fleet, &mut findings);
    if aftermath.ledger.acknowledged.len() < 50 {
        findings
            .push(format!("only {} hits were acknowledged: that proves nothing", aftermath.ledger.acknowledged.len()));
    }
    findings
}

/// Where each hit's rows came from.
fn rows(world: &World, database: &str) -> HashMap<Uuid, Vec<Place>> {
    let sql = format!("SELECT hit_id, kafka_partition, kafka_offset FROM {database}.hits FORMAT TSV");
    let mut rows = HashMap::<Uuid, Vec<Place>>::new();
    for line in world.query(&sql).lines() {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap();
        let (id, partition, offset) = (next(), next(), next());
        rows.entry(id.parse().unwrap()).or_default().push((partition.parse().unwrap(), offset.parse().unwrap()));
    }
    rows
}

/// Acknowledged hits are there once; others once or not at all; and nothing else is there.
fn conservation(aftermath: &Aftermath, contents: &Contents, rows: &HashMap<Uuid, Vec<Place>>, findings: &mut Findings) {
    let ledger = &aftermath.ledger;
    let trace = |id: &Uuid| {
        let places = |found: Option<&Vec<Place>>| {
            let places = found.into_iter().flatten().map(|(partition, offset)| format!("{partition}/{offset}"));
            places.collect::<Vec<_>>().join(" ")
        };
        let [raw, enriched, rows] = [contents.raw.get(id), contents.enriched.get(id), rows.get(id)].map(places);
        format!("{id}: hits.raw [{raw}] hits.enriched [{enriched}] rows of [{rows}]")
    };
    let mut tell = |what: &str, mut ids: Vec<&Uuid>| {
        ids.sort();
        if !ids.is_empty() {
            let told: Vec<_> = ids.iter().take(TOLD).map(|id| trace(id)).collect();
            findings.push(format!("{} hits {what}:\n    {}", ids.len(), told.join("\n    ")));
        }
    };
    let lost = |id: &&Uuid| !rows.contains_key(id);
    let acknowledged = || ledger.acknowledged.iter().filter(lost);
    tell(
        "were acknowledged and are not even on hits.raw",
        acknowledged().filter(|id| !contents.raw.contains_key(id)).collect(),
    );
    tell(
        "were acknowledged and got lost in the enricher",
        acknowledged().filter(|id| contents.raw.contains_key(id) && !contents.enriched.contains_key(id)).collect(),
    );
    tell(
        "were acknowledged and got lost in the sink",
        acknowledged().filter(|id| contents.enriched.contains_key(id)).collect(),
    );
    let twice = |id: &&Uuid| rows.get(id).is_some_and(|places| places.len() > 1);
    let same_place = |id: &&Uuid| {
        let places = &rows[*id];
        places.iter().collect::<HashSet<_>>().len() < places.len()
    };
    tell(
        "are in the table twice from one place on hits.enriched",
        rows.keys().filter(twice).filter(same_place).collect(),
    );
    let apart = || rows.keys().filter(twice).filter(|id| !same_place(id));
    let sent_twice = |id: &&Uuid| contents.raw.get(id).is_some_and(|places| places.len() > 1);
    tell(
        "are in the table twice: they are twice on hits.raw, and no duplicate to the enricher",
        apart().filter(sent_twice).collect(),
    );
    tell("are in the table twice: the enricher made two of one", apart().filter(|id| !sent_twice(id)).collect());
    tell("are in the table and were never sent", rows.keys().filter(|id| !ledger.sent.contains_key(id)).collect());
}

/// A hit that was sent once is on hits.raw once, however late or lost the broker's answers were, as long as no collector ended
/// with hits that it did not know the fate of.
fn repetitions(fleet: &Fleet, aftermath: &Aftermath, contents: &Contents, findings: &mut Findings) {
    if fleet.members.iter().any(|member| member.kind == Kind::Collector && member.interrupted) {
        return;
    }
    let is_twice = |(id, places): &(&Uuid, &Vec<Place>)| places.len() > 1 && !aftermath.ledger.repeated.contains(id);
    let twice: Vec<_> = contents.raw.iter().filter(is_twice).collect();
    if !twice.is_empty() {
        let told: Vec<_> = twice.iter().take(TOLD).map(|(id, places)| format!("{id} {places:?}")).collect();
        findings.push(format!("{} hits were sent once and are on hits.raw twice: {}", twice.len(), told.join(", ")));
    }
}

/// What a visitor was promised lies on hits.raw behind all that was promised before it was sent. Where a hit lies twice, its
/// first place counts.
fn order(aftermath: &Aftermath, contents: &Contents, findings: &mut Findings) {
    let first = |id: &Uuid| contents.raw.get(id).and_then(|places| places.iter().min()).copied();
    for (visitor, promised) in &aftermath.ledger.promised {
        let mut last: Option<(Place, Uuid)> = None;
        for together in promised {
            let places: Vec<(Place, Uuid)> = together.iter().filter_map(|id| Some((first(id)?, *id))).collect();
            let (Some(earliest), Some(latest)) = (places.iter().min(), places.iter().max()) else { continue };
            if let Some((place, id)) = last.filter(|last| last.0 > earliest.0) {
                findings.push(format!(
                    "{visitor}: hit {} at {:?} of hits.raw was sent after hit {id} at {place:?} was acknowledged",
                    earliest.1, earliest.0
                ));
                break;
            }
            last = Some(*latest);
        }
    }
}

/// Each undecodable message of hits.raw is in hits.dead exactly once: the enricher writes it in its transaction. Each
/// one of hits.enriched is there once or more, always under one id. Nothing else is there.
fn dead_letters(aftermath: &Aftermath, contents: &Contents, findings: &mut Findings) {
    for (topic, value) in &aftermath.poison {
        let found = contents.unreadable.get(topic).into_iter().flatten().filter(|(_, bytes)| *bytes == value);
        let places: Vec<Place> = found.map(|(place, _)| *place).collect();
        let [place] = places[..] else {
            findings.push(format!("a poison message is {} times on {topic}: {places:?}", places.len()));
            continue;
        };
        let source = ((*topic).to_owned(), Some(place));
        let letters: Vec<_> = contents.dead.iter().filter(|letter| letter.source == source).collect();
        let ids: HashSet<_> = letters.iter().map(|letter| letter.id).collect();
        let wrong = |what: &str| format!("the poison message {topic} {}/{} {what}", place.0, place.1);
        match letters.len() {
            0 => findings.push(wrong("is not in hits.dead")),
            1 => {}
            times if *topic == "hits.raw" => findings.push(wrong(&format!("is {times} times in hits.dead"))),
            _ if ids.len() > 1 => findings.push(wrong(&format!("is in hits.dead under {} ids", ids.len()))),
            _ => {}
        }
        if letters.iter().any(|letter| letter.original != *value) {
            findings.push(wrong("is in hits.dead with other bytes"));
        }
    }
    findings.extend(contents.dead_unreadable.iter().take(TOLD).cloned());
    let is_poison = |original: &Vec<u8>| aftermath.poison.iter().any(|(_, value)| value == original);
    for letter in contents.dead.iter().filter(|letter| !is_poison(&letter.original)).take(TOLD) {
        findings.push(format!("a hit is in hits.dead: {}, from {:?}", letter.reason, letter.source));
    }
}

/// Makes sessions of all hits, instead of within a minute.
fn settle(world: &World, database: &str, findings: &mut Findings) {
    let mut command = Command::new(programs().join("sink"));
    command.args(["views", "settle", "--clickhouse-url", &world.clickhouse_url(), "--clickhouse-database", database]);
    run(command, "sessions are not settled", findings);
}

fn run(mut command: Command, otherwise: &str, findings: &mut Findings) {
    let output = command.output().unwrap();
    if !output.status.success() {
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        findings.push(format!("{otherwise} ({}):\n{text}", output.status));
    }
}

/// Sessions and pages count what is in hits.
fn views(world: &World, database: &str, findings: &mut Findings) {
    let pairs = [
        (
            "page views of sessions",
            "SELECT sum(page_views) FROM {db}.sessions",
            "SELECT uniqExact(hit_id) FROM {db}.hits WHERE kind = 'page_view' AND NOT is_bot",
        ),
        (
            "events of sessions",
            "SELECT sum(events) FROM {db}.sessions",
            "SELECT uniqExact(hit_id) FROM {db}.hits WHERE kind NOT IN ('page_view', 'heartbeat') AND NOT is_bot",
        ),
        (
            "views of pages",
            "SELECT page_path, sum(views) FROM {db}.pages GROUP BY page_path ORDER BY page_path",
            "SELECT page_path, uniqExact(hit_id) FROM {db}.hits WHERE kind = 'page_view' AND NOT is_bot GROUP BY page_path ORDER BY page_path",
        ),
        ("visitors that are no robots", "SELECT count() FROM {db}.hits WHERE is_bot", "SELECT 0"),
    ];
    for (what, view, table) in pairs {
        let [view, table] = [view, table].map(|sql| world.query(&sql.replace("{db}", database)));
        if view != table {
            findings.push(format!("{what} do not agree with hits: {view} against {table}"));
        }
    }
}

/// Received = the sum of outcomes, for a process that was there from the first hit to the last.
fn outcomes(member: &Member, findings: &mut Findings) {
    if member.interrupted {
        return;
    }
    let (received, outcomes) = match member.kind {
        Kind::Collector => ("collector_hits_received_total", "collector_hits_total{"),
        Kind::Enricher => ("enricher_hits_received_total", "enricher_hits_total{"),
        Kind::Sink => ("sink_received_hits_total", "sink_hits_total{"),
    };
    let metrics = member.metrics();
    let Some(received) = metrics.get(received) else {
        findings.push(format!("{} does not tell {received}", member.name));
        return;
    };
    let parts: Vec<_> = metrics.iter().filter(|(name, value)| name.starts_with(outcomes) && **value != 0.0).collect();
    let sum: f64 = parts.iter().map(|(_, value)| **value).sum();
    if sum != *received {
        findings.push(format!("{} received {received} hits, its outcomes are {sum}: {parts:?}", member.name));
    }
}

/// The sink's own audit agrees.
fn audit(world: &World, fleet: &Fleet, findings: &mut Findings) {
    let mut command = Command::new(programs().join("sink"));
    command.args(["audit", "--clickhouse-url", &world.clickhouse_url()]);
    command.args(["--clickhouse-database", &fleet.setup.database, "--kafka-brokers", &world.brokers()]);
    command.args(["--topic-prefix", &fleet.setup.prefix, "--group", &format!("{}sink", fleet.setup.prefix)]);
    run(command, "the audit is not clean", findings);
}
