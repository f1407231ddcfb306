//! The traffic of all tests here, loaded once.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use benches::behaviour::{Database, Place, load};
use benches::traffic::{DAY, Ledger, Settings, Traffic, World};
use schemas::EnrichedHit;
use tokio::runtime::Runtime;

const SEED: u64 = 20_261_124;
/// Rows: what a build without optimisation makes, loads and checks within a minute on two processors.
const HITS: u64 = 1_000_000;
const DAYS: i64 = 45;

/// Traffic in a database, and its truth.
pub struct Stage {
    pub world: World,
    pub ledger: Ledger,
    pub database: Database,
    // Held for as long as the process lives: the client's connections run on it.
    _runtime: Runtime,
}

/// The stage, made by the first who asks; nothing on a machine that lacks what servers run on.
pub fn stage(test: &str) -> Option<&'static Stage> {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    let stack = local::database_or_skip(test)?;
    Some(STAGE.get_or_init(|| set(stack.clickhouse_url(), &stack.database("behaviour"))))
}

/// A stage of a test's own, on which every hit is there three times, in three blocks.
pub fn thrice(test: &str) -> Option<Stage> {
    let stack = local::database_or_skip(test)?;
    let world = World::new(Settings::new(SEED + 1, 40_000, day(now()) * DAY).lasting(20 * DAY));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let database = Database::new(stack.clickhouse_url(), &stack.database("thrice")).unwrap();
    runtime.block_on(database.migrate()).unwrap();
    database.stop_views().unwrap();
    for epoch in ["first", "second", "third"] {
        load(runtime.handle(), &database, &Place { epoch, partition: 0 }, Traffic::new(&world)).unwrap();
    }
    database.settle().unwrap();
    let mut traffic = Traffic::new(&world).with_ledger();
    traffic.by_ref().for_each(drop);
    Some(Stage { ledger: traffic.into_ledger(), world, database, _runtime: runtime })
}

/// Unix milliseconds.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn set(url: &str, database: &str) -> Stage {
    // Whole days that are over, so that no answer depends on the time of day.
    let end = day(now()) * DAY;
    println!("traffic of seed {SEED} until {end}");
    let world = World::new(Settings::new(SEED, HITS, end).lasting(DAYS * DAY));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let database = Database::new(url, database).unwrap();
    runtime.block_on(database.migrate()).unwrap();
    let loader = Loader { runtime: &runtime, database: &database, began: Instant::now() };
    let replayed = end - 20 * DAY..end - 19 * DAY;
    let mut traffic = Traffic::new(&world).with_ledger();
    let (mut late, mut again, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let in_time = traffic.by_ref().filter_map(|hit| {
        let received = hit.hit.received_at;
        if replayed.contains(&received) {
            again.push(hit.clone());
        }
        let kept = match received {
            _ if received >= end - DAY => &mut last,
            _ if received >= end - 4 * DAY && lags(&hit) => &mut late,
            _ => return Some(hit),
        };
        kept.push(hit);
        None
    });
    database.stop_views().unwrap();
    database.backdate().unwrap();
    loader.load("in time", in_time);
    loader.settle();
    database.backdate().unwrap();
    loader.load("late", late.into_iter());
    loader.load("again", again.into_iter());
    loader.settle();
    loader.load("last day", last.into_iter());
    loader.settle();
    for rows in [
        format!("goals (site, goal, kind, pattern, value) VALUES {}", crate::goals::rows()),
        format!(
            "content_groups (site, content_group, url_patterns, weight, half_life_days) VALUES {}",
            crate::scores::group_rows()
        ),
        format!(
            "score_rules (site, rule, kind, url_pattern, points, half_life_days, cap) VALUES {}",
            crate::scores::rule_rows()
        ),
    ] {
        database.ask(&format!("INSERT INTO {{database}}.{rows}")).unwrap();
    }
    let (ledger, database) = (traffic.into_ledger(), database.clone());
    Stage { ledger, world, database, _runtime: runtime }
}

/// A twelfth of all visitors: those of one partition that is read later than the others.
fn lags(hit: &EnrichedHit<'_>) -> bool {
    let visitor = BuildHasherDefault::<DefaultHasher>::default().hash_one(&hit.hit.visitor_id);
    visitor.is_multiple_of(12)
}

struct Loader<'a> {
    runtime: &'a Runtime,
    database: &'a Database,
    began: Instant,
}

impl Loader<'_> {
    fn load<'w>(&self, epoch: &'static str, hits: impl Iterator<Item = EnrichedHit<'w>>) {
        let loaded = load(self.runtime.handle(), self.database, &Place { epoch, partition: 0 }, hits).unwrap();
        assert!(loaded.rows > 0, "{epoch} has no rows");
        println!("{epoch}: {} rows after {:?}", loaded.rows, self.began.elapsed());
    }

    fn settle(&self) {
        self.database.end_backdating().unwrap();
        self.database.settle().unwrap();
        self.database.stop_views().unwrap();
        println!("settled after {:?}", self.began.elapsed());
    }
}

impl Stage {
    /// Holds the lines of an answer against those that are true, in any order.
    pub fn compare(&self, question: &str, mut expected: Vec<String>) {
        let began = Instant::now();
        let mut found = self.database.lines(question).unwrap();
        println!("{:?} for {question}", began.elapsed());
        expected.sort_unstable();
        found.sort_unstable();
        assert!(!expected.is_empty(), "nothing is expected of {question}");
        if expected == found {
            return;
        }
        let (wanted, got): (BTreeSet<_>, BTreeSet<_>) = (expected.iter().collect(), found.iter().collect());
        let some = |lines: Vec<&&String>| lines.iter().take(5).map(|line| format!("  {line}\n")).collect::<String>();
        let missing: Vec<_> = wanted.difference(&got).collect();
        let wrong: Vec<_> = got.difference(&wanted).collect();
        panic!(
            "{question}\n{} lines, {} are true. {} are missing:\n{}{} are wrong:\n{}",
            found.len(),
            expected.len(),
            missing.len(),
            some(missing.clone()),
            wrong.len(),
            some(wrong.clone())
        );
    }

    /// The key of a site.
    pub fn site(&self, site: usize) -> &'static str {
        self.world.sites[site].key
    }

    /// Host and path of a page; empty for none.
    pub fn page(&self, site: usize, page: Option<usize>) -> String {
        let site = &self.world.sites[site];
        page.map_or_else(String::new, |page| format!("{}{}", site.host, site.pages[page].path))
    }
}

/// A day as ClickHouse counts it: since 1970-01-01.
pub fn day(milliseconds: i64) -> i64 {
    milliseconds.div_euclid(DAY)
}

/// Values as they stand in a line.
#[macro_export]
macro_rules! line {
    ($($value:expr),* $(,)?) => { [$($value.to_string()),*].join("\t") };
}

#[test]
fn each_hit_is_there_and_some_rows_are_there_twice() {
    let Some(stage) = stage("each_hit_is_there_and_some_rows_are_there_twice") else { return };
    let counts = stage.ledger.counts();
    let question = "SELECT uniqExact(hit_id), uniqExactIf(hit_id, is_bot), count() > uniqExact(hit_id) + 1000 FROM {database}.hits";
    stage.compare(question, vec![line!(counts.hits, counts.robots_hits, 1)]);
}
