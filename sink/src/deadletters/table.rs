//! Dead letters as text.
//!
//! Whoever sends rubbish to a collector decides what is in a letter, so nothing of it reaches a terminal that could
//! steer it: control characters are replaced in lists and escaped in originals.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use schemas::DeadLetter;

use super::catalogue::{Catalogue, Entry};
use super::marker::Deed;

const HEADINGS: [&str; 9] = ["ID", "DEAD AT", "STAGE", "REASON", "SITE", "SOURCE", "BYTES", "STATE", "DETAIL"];
/// A longer text is cut in a list.
const WIDEST: usize = 80;

fn time(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map_or_else(|_| milliseconds.to_string(), |time| format!("{time:.3}"))
}

fn harmless(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn source(entry: &Entry) -> String {
    match entry.source {
        Some((partition, offset)) => format!("{}/{partition}/{offset}", harmless(&entry.source_topic)),
        None => harmless(&entry.source_topic),
    }
}

fn state(entry: &Entry) -> &'static str {
    entry.deed.map_or("open", Deed::as_str)
}

fn cells(entry: &Entry) -> [String; 9] {
    let cut = |text: &str| harmless(text).chars().take(WIDEST).collect::<String>();
    [
        entry.id.to_string(),
        time(entry.dead_at),
        entry.stage.as_str().to_owned(),
        cut(&entry.reason),
        cut(&entry.site),
        source(entry),
        entry.original_bytes.to_string(),
        state(entry).to_owned(),
        cut(&entry.detail),
    ]
}

fn add_line(out: &mut String, cells: &[String; 9], widths: &[usize; 9]) {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let cell = if cell.is_empty() { "-" } else { cell };
        let _ = write!(line, "{cell:width$}  ");
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// The first so many as a table, and how many there are of each kind.
#[must_use]
pub fn list(catalogue: &Catalogue, shown: usize) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(catalogue.entries.iter().take(shown).map(cells));
    let mut widths = [1; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    rows.iter().for_each(|row| add_line(&mut out, row, &widths));
    add_sums(&mut out, catalogue, shown);
    out
}

fn add_sums(out: &mut String, catalogue: &Catalogue, shown: usize) {
    let mut sums: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for entry in &catalogue.entries {
        *sums.entry((entry.stage.as_str(), &entry.reason)).or_default() += 1;
    }
    let _ = writeln!(out, "\n{} dead letters", catalogue.entries.len());
    for ((stage, reason), count) in sums {
        let _ = writeln!(out, "  {count} {stage} {}", harmless(reason));
    }
    if catalogue.entries.len() > shown {
        let _ = writeln!(out, "the oldest {shown} are listed; --limit lists more");
    }
    if catalogue.closed > 0 {
        let _ = writeln!(out, "{} more were replayed or dropped; --closed lists them", catalogue.closed);
    }
    if catalogue.unreadable > 0 {
        let _ = writeln!(out, "{} messages of the topic are no dead letters", catalogue.unreadable);
    }
}

/// One letter with its original, all but printable ASCII escaped.
#[must_use]
pub fn whole(entry: &Entry, letter: &DeadLetter<'_>) -> String {
    let place = format!("{}/{}", entry.place.partition, entry.place.offset);
    let fields = [
        ("id", entry.id.to_string()),
        ("dead at", time(entry.dead_at)),
        ("stage", entry.stage.as_str().to_owned()),
        ("reason", harmless(&entry.reason)),
        ("detail", harmless(&entry.detail)),
        ("site", harmless(&entry.site)),
        ("source", source(entry)),
        ("partition/offset in hits.dead", place),
        ("state", state(entry).to_owned()),
        ("original bytes", entry.original_bytes.to_string()),
    ];
    let mut out = String::new();
    for (name, value) in fields {
        let _ = writeln!(out, "{name}: {value}");
    }
    let _ = writeln!(out, "\n{}", letter.original.escape_ascii());
    out
}

#[cfg(test)]
mod tests {
    use schemas::Stage;
    use uuid::Uuid;

    use super::super::archive::Place;
    use super::*;

    fn entry() -> Entry {
        Entry {
            id: Uuid::from_u128(1),
            place: Place { partition: 2, offset: 9 },
            stage: Stage::Enricher,
            reason: "no_header".to_owned(),
            detail: "wipes\u{1b}[2J the screen".to_owned(),
            // 2026-03-10 12:00:00.5 UTC.
            dead_at: 1_773_144_000_500,
            site: String::new(),
            source_topic: "hits.raw".to_owned(),
            source: Some((4, 17)),
            original_bytes: 3,
            deed: None,
        }
    }

    #[test]
    fn a_list_has_a_line_for_each_and_sums() {
        let dropped = Entry { deed: Some(Deed::Dropped), id: Uuid::from_u128(2), ..entry() };
        let catalogue = Catalogue { entries: vec![entry(), dropped], closed: 3, unreadable: 4 };
        let text = list(&catalogue, 1);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1].split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect::<Vec<_>>(),
            [
                "00000000-0000-0000-0000-000000000001",
                "2026-03-10T12:00:00.500Z",
                "enricher",
                "no_header",
                "-",
                "hits.raw/4/17",
                "3",
                "open",
                "wipes\u{fffd}[2J the screen"
            ]
        );
        assert_eq!(lines[2..5], ["", "2 dead letters", "  2 enricher no_header"]);
        assert!(text.contains("oldest 1 are") && text.contains("3 more were") && text.contains("4 messages"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn the_whole_shows_the_original_escaped() {
        let letter = DeadLetter { original: b"a\x1b\xff".as_slice().into(), ..DeadLetter::default() };
        let text = whole(&entry(), &letter);
        assert!(text.ends_with("\n\na\\x1b\\xff\n"), "{text}");
        assert!(text.contains("source: hits.raw/4/17\n") && text.contains("site: \n"), "{text}");
    }
}
