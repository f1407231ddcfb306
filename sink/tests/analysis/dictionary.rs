//! Tables, views and columns as the database has them: the dictionary in `docs/`, and what the role of analysts may read.
//! Both are written from there, and held against it.
//!
//! `HITMETER_WRITE_DOCS=1 cargo test -p sink --test analysis dictionary` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use schemas::{EnrichedHit, Kind};
use serde_json::Value;

use crate::support::{Place, hit};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
/// Views that show addresses without their queries, which is held against them in `tests/behaviour/content.rs`.
const CUTTING: [&str; 2] = ["downloads", "outlinks"];
const WRITE: &str = "HITMETER_WRITE_DOCS";

/// A table or a view.
pub struct Table {
    pub name: String,
    pub engine: String,
    pub comment: String,
    /// Names and types.
    pub parameters: Vec<(String, String)>,
    pub columns: Vec<Column>,
}

pub struct Column {
    pub name: String,
    r#type: String,
    comment: String,
}

impl Table {
    pub fn is_read_by_analysts(&self) -> bool {
        self.engine != "MaterializedView" && self.name != "schema_migrations"
    }

    /// All that there is about people under their addresses.
    pub fn is_about_contacts(&self) -> bool {
        let others = ["contacts", "merged_contacts", "settled_merges", "settled_employers", "objections", "erasing"];
        self.name.starts_with("contact_") || others.contains(&self.name.as_str())
    }

    /// Whether the role `analyst` does not see a column of it.
    pub fn hides(&self, column: &Column) -> bool {
        self.is_about_contacts() || column.is_personal() || self.tells_by(&column.name)
    }

    /// Addresses that links lead to hold queries as those of pages do, but where they are cut; and what an operator wrote of an
    /// audience may name a contact.
    fn tells_by(&self, column: &str) -> bool {
        match column {
            "target_url" => !CUTTING.contains(&self.name.as_str()),
            "condition" | "description" => self.name.starts_with("audience"),
            _ => false,
        }
    }

    /// Its columns, or a call with some arguments.
    pub fn expression(&self, database: &str) -> String {
        let argument = |(name, kind): &(String, String)| {
            let value = match kind.as_str() {
                "Date" => "'2026-03-10'",
                time if time.starts_with("DateTime64") => "'2026-03-10 12:00:00'",
                "String" if name == "kind" => "'outlink'",
                "String" if name == "item" || name == "page" => "'%'",
                "String" => "'day'",
                "Array(String)" => "['/', 'form']",
                _ => "1",
            };
            format!("{name} = {value}")
        };
        let arguments: Vec<_> = self.parameters.iter().map(argument).collect();
        let call = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
        format!("{database}.{}{call}", self.name)
    }
}

impl Column {
    /// What a person submitted of themselves, the address of their machine, and free text in which either may stand: a form
    /// that is sent as a query puts what was typed into the address of the next page and its referrer, properties are
    /// whatever the site sends, and what a partner adds may be about the person.
    pub fn is_personal(&self) -> bool {
        let is_free = ["properties", "page_url", "page_query", "referrer", "partner_attributes", "origin"];
        self.name.starts_with("contact")
            || matches!(self.name.as_str(), "ip" | "emails")
            || is_free.contains(&self.name.as_str())
    }
}

fn rows(place: &Place, sql: &str) -> Vec<Value> {
    let lines = place.query(&format!("{sql} FORMAT JSONEachRow"));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap().to_owned()
}

/// The comment of a column of a view with parameters, which ClickHouse keeps in the view's text only.
fn comment_in(definition: &str, column: &str) -> String {
    let start = format!("`{column}` ");
    let rest = definition.split(") SQL SECURITY ").next().and_then(|head| head.split(start.as_str()).nth(1));
    let quoted = rest.and_then(|rest| rest.split_once("COMMENT '")).map_or("", |(_, quoted)| quoted);
    let mut comment = String::new();
    let mut characters = quoted.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => comment.extend(characters.next()),
            '\'' if characters.peek() == Some(&'\'') => comment.extend(characters.next()),
            '\'' => break,
            _ => comment.push(character),
        }
    }
    comment
}

/// All tables and views of a database, by name.
pub fn tables(place: &Place) -> Vec<Table> {
    let sql = "SELECT name, engine, comment, create_table_query, \
               arrayMap(parameter -> [parameter.1, parameter.2], parameterized_view_parameters) AS parameters \
               FROM system.tables WHERE database = '{database}' AND name NOT LIKE '.%' ORDER BY name";
    rows(place, sql).iter().map(|row| table(place, row)).collect()
}

