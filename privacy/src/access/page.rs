//! One page to read, whole in itself: no script, nothing from elsewhere, everything escaped.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::database::Row;

/// Some rows of one kind.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    pub what: String,
    /// How long it is kept.
    pub kept: String,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// The policy lets nothing be loaded or run, should something slip through.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<title>What is held on you</title><style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}\
td,th{border:1px solid #999;padding:2px 6px;text-align:left;vertical-align:top}div{overflow-x:auto}</style></head><body>\n\
<h1>What is held on you</h1>\n";

/// The page.
#[must_use]
pub fn html(sections: &[Section]) -> String {
    let mut out = HEAD.to_owned();
    for section in sections {
        let _ = writeln!(out, "<h2>{}</h2>", escaped(&section.what));
        let _ = write!(out, "<p>{}: {} rows", escaped(&section.name), section.rows.len());
        if !section.kept.is_empty() {
            let _ = write!(out, "; kept {}", escaped(&section.kept));
        }
        out.push_str("</p>\n");
        add_table(&mut out, &section.rows);
    }
    out.push_str("</body></html>\n");
    out
}

/// Columns that tell nothing in any row are left out: a hit has a hundred of them.
fn add_table(out: &mut String, rows: &[Row]) {
    let filled: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.iter().filter(|(_, value)| !cell(value).is_empty()).map(|(column, _)| column.as_str()))
        .collect();
    let Some(first) = rows.first() else { return };
    let columns: Vec<&String> = first.keys().filter(|column| filled.contains(column.as_str())).collect();
    out.push_str("<div><table><tr>");
    columns.iter().for_each(|column| out.push_str(&format!("<th>{}</th>", escaped(column))));
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for column in &columns {
            let text = row.get(column.as_str()).map(cell).unwrap_or_default();
            out.push_str(&format!("<td>{}</td>", escaped(&text)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(map) if map.is_empty() => String::new(),
        other => other.to_string(),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_a_person_sent_is_markup() {
        let evil = "<script>alert('x')</script>\"&";
        let row = json!({evil: [evil], "map": {"a": evil}}).as_object().unwrap().clone();
        let section = Section { name: evil.to_owned(), what: evil.to_owned(), kept: evil.to_owned(), rows: vec![row] };
        let page = html(&[section]);
        assert!(!page.contains("<script") && !page.contains("alert('"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;").count(), 6, "{page}");
    }

    #[test]
    fn columns_that_tell_nothing_are_left_out() {
        let row =
            json!({"name": "Ada", "phone": "", "tags": [], "more": {}, "skew": null}).as_object().unwrap().clone();
        let page = html(&[Section { rows: vec![row], ..Section::default() }]);
        assert!(page.contains("<th>name</th></tr>") && page.contains("<td>Ada</td></tr>"), "{page}");
    }
}
