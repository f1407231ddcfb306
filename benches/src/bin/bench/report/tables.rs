//! The report's tables.

use std::fmt::Write;

use crate::numbers::{mebibytes, median, thousands};
use crate::path::Step;
use crate::peer::{Loaded, Peer};
use crate::profile::Profile;
use crate::pump::Cost;
use crate::requests::{self, BATCH_HITS, COMPARED_AT, MANY_CONNECTIONS, Point};
use crate::stages::{self, Floor, Stage};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Servers that answer requests.
pub(super) fn requests(text: &mut String, results: Option<&requests::Results>, plot: &str) {
    let Some(results) = results else { return };
    let _ = writeln!(text, "\n## Requests\n\n![latency against rate]({plot})\n");
    let _ = writeln!(
        text,
        "One core for the server, the other for the load and Kafka. {} requests/s, by turns (A B A B), medians:\n",
        thousands(COMPARED_AT)
    );
    text.push_str(
        "| | us a request | each round | Kafka's us | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|---|---|\n",
    );
    for (name, points) in
        [("nginx empty_gif", &results.nginx), ("collector, acknowledged by Kafka", &results.collector)]
    {
        if points.is_empty() {
            let _ = writeln!(text, "| {name} | not measured: it is not installed | | | | | |");
            continue;
        }
        let of = |figure: fn(&Point) -> f64| requests::median_of(points, figure);
        let rounds: Vec<String> = points.iter().map(|point| format!("{:.1}", point.microseconds)).collect();
        let _ = writeln!(
            text,
            "| {name} | {:.1} | {} | {:.1} | {:.2} | {:.2} | {:.2} |",
            of(|point| point.microseconds),
            rounds.join(", "),
            of(|point| point.kafka),
            of(|point| point.p50),
            of(|point| point.p99),
            of(|point| point.p999)
        );
    }
    let most = |points: &[Point]| match points {
        [] => "not measured".to_owned(),
        points => format!("{}/s", thousands(requests::most(points))),
    };
    let (nginx, collector) = (most(&results.nginx_sweep), most(&results.collector_sweep));
    let _ = writeln!(text, "\nHighest rate held: nginx {nginx}, collector {collector}.\n");
    text.push_str("| server | asked/s | answered/s | us a request | Kafka's us | p50 ms | p99 ms | p99.9 ms | load's own us |\n|---|---|---|---|---|---|---|---|---|\n");
    for (name, points) in [("nginx", &results.nginx_sweep), ("collector", &results.collector_sweep)] {
        points.iter().for_each(|point| write_point(text, name, point));
    }
    write_point(text, &format!("collector, batches of {BATCH_HITS}, per hit"), &results.batch);
    write_point(text, &format!("collector, {} connections", thousands(MANY_CONNECTIONS as f64)), &results.many);
    let _ = writeln!(
        text,
        "\n{} hits were sent to the collector in all of this, {} were acknowledged. Memory, most: {} with batches, {} with {} connections.",
        thousands(results.sent as f64),
        thousands(results.acknowledged as f64),
        mebibytes(results.batch.peak_bytes),
        mebibytes(results.many.peak_bytes),
        thousands(MANY_CONNECTIONS as f64)
    );
}

fn write_point(text: &mut String, name: &str, point: &Point) {
    let [asked, rate] = [point.asked, point.rate].map(thousands);
    let Point { microseconds, kafka, p50, p99, p999, own_microseconds, .. } = point;
    let _ = writeln!(
        text,
        "| {name} | {asked} | {rate} | {microseconds:.1} | {kafka:.1} | {p50:.2} | {p99:.2} | {p999:.2} | {own_microseconds:.1} |"
    );
}