fn table(place: &Place, row: &Value) -> Table {
    let parameter = |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned());
    let parameters = row["parameters"].as_array().unwrap().iter().map(parameter).collect();
    let mut table = Table {
        name: text(row, "name"),
        engine: text(row, "engine"),
        comment: text(row, "comment"),
        parameters,
        columns: Vec::new(),
    };
    let definition = text(row, "create_table_query");
    let has_parameters = !table.parameters.is_empty();
    let column = |row: &Value| {
        let name = text(row, "name");
        let comment = if has_parameters { comment_in(&definition, &name) } else { text(row, "comment") };
        Column { r#type: text(row, "type"), comment, name }
    };
    let expression = table.expression("{database}");
    table.columns = rows(place, &format!("DESCRIBE TABLE {expression}")).iter().map(column).collect();
    table
}

/// What the role of analysts may read: column by column, as a column that is merely taken away can still be read in parts
/// (`contact_email.size`, `properties.values`).
fn grants(tables: &[Table]) -> String {
    let mut out = String::from(
        "<!-- Two roles for readers of the database hitmeter: analyst, who does not see what people submitted of themselves, \
         and\n     analyst_contacts, who does. For users.d of a ClickHouse server. Written from the database, see docs/README.md. -->\n\
         <clickhouse>\n  <roles>\n    <analyst>\n      <grants>\n",
    );
    for table in tables.iter().filter(|table| table.is_read_by_analysts() && !table.is_about_contacts()) {
        let columns: Vec<_> = table.columns.iter().filter(|column| !table.hides(column)).collect();
        let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "        <query>GRANT SELECT({names}) ON hitmeter.{}</query>", table.name);
    }
    out.push_str(
        "      </grants>\n    </analyst>\n    <analyst_contacts>\n      <grants>\n        \
         <query>GRANT SELECT ON hitmeter.*</query>\n      </grants>\n    </analyst_contacts>\n  </roles>\n</clickhouse>\n",
    );
    out
}

fn dictionary(tables: &[Table]) -> String {
    let mut out = String::from(
        "# Dictionary\n\nEvery table and view of the database, with the COMMENT of each column. Written from the database; \
         [how they relate](README.md).\n\nColumns in *italics* are seen by the role `analyst_contacts` only.\n",
    );
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    for table in tables {
        let kind = match table.engine.as_str() {
            "View" if table.parameters.is_empty() => "view",
            "View" => "view with parameters",
            "MaterializedView" => "materialized view: written by ClickHouse itself, nothing to read",
            _ => "table",
        };
        let _ = write!(out, "\n## `{}`\n\n{}\n\n{kind}", table.name, table.comment);
        if !table.parameters.is_empty() {
            let parameters = table.parameters.iter().map(|(name, kind)| format!("`{name}` {kind}"));
            let _ = write!(out, ": {}", parameters.collect::<Vec<_>>().join(", "));
        }
        out.push('\n');
        if table.engine == "MaterializedView" {
            continue;
        }
        out.push_str("\n| column | type | |\n|---|---|---|\n");
        for column in &table.columns {
            let name = if table.hides(column) { format!("*`{}`*", column.name) } else { format!("`{}`", column.name) };
            let _ = writeln!(out, "| {name} | {} | {} |", cell(&column.r#type), cell(&column.comment));
        }
    }
    out
}

fn hold(file: &str, expected: &str) {
    let path = Path::new(DOCS).join(file);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "docs/{file} is not what the database says, {}write it anew: {WRITE}=1 cargo test -p sink --test analysis dictionary",
        differs.map_or_else(String::new, |(found, expected)| format!("such as {found:?} for {expected:?}; "))
    );
}

#[tokio::test]
async fn the_dictionary_and_the_roles_are_what_the_database_says() {
    let Some(stack) = local::database_or_skip("the_dictionary_and_the_roles_are_what_the_database_says") else {
        return;
    };
    let place = Place::migrated(stack, "dictionary").await;
    let tables = tables(&place);
    hold("dictionary.md", &dictionary(&tables));
    hold("analyst.xml", &grants(&tables));
    for table in tables.iter().filter(|table| table.engine != "MaterializedView") {
        assert!(!table.comment.is_empty(), "{} has no comment", table.name);
        for column in &table.columns {
            assert!(!column.comment.is_empty(), "{}.{} has no comment", table.name, column.name);
        }
    }
}

/// Readers of a view may be kept from columns of what lies below it only if it runs with the rights of whoever made it.
#[tokio::test]
async fn every_view_runs_with_the_rights_of_its_maker() {
    let Some(stack) = local::database_or_skip("every_view_runs_with_the_rights_of_its_maker") else { return };
    let place = Place::migrated(stack, "definer").await;
    let others = "SELECT name FROM system.tables WHERE database = '{database}' AND engine = 'View' \
                  AND create_table_query NOT LIKE '%SQL SECURITY DEFINER%' ORDER BY name";
    assert_eq!(place.query(others), "");
}

/// Hits of a site that is called as the texts that views are asked with, each with an address of Ada where addresses of pages
/// may have one.
fn telling_hits() -> Vec<EnrichedHit<'static>> {
    let telling = |kind, number, target: &'static str| {
        let mut hit = hit(kind, number, "ada", 0, "/contact");
        hit.hit.site = "day".into();
        hit.hit.target_url = target.into();
        hit.hit.page_url = "https://shop.example/contact?email=ada@steel.example".into();
        hit.hit.referrer = hit.hit.page_url.clone();
        hit.page.query = "email=ada@steel.example".into();
        hit
    };
    vec![
        telling(Kind::PageView, 1, ""),
        telling(Kind::Download, 2, "https://shop.example/pumps.pdf?email=ada@steel.example"),
        telling(Kind::Outlink, 3, "https://mill.example/?email=ada@steel.example#ada@steel.example"),
        telling(Kind::Outlink, 4, "mailto:ada@steel.example"),
        telling(Kind::Outlink, 5, "TEL:+49304711"),
    ]
}

