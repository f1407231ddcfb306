//! The README lists the topics that there are, and no others.

use schemas::topics::{CATALOGUE, Cleanup};

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_lists_every_topic_as_it_is() {
    let section = README.split("## Topics").nth(1).unwrap_or_default();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    assert_eq!(rows.len(), CATALOGUE.len());
    for (row, topic) in rows.iter().zip(CATALOGUE) {
        assert_eq!(row[..3], [topic.name, topic.key, topic.value]);
        let kept = match topic.cleanup {
            Cleanup::Compact => "the last of each key".to_owned(),
            Cleanup::DeleteAfter(milliseconds) if milliseconds % 86_400_000 == 0 && milliseconds > 3 * 86_400_000 => {
                format!("{} days", milliseconds / 86_400_000)
            }
            Cleanup::DeleteAfter(milliseconds) => format!("{} hours", milliseconds / 3_600_000),
        };
        assert!(row[3].starts_with(&kept), "{}: {} is not {kept}", topic.name, row[3]);
    }
}