/// Enricher and sink.
pub(super) fn stages(text: &mut String, results: Option<&stages::Results>) {
    let Some(results) = results else { return };
    let _ = writeln!(
        text,
        "\n## Stages\n\n{} hits wait in the topic ({:.0} bytes each raw, {:.0} enriched); the stage has one core, Kafka and ClickHouse the other. Medians:\n",
        thousands(results.hits as f64),
        results.raw_bytes,
        results.enriched_bytes
    );
    text.push_str("| stage | hits/s | us a hit | each round | Kafka's us | ClickHouse's us | memory, most |\n|---|---|---|---|---|---|---|\n");
    for (name, stages) in [
        ("enricher, exactly once", &results.exactly_once),
        ("enricher, at least once", &results.at_least_once),
        ("sink", &results.sink),
    ] {
        let of = |figure: fn(&Stage) -> f64| stages::median_of(stages, figure);
        let rounds: Vec<String> = stages.iter().map(|stage| format!("{:.1}", stage.microseconds)).collect();
        let _ = writeln!(
            text,
            "| {name} | {} | {:.1} | {} | {:.1} | {:.1} | {} |",
            thousands(of(|stage| stage.hits_per_second)),
            of(|stage| stage.microseconds),
            rounds.join(", "),
            of(|stage| stage.kafka),
            of(|stage| stage.clickhouse),
            mebibytes(stages.iter().map(|stage| stage.peak_bytes).max().unwrap_or_default())
        );
    }
    text.push_str("\nHow long a hit takes at six tenths of that, from one stamp to the next:\n\n| stage | hits/s | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|\n");
    for (name, latency) in [("enricher, exactly once", results.enricher_latency), ("sink", results.sink_latency)] {
        let [p50, p99, p999] = [latency.p50, latency.p99, latency.p999];
        let _ = writeln!(text, "| {name} | {} | {p50:.0} | {p99:.0} | {p999:.0} |", thousands(latency.rate));
    }
    floors(text, results);
}

/// What the stages stand on, and how many times it they cost.
fn floors(text: &mut String, results: &stages::Results) {
    let floor = |figure: fn(&Floor) -> f64| stages::floor_of(&results.floor, figure);
    let costs = |costs: &[Cost], figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
    let each = |cost: &[Cost]| (costs(cost, |cost| cost.microseconds), costs(cost, |cost| cost.rate));
    let (produce, consume) = (each(&results.produce), each(&results.consume));
    let (encode, decode) = (median(results.encode.clone()), median(results.decode.clone()));
    text.push_str(
        "\nFloors, with the same hits, by turns with the stages, medians:\n\n| | us a hit | |\n|---|---|---|\n",
    );
    for (name, microseconds, note) in [
        ("librdkafka, produce", produce.0, format!("{}/s", thousands(produce.1))),
        ("librdkafka, consume", consume.0, format!("{}/s", thousands(consume.1))),
        ("Avro, encode a raw hit", encode, String::new()),
        ("Avro, decode a raw hit", decode, String::new()),
        (
            "enriched message to compressed Native block",
            floor(|floor| floor.encode),
            format!("{:.0} bytes as sent", floor(|floor| floor.sent_bytes)),
        ),
        (
            "ClickHouse, prepared blocks into a table without views",
            floor(|floor| floor.insert),
            format!("{} rows", thousands(floor(|floor| floor.rows as f64))),
        ),
        (
            "ClickHouse, one merge of all of them",
            floor(|floor| floor.merge),
            format!("{:.0} bytes on disk", floor(|floor| floor.disk_bytes)),
        ),
    ] {
        let _ = writeln!(text, "| {name} | {microseconds:.2} | {note} |");
    }
    let enricher = stages::median_of(&results.exactly_once, |stage| stage.microseconds);
    let sink = stages::median_of(&results.sink, |stage| stage.microseconds);
    let server = stages::median_of(&results.sink, |stage| stage.clickhouse);
    let ratio = |figure: f64, floor: f64| figure / floor.max(1e-9);
    let _ = writeln!(
        text,
        "\nEnricher: {:.2} x consume, decode, encode and produce. Sink: {:.2} x consume and the block. ClickHouse under the sink, with views and merges: {:.2} x the plain insert.",
        ratio(enricher, consume.0 + decode + encode + produce.0),
        ratio(sink, consume.0 + floor(|floor| floor.encode)),
        ratio(server, floor(|floor| floor.insert))
    );
    results.peer.iter().for_each(|peer| beside(text, peer));
}

/// The usual way of loading, beside ours.
fn beside(text: &mut String, peer: &Peer) {
    let of = |loaded: &[Loaded], figure: fn(&Loaded) -> f64| median(loaded.iter().map(figure).collect());
    let _ = writeln!(
        text,
        "\nFrom Kafka into a table without views, {} hits, by turns, medians of {}; processor time of all that loads, with \
         ClickHouse and its merges:\n\n| | us a hit | each round | Kafka's us | bytes a hit in Kafka |\n|---|---|---|---|---|",
        thousands(peer.hits as f64),
        peer.ours.len()
    );
    for (name, loaded, bytes) in [
        ("sink and ClickHouse: Avro, exactly once", &peer.ours, peer.avro_bytes),
        ("ClickHouse's Kafka engine: JSON, at least once", &peer.engine, peer.json_bytes),
    ] {
        let rounds: Vec<String> = loaded.iter().map(|round| format!("{:.1}", round.microseconds)).collect();
        let (all, kafka) = (of(loaded, |loaded| loaded.microseconds), of(loaded, |loaded| loaded.kafka));
        let _ = writeln!(text, "| {name} | {all:.1} | {} | {kafka:.1} | {bytes:.0} |", rounds.join(", "));
    }
}