/// The roles name the database as it is called everywhere, so this test has it for itself.
#[tokio::test]
async fn the_role_of_analysts_reads_all_but_what_people_told_of_themselves() {
    let test = "the_role_of_analysts_reads_all_but_what_people_told_of_themselves";
    let Some(stack) = local::database_or_skip(test) else { return };
    let mut place = Place::new(stack, "role");
    "hitmeter".clone_into(&mut place.database);
    place.migrator().apply().await.unwrap();
    place.load(&telling_hits()).await;
    let ask = |sql: &str| local::clickhouse::query(stack.clickhouse_url(), "analyst_without_contacts", sql);
    let is_refused = |sql: &str| ask(sql).is_err_and(|error| error.to_string().contains("ACCESS_DENIED"));
    for table in tables(&place) {
        let expression = table.expression("hitmeter");
        let (hidden, seen): (Vec<_>, Vec<_>) = table.columns.iter().partition(|column| table.hides(column));
        for column in hidden {
            assert!(is_refused(&format!("SELECT {} FROM {expression}", column.name)), "{expression} {}", column.name);
        }
        let names: Vec<_> = seen.iter().map(|column| column.name.as_str()).collect();
        if !names.is_empty() && table.is_read_by_analysts() {
            let seen = ask(&format!("SELECT {} FROM {expression}", names.join(", "))).unwrap();
            assert!(!seen.contains("ada@") && !seen.contains("+4930"), "{expression}: {seen}");
        }
    }
    // What a visitor typed, and stands in the addresses that links lead to.
    for hidden in [
        "target_url FROM hitmeter.hits",
        "target_url FROM hitmeter.session_hits",
        "condition FROM hitmeter.audiences",
        "description FROM hitmeter.audiences",
        "condition FROM hitmeter.audience_definitions",
        "description FROM hitmeter.audience_definitions",
    ] {
        assert!(is_refused(&format!("SELECT {hidden}")), "{hidden}");
    }
    let asked = "site = 'day', first_day = '2026-03-10', last_day = '2026-03-10', window_seconds = 60, strict = 0";
    let taken = |step: &str| {
        ask(&format!("SELECT count() FROM hitmeter.funnel_visitors({asked}, steps = ['{step}'])")).unwrap()
    };
    assert_eq!((taken("download:%/pumps.pdf"), taken("outlink:mailto:%")), ("1".to_owned(), "1".to_owned()));
    for guess in ["download:%ada@%", "download:%?%", "outlink:%ada@%", "outlink:%49%"] {
        assert_eq!(taken(guess), "0", "{guess}");
    }
    // Not in part, either.
    for part in ["contact_email.size", "count(contact_email)", "*"] {
        assert!(is_refused(&format!("SELECT {part} FROM hitmeter.hits")), "{part}");
    }
}
