//! The engine of a table as ClickHouse writes it in `engine_full`, taken apart. Pure.

const TTL: &str = " TTL ";
const SETTINGS: &str = " SETTINGS ";
/// Without it, a rule for some of the rows waits for all rows of a part.
const OF_TTL: &str = "ttl_only_drop_parts";

/// How long it keeps rows; none where it keeps them for good.
#[must_use]
pub fn ttl(engine: &str) -> Option<&str> {
    let (_, rest) = split_at(engine, TTL)?;
    Some(split_at(rest, SETTINGS).map_or(rest, |(ttl, _)| ttl))
}

/// Its settings: their names, and their values as SQL.
#[must_use]
pub fn settings(engine: &str) -> Vec<(&str, &str)> {
    let list = split_at(engine, SETTINGS).map_or("", |(_, list)| list);
    elements(list).into_iter().filter_map(|pair| pair.split_once(" = ")).collect()
}

/// The value of one of its settings.
#[must_use]
pub fn setting<'a>(engine: &'a str, name: &str) -> Option<&'a str> {
    settings(engine).into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// What is between the commas of a list.
#[must_use]
pub fn elements(list: &str) -> Vec<&str> {
    let (mut elements, mut rest) = (Vec::new(), list);
    while let Some((element, others)) = split_at(rest, ",") {
        elements.push(element.trim());
        rest = others;
    }
    elements.push(rest.trim());
    elements
}

/// What makes a table keep its rows for as long as another does, and have its settings, as changes of `ALTER TABLE`. What
/// only the one has of settings stays, but for that by which it lets rows go; what `is_fixed` can't be changed.
#[must_use]
pub fn changes(from: &str, to: &str, is_fixed: impl Fn(&str) -> bool) -> Vec<String> {
    let (had, wanted) = (settings(from), settings(to));
    let has = |settings: &[(&str, &str)]| settings.iter().any(|(name, _)| *name == OF_TTL);
    let differing = wanted.iter().filter(|setting| !had.contains(setting) && !is_fixed(setting.0));
    let mut changes: Vec<_> = differing.map(|(name, value)| format!("MODIFY SETTING {name} = {value}")).collect();
    if has(&had) && !has(&wanted) {
        changes.push(format!("RESET SETTING {OF_TTL}"));
    }
    match (ttl(from), ttl(to)) {
        (had, wanted) if had == wanted => {}
        (_, Some(wanted)) => changes.push(format!("MODIFY TTL {wanted}")),
        (_, None) => changes.push("REMOVE TTL".to_owned()),
    }
    changes
}

/// What is before and after the first such word that is in no brackets and no quotes.
fn split_at<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let (mut depth, mut quote, mut is_escaped) = (0_i32, None, false);
    for (place, character) in text.char_indices() {
        if depth == 0 && quote.is_none() && text[place..].starts_with(word) {
            return Some((&text[..place], &text[place + word.len()..]));
        }
        match (quote, character) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"' | '`') => quote = Some(character),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "ReplicatedReplacingMergeTree('/a b/{shard}', '{replica}', x) PARTITION BY toMonday(day) ORDER BY (site, day) \
                       TTL day + toIntervalMonth(if(site = 'it\\'s, SETTINGS y = 1', 6, 25)), day + toIntervalDay(3) WHERE x = 1 \
                       SETTINGS index_granularity = 2048, storage_policy = 'hot, cold = 1', min_rows = 7";

    #[test]
    fn what_is_in_quotes_or_brackets_is_no_clause() {
        let both =
            ["day + toIntervalMonth(if(site = 'it\\'s, SETTINGS y = 1', 6, 25))", "day + toIntervalDay(3) WHERE x = 1"];
        assert_eq!(elements(ttl(OLD).unwrap()), both);
        let three = [("index_granularity", "2048"), ("storage_policy", "'hot, cold = 1'"), ("min_rows", "7")];
        assert_eq!(settings(OLD), three);
        assert_eq!((ttl("MergeTree ORDER BY x"), settings("MergeTree ORDER BY x")), (None, Vec::new()));
        assert_eq!(ttl("MergeTree ORDER BY x TTL y + 1"), Some("y + 1"));
        assert_eq!(settings("Memory"), []);
    }

    #[test]
    fn a_table_takes_over_what_another_has() {
        let new = "MergeTree ORDER BY x TTL day + toIntervalMonth(25) \
                   SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, min_rows = 7, new = 1";
        let expected = [
            "MODIFY SETTING storage_policy = 'hot, cold = 1'".to_owned(),
            "RESET SETTING ttl_only_drop_parts".to_owned(),
            format!("MODIFY TTL {}", ttl(OLD).unwrap()),
        ];
        assert_eq!(changes(new, OLD, |name| name == "index_granularity"), expected);
        assert_eq!(changes(new, new, |_| false), [""; 0]);
        assert_eq!(changes("Memory TTL y", "Memory", |_| false), ["REMOVE TTL"]);
        assert_eq!(
            changes("Memory", "Memory SETTINGS ttl_only_drop_parts = 0", |_| false),
            ["MODIFY SETTING ttl_only_drop_parts = 0"]
        );
    }

    #[test]
    fn settings_are_read_from_the_engine() {
        let engine = "MergeTree PARTITION BY a ORDER BY b SETTINGS index_granularity = 8192, non_replicated_deduplication_window = 77";
        assert_eq!(setting(engine, "non_replicated_deduplication_window"), Some("77"));
        assert_eq!(setting(engine, "replicated_deduplication_window"), None);
        let both = "ReplicatedMergeTree('/a', '{replica}') ORDER BY b SETTINGS replicated_deduplication_window_seconds = 5, replicated_deduplication_window = 6";
        assert_eq!(setting(both, "replicated_deduplication_window"), Some("6"));
        assert_eq!(setting(both, "replicated_deduplication_window_seconds"), Some("5"));
        assert_eq!(setting("Memory", "index_granularity"), None);
    }
}
