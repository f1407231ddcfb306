//! The report, in Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use benches::behaviour::Database;

use crate::cost::{Cost, Load};
use crate::options::Options;
use crate::questions::Measured;
use crate::{Asked, Filled, Settling};

/// Bytes a hit may take on disk.
const HITS_TARGET: f64 = 60.0;
/// Share of that which everything else may take.
const REST_TARGET: f64 = 0.15;
/// How much dearer an insert may be with all views.
const COST_TARGET: f64 = 2.5;

/// What was found, section by section.
pub struct Report {
    text: String,
}

impl Report {
    /// Begins one.
    pub fn new(options: &Options) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let text = format!(
            "## Behaviour\n\n{}. {} hits of 90 days on 5 sites were asked for, seed {}, {processors} processors, medians of {}.\n",
            benches::results::origin(),
            options.hits,
            options.seed,
            options.rounds
        );
        Self { text }
    }

    fn section(&mut self, title: &str, lines: &[String]) {
        let _ = writeln!(self.text, "\n### {title}\n\n{}", lines.join("\n"));
    }

    /// How fast traffic is made.
    pub fn made(&mut self, (hits, took): &(u64, Duration)) {
        self.section("Traffic", &[format!("Made, without anything else: {:.2} us a hit.", each(*took, *hits))]);
    }

    /// How loading went.
    pub fn loaded(&mut self, filled: &Filled) {
        let rate = filled.hits as f64 / filled.loading.as_secs_f64();
        let minutes = |time: Duration| time.as_secs_f64() / 60.0;
        let lines = [
            format!(
                "**{} hits** in {:.1} minutes, {rate:.0} a second; their sessions were made in {:.1} minutes more.",
                filled.hits,
                minutes(filled.loading),
                minutes(filled.settling)
            ),
            format!(
                "ClickHouse's processor time: {:.1} us a hit while loading, {:.1} for the sessions.",
                each(filled.loading_processor, filled.hits),
                each(filled.settling_processor, filled.hits)
            ),
        ];
        self.section("Load", &lines);
    }

    /// Whether all merges had ended.
    pub fn merged(&mut self, is_all: bool) {
        if !is_all {
            self.text.push_str("\nHits were still being merged while all that follows was measured.\n");
        }
    }

    /// What settling costs from day to day.
    pub fn settled(&mut self, settling: &Settling) {
        let (took, processor) = (settling.took.as_secs_f64(), settling.processor.as_secs_f64());
        let hits = settling.hits;
        let line =
            format!("{hits} hits of the last minutes were settled in {took:.1} s, {processor:.1} s of processor.");
        self.section("Settling", &[line]);
    }

    /// What views cost.
    pub fn cost(&mut self, cost: &Cost) {
        let line = |name: &str, load: &Load| {
            let (loading, all) = (each(load.processor_loading, cost.hits), each(load.processor, cost.hits));
            format!("| {name} | {:.1} | {loading:.1} | {all:.1} |", load.loading.as_secs_f64())
        };
        let ratio = |part: fn(&Load) -> Duration| {
            part(&cost.with_views).as_secs_f64() / part(&cost.alone).as_secs_f64().max(f64::EPSILON)
        };
        let lines = [
            "| into | s | us of processor a hit while loading | until at rest |".to_owned(),
            "|---|---|---|---|".to_owned(),
            line("the table alone", &cost.alone),
            line("the table with all views", &cost.with_views),
            format!(
                "| times as much (target {COST_TARGET} at most) | {:.2} | {:.2} | {:.2} |",
                ratio(|load| load.loading),
                ratio(|load| load.processor_loading),
                ratio(|load| load.processor)
            ),
        ];
        self.section(&format!("What views cost, {} hits", cost.hits), &lines);
    }

    /// What is on disk.
    pub fn disk(&mut self, database: &Database) -> anyhow::Result<()> {
        let tables = database.lines(
            "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts \
             WHERE database = '{database}' AND active GROUP BY table ORDER BY table != 'hits', 3 DESC",
        )?;
        let rows = tables.iter().map(|line| line.split('\t').collect::<Vec<_>>());
        let mut lines =
            vec!["| table | rows | parts | MB | bytes a hit |".to_owned(), "|---|---|---|---|---|".to_owned()];
        let (mut hits, mut of_hits, mut of_rest) = (0.0, 0.0, 0.0);
        for row in rows {
            let [table, count, bytes, parts] = row[..] else { continue };
            let (count, bytes): (f64, f64) = (count.parse()?, bytes.parse()?);
            match table {
                "hits" => (hits, of_hits) = (count, bytes),
                _ => of_rest += bytes,
            }
            lines.push(format!("| {table} | {count} | {parts} | {:.1} | {:.2} |", bytes / 1e6, bytes / hits));
        }
        let (each, share) = (of_hits / hits, of_rest / of_hits);
        lines.push(format!("\n`hits`: {each:.1} bytes a hit, target {HITS_TARGET}: {}.", met(each <= HITS_TARGET)));
        lines.push(format!(
            "All else: {:.1} % of that, target {:.0} %: {}.",
            100.0 * share,
            100.0 * REST_TARGET,
            met(share <= REST_TARGET)
        ));
        self.section("Disk", &lines);
        Ok(())
    }

    /// How questions were answered.
    pub fn questions(&mut self, Asked { measured, yardsticks }: &Asked, waiting: u64) {
        let [before, after] = yardsticks.map(milliseconds);
        let yardstick = (yardsticks[0] + yardsticks[1]) / 2;
        let mut lines = vec![
            format!("Asked while {waiting} hits of the last minutes were not settled.\n"),
            format!("The yardstick, a question that reads no table, took {before} ms before and {after} ms after.\n"),
            "| question | target, ms | median, ms | fastest, slowest | yardsticks | rows read | MB read | lines | |"
                .to_owned(),
            "|---|---|---|---|---|---|---|---|---|".to_owned(),
        ];
        lines.extend(measured.iter().map(|measured| answered(measured, yardstick)));
        self.section("Questions", &lines);
    }

    /// Prints it, and writes it where that was asked for.
    pub fn write(&self, options: &Options) -> anyhow::Result<()> {
        println!("{}", self.text);
        match &options.output {
            Some(folder) => Ok(benches::results::write_section(folder, "behaviour", &self.text)?),
            None => Ok(()),
        }
    }
}

fn answered(Measured { question, answer }: &Measured, yardstick: Duration) -> String {
    let (about, target) = (question.about, question.target.as_millis());
    match answer {
        Ok(figures) => {
            let (first, last) = (figures.took.first(), figures.took.last());
            let [fastest, slowest] = [first, last].map(|time| milliseconds(time.copied().unwrap_or_default()));
            let median = milliseconds(figures.median());
            let yardsticks = figures.median().as_secs_f64() / yardstick.as_secs_f64().max(f64::EPSILON);
            let (rows, bytes, count) = (figures.rows_read, figures.bytes_read as f64 / 1e6, figures.lines);
            let met = met(figures.median() <= question.target);
            format!(
                "| {about} | {target} | {median} | {fastest}, {slowest} | {yardsticks:.2} | {rows} | {bytes:.1} | {count} | {met} |"
            )
        }
        Err(problem) => {
            let said: String = problem.chars().filter(|letter| *letter != '|' && *letter != '\n').take(300).collect();
            format!("| {about} | {target} | | | | | | | not answered: {said} |")
        }
    }
}

/// Microseconds for each.
fn each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}