/// The whole path. What it holds is what it held for long.
pub(super) fn path(text: &mut String, search: &[Step], runs: &[Step]) {
    let steps = || search.iter().chain(runs);
    if steps().next().is_none() {
        return;
    }
    text.push_str("\n## The whole path\n\nAll of it, with Kafka, ClickHouse and the load, on this machine.\n\n");
    let highest = |steps: &[Step]| {
        let held = steps.iter().filter(|step| step.holds());
        held.max_by(|a, b| a.rate.total_cmp(&b.rate)).cloned()
    };
    match highest(runs) {
        Some(run) => {
            let (rate, day) = (thousands(run.rate), thousands(run.rate * DAY));
            let _ = writeln!(text, "**{rate} hits a second** held for {:.0} s: **{day} hits a day**.\n", run.seconds);
        }
        None => text.push_str("No rate was held for long, so none is told for a day.\n\n"),
    }
    text.push_str(
        "| hits/s asked | held | answered p50, p99 ms | enriched after p50, p99 ms | inserted after that | age in the table | a probe found after | lag at the end | more a second |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    steps().for_each(|step| write_step(text, step));
    text.push_str("\n| hits/s asked | sent | acknowledged | rows | missing | doubled |\n|---|---|---|---|---|---|\n");
    for step in steps() {
        let numbers = [step.asked, step.sent as f64, step.acknowledged as f64, step.rows as f64].map(thousands);
        let _ = writeln!(text, "| {} | {} | {} |", numbers.join(" | "), step.missing, step.doubled);
    }
    if let Some(step) = highest(runs).or_else(|| highest(search)) {
        write_programs(text, &step);
    }
}

fn write_step(text: &mut String, step: &Step) {
    let [answers, enriched, inserted, age, probes] =
        [step.answers, step.enriched, step.inserted, step.age, step.probes]
            .map(|[half, most]| format!("{half:.0}, {most:.0}"));
    let failures = step.failures();
    let held = if failures.is_empty() { "yes".to_owned() } else { format!("no: {}", failures.join(", ")) };
    let _ = writeln!(
        text,
        "| {} for {:.0} s | {held} | {answers} | {enriched} | {inserted} | {age} | {probes} ({} of {}) | {} | {:.0} |",
        thousands(step.asked),
        step.seconds,
        step.probe_count,
        step.probe_count + step.probes_lost,
        thousands(step.lag),
        step.lag_growth
    );
}

fn write_programs(text: &mut String, step: &Step) {
    let _ = writeln!(text, "\nAt {} hits/s:\n", thousands(step.rate));
    text.push_str("| program | us a hit | memory, most |\n|---|---|---|\n");
    for program in &step.programs {
        let memory = if program.peak_bytes == 0 { String::new() } else { mebibytes(program.peak_bytes) };
        let _ = writeln!(text, "| {} | {:.1} | {memory} |", program.name, program.microseconds);
    }
    let all: f64 = step.programs.iter().map(|program| program.microseconds).sum();
    let _ = writeln!(text, "| all | {all:.1} | |");
}

/// Where processor time goes.
pub(super) fn profiles(text: &mut String, profiles: &[Profile]) {
    if profiles.is_empty() {
        return;
    }
    text.push_str("\n## Profiles\n\nFlame graphs of samples by the clock, callers below what they call:\n\n");
    for Profile { service, file, samples, problem } in profiles {
        let _ = match file {
            Some(file) => writeln!(text, "- [{service}]({file}), {samples} samples"),
            None => writeln!(text, "- {service}: not measured: {problem}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rate: f64, growth: f64) -> Step {
        let (sent, acknowledged, rows) = (10, 10, 10);
        Step {
            asked: rate,
            rate,
            seconds: 100.0,
            sent,
            acknowledged,
            rows,
            drained: true,
            lag_growth: growth,
            ..Step::default()
        }
    }

    #[test]
    fn the_headline_is_what_was_held_for_long() {
        let mut text = String::new();
        path(&mut text, &[step(9_000.0, 0.0)], &[step(9_000.0, 500.0), step(8_000.0, 0.0)]);
        assert!(text.contains("**8,000 hits a second** held for 100 s: **691,200,000 hits a day**"), "{text}");
        assert!(text.contains("no: growing lag"), "{text}");
        text.clear();
        path(&mut text, &[step(9_000.0, 0.0)], &[step(9_000.0, 500.0)]);
        assert!(text.contains("none is told for a day") && !text.contains("hits a day"), "{text}");
    }
}
