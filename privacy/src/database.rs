//! Questions to ClickHouse. Answers are JSON objects: what is held on a person is handed on as it is, whatever its columns.

use clickhouse::Client;
use clickhouse::error::Error;
use serde_json::{Map, Value};

use crate::error::PrivacyError;
use crate::options::ClickHouseOptions;

/// A row, by column.
pub type Row = Map<String, Value>;

/// The database.
pub struct Database {
    client: Client,
    name: String,
}

impl Database {
    /// Connects when it is first used.
    #[must_use]
    pub fn new(options: &ClickHouseOptions) -> Self {
        let client = Client::default()
            .with_url(&options.clickhouse_url)
            .with_user(&options.clickhouse_user)
            .with_password(&options.clickhouse_password.0)
            .with_product_info("hitmeter-privacy", env!("CARGO_PKG_VERSION"))
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .with_setting("output_format_json_validate_utf8", "1")
            // Some addresses were given by thousands of visitors, each of whom stands in the question.
            .with_setting("max_query_size", "1000000000")
            // Questions name the person, and ClickHouse would keep them.
            .with_setting("log_queries", "0");
        Self { client, name: options.clickhouse_database.clone() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All rows of a query, in which `{database}` stands for the database's name.
    ///
    /// # Errors
    /// Where ClickHouse refuses or does not answer.
    pub async fn rows(&self, doing: &'static str, query: &str) -> Result<Vec<Row>, PrivacyError> {
        let failed = |cause: Error| PrivacyError::ClickHouse { doing, cause: told(&cause) };
        let query = query.replace("{database}", &self.name);
        let answer = self.client.query_raw(&query).fetch_bytes("JSONEachRow").map_err(failed)?;
        let bytes = { answer }.collect().await.map_err(failed)?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let read = |line| serde_json::from_slice(line).map_err(|cause| PrivacyError::Answer { doing, cause });
        lines.map(read).collect()
    }

    /// Runs a statement that gives no rows.
    ///
    /// # Errors
    /// Where ClickHouse refuses or does not answer.
    pub async fn execute(&self, doing: &'static str, statement: &str) -> Result<(), PrivacyError> {
        let statement = statement.replace("{database}", &self.name);
        let done = self.client.query_raw(&statement).execute().await;
        done.map_err(|cause| PrivacyError::ClickHouse { doing, cause: told(&cause) })
    }
}

/// What the client says, of an answer only its code and name: the rest repeats the question, which names the person.
fn told(error: &Error) -> String {
    let Error::BadResponse(answer) = error else { return error.to_string() };
    let code = answer.split('.').next().filter(|code| code.starts_with("Code: ")).unwrap_or("an answer without a code");
    let is_name = |word: &&str| word.len() > 3 && word.chars().all(|each| each.is_ascii_uppercase() || each == '_');
    let name = answer.rsplit(['(', ')']).find(is_name).unwrap_or("no name");
    format!("{code} ({name})")
}

/// A text of a row; empty where there is none.
#[must_use]
pub fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

/// A number of a row; 0 where there is none.
#[must_use]
pub fn number(row: &Row, column: &str) -> u64 {
    row.get(column).and_then(Value::as_u64).unwrap_or_default()
}

/// A text as it stands in a statement.
#[must_use]
pub fn literal(text: &str) -> String {
    // A brace is written as its code: no text of a person's may look like the place of the database's name.
    let escape = |character: char| match character {
        '\\' => "\\\\".to_owned(),
        '\'' => "\\'".to_owned(),
        '{' => "\\x7B".to_owned(),
        '\0' => "\\0".to_owned(),
        other => other.to_string(),
    };
    format!("'{}'", text.chars().map(escape).collect::<String>())
}

/// The condition that an expression is one of some texts.
#[must_use]
pub fn is_in<'a>(expression: &str, texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.map(literal).collect();
    if texts.is_empty() { "false".to_owned() } else { format!("{expression} IN ({})", texts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_repeat_the_question() {
        let answer = "Code: 47. DB::Exception: Unknown identifier in scope SELECT 'ADA (ada@x.example)'. (UNKNOWN_IDENTIFIER) (version 26.1)";
        assert_eq!(told(&Error::BadResponse(answer.to_owned())), "Code: 47 (UNKNOWN_IDENTIFIER)");
        let proxy = told(&Error::BadResponse("502 for ada@x.example".to_owned()));
        assert!(!proxy.contains("ada"), "{proxy}");
    }

    #[test]
    fn no_text_ends_its_own_quotes() {
        assert_eq!(literal("it's"), r"'it\'s'");
        assert_eq!(literal(r"\' OR 1 --"), r"'\\\' OR 1 --'");
        assert_eq!(literal("{database}"), r"'\x7Bdatabase}'");
        assert_eq!(is_in("x", ["a", "b"].into_iter()), "x IN ('a', 'b')");
        assert_eq!(is_in("x", std::iter::empty()), "false");
    }
}
