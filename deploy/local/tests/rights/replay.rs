//! All of hits.enriched once more, into an empty database: it ends as the first one did.

use std::collections::BTreeSet;

use crate::topics;
use crate::world::{DATABASE, PREFIX, World, until};

/// The other database.
const AGAIN: &str = "rights_again";
const GROUP: &str = "rights.again";

/// What has to be the same, by table or view. When a row was inserted
/// differs; and a hit that was refused and replayed is in the topic at two places.
const TOLD: [(&str, &str); 9] = [
    ("hits", "* EXCEPT (inserted_at, kafka_partition, kafka_offset)"),
    ("contact_cards", "*"),
    ("contact_links", "*"),
    ("sessions", "*"),
    ("visitors", "*"),
    ("contacts", "*"),
    ("contact_history", "*"),
    ("contact_visitors", "*"),
    ("pages", "*"),
];

/// Loads everything again. Gives what is not as it was.
pub fn judge(world: &World) -> Vec<String> {
    world.migrate(AGAIN);
    let url = world.clickhouse_url();
    world.run(
        "sink-again",
        "sink",
        &["--group", GROUP, "--epoch=1", "--clickhouse-url", &url, "--clickhouse-database", AGAIN],
    );
    let topic = format!("{PREFIX}hits.enriched");
    until("the end of the topic", || topics::read_by(&world.brokers(), GROUP, &topic));
    [DATABASE, AGAIN].iter().for_each(|database| world.sink(database, &["views", "settle"]));
    let mut findings = Vec::new();
    for (name, columns) in TOLD {
        let rows = |database: &str| world.query(&format!("SELECT {columns} FROM {database}.{name} {}", last(name)));
        let (before, again) = (rows(DATABASE), rows(AGAIN));
        let (before, again): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), again.lines().collect());
        for row in before.symmetric_difference(&again).take(2) {
            let only = if before.contains(row) { "before" } else { "again" };
            findings.push(format!("{name} ({} rows, {} again), only {only}: {row}", before.len(), again.len()));
        }
        assert!(!before.is_empty(), "{name} is empty");
    }
    findings
}

/// Tables whose rows are replaced are asked for what is left.
fn last(name: &str) -> &'static str {
    if name.starts_with("contact_") && matches!(name, "contact_cards" | "contact_links") { "FINAL" } else { "" }
}
