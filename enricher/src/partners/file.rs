//! Partner records from files: CSV with a header, or one JSON object a line. What `list` prints is such a file.
//!
//! Every line is checked in every field, and all that is wrong is told at once, with the line and the column.

use std::collections::{BTreeMap, HashMap};

use schemas::{Map, MatchKind, PartnerRecord, RecordKey, Text};
use serde_json::{Value, json};

use super::key;

/// What a record may be permitted to be used for.
pub const PURPOSES: [&str; 4] = ["measurement", "personalisation", "advertising", "partner_sharing"];
/// Columns of a CSV file besides `attribute.NAME`.
const COLUMNS: [&str; 8] =
    ["partner", "match_kind", "match_value", "site", "company_name", "company_domain", "permitted_uses", "valid_until"];
const ATTRIBUTE: &str = "attribute.";
/// Longer texts are a mistake in the file, such as a quote that was never closed.
const LONGEST_TEXT: usize = 4_096;

/// All attributes of a record together, bytes: a message holds a million, and the index a record of about as many.
const LONGEST_ATTRIBUTES: usize = 65_536;

/// What is wrong with one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {column}: {reason}")]
pub struct LineError {
    /// Line, counted from 1.
    pub line: u64,
    /// Column or field.
    pub column: String,
    /// What is wrong, and how it would be right.
    pub reason: String,
}

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    /// The lines that are right.
    pub records: Vec<PartnerRecord<'static>>,
    /// What is wrong with the others.
    pub errors: Vec<LineError>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// One JSON object a line.
    JsonLines,
}

impl Format {
    /// By the ending of a file's name.
    #[must_use]
    pub fn of(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// The fields of one line, before they are checked.
#[derive(Default)]
struct Line {
    number: u64,
    fields: HashMap<&'static str, String>,
    uses: Vec<String>,
    attributes: BTreeMap<String, String>,
}

type Checked<T> = Result<T, (String, String)>;

/// The lines of a file, each read when it is asked for: a million of them take gigabytes before they are records.
type Lines<'a> = Box<dyn Iterator<Item = Result<Line, LineError>> + 'a>;

fn wrong<T>(column: &str, reason: impl Into<String>) -> Checked<T> {
    Err((column.to_owned(), reason.into()))
}

/// Reads a file's text; `now`, Unix milliseconds, becomes the time of publishing.
#[must_use]
pub fn parse(text: &str, format: Format, now: i64) -> Parsed {
    let lines = match format {
        Format::Csv => csv_lines(text),
        Format::JsonLines => json_lines(text),
    };
    let mut parsed = Parsed::default();
    let mut seen: HashMap<Vec<u8>, u64> = HashMap::new();
    for line in lines {
        match line.and_then(|line| Ok((line.number, line.record(now)?))) {
            Ok((number, record)) => match seen.insert(RecordKey::of(&record).to_bytes(), number) {
                None => parsed.records.push(record),
                Some(first) => parsed.errors.push(LineError {
                    line: number,
                    column: "match_value".to_owned(),
                    reason: format!("the same partner, match and site stand in line {first}; keep one of the two"),
                }),
            },
            Err(error) => parsed.errors.push(error),
        }
    }
    parsed
}

fn csv_lines(text: &str) -> Lines<'_> {
    let wrong = |error| Box::new(std::iter::once(Err(error)));
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return wrong(csv_error(&error)),
    };
    if let Some(error) = header_error(&header) {
        return wrong(error);
    }
    Box::new(reader.into_records().map(move |row| {
        let row = row.map_err(|error| csv_error(&error))?;
        let number = row.position().map_or(0, csv::Position::line);
        if row.len() != header.len() {
            let reason = format!("it has {} columns, the header has {}", row.len(), header.len());
            return Err(LineError { line: number, column: "the whole line".to_owned(), reason });
        }
        let mut line = Line { number, ..Line::default() };
        for (name, value) in header.iter().zip(&row).filter(|(_, value)| !value.is_empty()) {
            line.put(name, value);
        }
        Ok(line)
    }))
}

fn csv_error(error: &csv::Error) -> LineError {
    let line = error.position().map_or(1, csv::Position::line);
    LineError { line, column: "the whole line".to_owned(), reason: error.to_string() }
}

fn header_error(header: &csv::StringRecord) -> Option<LineError> {
    let at = |column: &str, reason: &str| LineError { line: 1, column: column.to_owned(), reason: reason.to_owned() };
    let is_known = |name: &&str| COLUMNS.contains(name) || name.len() > ATTRIBUTE.len() && name.starts_with(ATTRIBUTE);
    if let Some(unknown) = header.iter().find(|name| !is_known(name)) {
        let reason = format!("there is no such column; there are {} and attribute.NAME", COLUMNS.join(", "));
        return Some(at(unknown, &reason));
    }
    if let Some(twice) =
        header.iter().enumerate().find(|(at, name)| header.iter().take(*at).any(|other| other == *name))
    {
        return Some(at(twice.1, "the column stands there twice"));
    }
    let needed = ["partner", "match_kind", "match_value", "permitted_uses"];
    let missing = needed.iter().find(|needed| !header.iter().any(|name| name == **needed))?;
    Some(at(missing, "the header lacks this column"))
}

fn json_lines(text: &str) -> Lines<'_> {
    let lines = text.lines().zip(1u64..).filter(|(line, _)| !line.trim().is_empty());
    Box::new(lines.map(|(line, number)| json_line(line, number)))
}

fn json_line(text: &str, number: u64) -> Result<Line, LineError> {
    let at = |column: &str, reason: String| LineError { line: number, column: column.to_owned(), reason };
    let value: Value = serde_json::from_str(text)
        .map_err(|error| at(&format!("character {}", error.column()), json_reason(&error)))?;
    let Value::Object(fields) = value else {
        return Err(at("the whole line", "it is no JSON object".to_owned()));
    };
    let mut line = Line { number, ..Line::default() };
    for (name, value) in fields {
        let result = match (name.as_str(), value) {
            // Printed by `list`; set anew by `import`.
            ("updated_at", _) | (_, Value::Null) => Ok(()),
            ("permitted_uses", Value::Array(uses)) => texts(uses).map(|uses| line.uses = uses),
            ("attributes", Value::Object(attributes)) => attributes.into_iter().try_for_each(|(name, value)| {
                line.attributes.insert(name, text_of(value)?);
                Ok(())
            }),
            ("attributes", _) => Err("it is no object of texts".to_owned()),
            (name, value) if COLUMNS.contains(&name) => text_of(value).map(|text| line.put(name, &text)),
            _ => Err(format!("there is no such field; there are {} and attributes", COLUMNS.join(", "))),
        };
        result.map_err(|reason| at(&name, reason))?;
    }
    Ok(line)
}

/// What is wrong with a JSON text, without the place, which the caller tells.
fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn text_of(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err("it is neither a text nor a number".to_owned()),
    }
}

fn texts(values: Vec<Value>) -> Result<Vec<String>, String> {
    values.into_iter().map(text_of).collect()
}

impl Line {
    fn put(&mut self, name: &str, value: &str) {
        if let Some(attribute) = name.strip_prefix(ATTRIBUTE) {
            self.attributes.insert(attribute.to_owned(), value.to_owned());
        } else if name == "permitted_uses" {
            let uses = value.split([';', '|', ' ', ',']).filter(|purpose| !purpose.is_empty());
            self.uses = uses.map(str::to_owned).collect();
        } else if let Some(column) = COLUMNS.iter().find(|column| **column == name) {
            self.fields.insert(column, value.trim().to_owned());
        }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn record(&self, now: i64) -> Result<PartnerRecord<'static>, LineError> {
        self.checked(now).map_err(|(column, reason)| LineError { line: self.number, column, reason })
    }

    fn checked(&self, now: i64) -> Checked<PartnerRecord<'static>> {
        for (name, value) in self.fields.iter().map(|(name, value)| (*name, value)).chain(self.named_attributes()) {
            if value.len() > LONGEST_TEXT || value.contains('\0') {
                return wrong(name, format!("it is longer than {LONGEST_TEXT} bytes or holds a zero byte"));
            }
        }
        if self.named_attributes().map(|(name, value)| name.len() + value.len()).sum::<usize>() > LONGEST_ATTRIBUTES {
            return wrong("attributes", format!("they are longer than {LONGEST_ATTRIBUTES} bytes together"));
        }
        let partner = self.field("partner");
        if partner.is_empty() {
            return wrong("partner", "it is empty; name who supplied the record");
        }
        let (match_kind, match_value) = self.matching()?;
        Ok(PartnerRecord {
            partner: text(partner),
            match_kind,
            match_value: Text::Owned(match_value),
            site: text(self.field("site")),
            company_name: text(self.field("company_name")),
            company_domain: Text::Owned(self.company_domain()?),
            attributes: Map(self.attributes.iter().map(|(name, value)| (text(name), text(value))).collect()),
            permitted_uses: self.permitted_uses()?,
            valid_until: self.valid_until()?,
            updated_at: now,
        })
    }

    fn named_attributes(&self) -> impl Iterator<Item = (&str, &String)> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value))
    }

    fn matching(&self) -> Checked<(MatchKind, String)> {
        let kinds: Vec<&str> = MatchKind::ALL.iter().skip(1).map(|kind| kind.as_str()).collect();
        let kind = MatchKind::from_symbol(self.field("match_kind")).filter(|kind| *kind != MatchKind::Unknown);
        let Some(kind) = kind else {
            return wrong("match_kind", format!("{:?} is none of {}", self.field("match_kind"), kinds.join(", ")));
        };
        if kind == MatchKind::VisitorId && self.field("site").is_empty() {
            return wrong("site", "it is empty, but a visitor id is unique within a site only");
        }
        match key::normalise(kind, self.field("match_value")) {
            Ok(value) => Ok((kind, value)),
            Err(reason) => wrong("match_value", reason),
        }
    }

    fn company_domain(&self) -> Checked<String> {
        match self.field("company_domain") {
            "" => Ok(String::new()),
            domain => {
                key::normalise(MatchKind::CompanyDomain, domain).or_else(|reason| wrong("company_domain", reason))
            }
        }
    }

    fn permitted_uses(&self) -> Checked<Vec<Text<'static>>> {
        if self.uses.is_empty() {
            return wrong("permitted_uses", format!("it is empty; say which of {} are permitted", PURPOSES.join(", ")));
        }
        let known = |purpose: &String| match PURPOSES.iter().find(|known| *known == purpose) {
            Some(known) => Ok(Text::Borrowed(*known)),
            None => wrong("permitted_uses", format!("{purpose:?} is none of {}", PURPOSES.join(", "))),
        };
        self.uses.iter().map(known).collect()
    }

    fn valid_until(&self) -> Checked<Option<i64>> {
        let text = self.field("valid_until");
        if text.is_empty() {
            return Ok(None);
        }
        match time(text) {
            Some(time) => Ok(Some(time)),
            None => wrong(
                "valid_until",
                format!(
                    "{text:?} is no date such as 2027-01-31 (to the end of that day, UTC), no time such as \
                         2027-01-31T12:00:00Z, and no Unix milliseconds"
                ),
            ),
        }
    }
}

fn text(text: &str) -> Text<'static> {
    Text::Owned(text.to_owned())
}

/// Unix milliseconds of a date's end, a time (RFC 3339), or Unix milliseconds themselves.
fn time(text: &str) -> Option<i64> {
    if let Ok(milliseconds) = text.parse::<i64>() {
        // Seconds, or a year, would be a time long gone.
        return (milliseconds > 1_000_000_000_000).then_some(milliseconds);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    // A time of no zone is nobody's, and read as a date it would be the end of its day.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    let next_day = text.parse::<jiff::civil::Date>().ok()?.tomorrow().ok()?;
    let midnight = next_day.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?;
    Some(midnight.timestamp().as_millisecond())
}

/// A record as one line of JSON, as [`parse`] reads it.
#[must_use]
pub fn to_json(record: &PartnerRecord<'_>) -> Value {
    let attributes: BTreeMap<_, _> = record.attributes.0.iter().map(|(name, value)| (&**name, &**value)).collect();
    json!({
        "partner": &*record.partner,
        "match_kind": record.match_kind.as_str(),
        "match_value": &*record.match_value,
        "site": &*record.site,
        "company_name": &*record.company_name,
        "company_domain": &*record.company_domain,
        "attributes": attributes,
        "permitted_uses": record.permitted_uses.iter().map(|purpose| &**purpose).collect::<Vec<_>>(),
        "valid_until": record.valid_until,
        "updated_at": record.updated_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn errors(text: &str, format: Format) -> Vec<String> {
        parse(text, format, NOW).errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_csv_file_is_read() {
        let text = "partner,match_kind,match_value,site,company_name,company_domain,permitted_uses,valid_until,attribute.industry\n\
                    acme,ip_range,192.0.2.77/24,,\"Example, Inc.\",Example.COM,measurement;advertising,2027-01-31,Pumps\n\
                    acme,visitor_id,v1,demo,,,measurement,,\n";
        let parsed = parse(text, Format::Csv, NOW);
        assert_eq!(parsed.errors, []);
        let [range, visitor] = &parsed.records[..] else { panic!("{parsed:?}") };
        let expected = PartnerRecord {
            partner: "acme".into(),
            match_kind: MatchKind::IpRange,
            match_value: "192.0.2.0/24".into(),
            company_name: "Example, Inc.".into(),
            company_domain: "example.com".into(),
            attributes: Map(vec![("industry".into(), "Pumps".into())]),
            permitted_uses: vec!["measurement".into(), "advertising".into()],
            // 2027-02-01 00:00 UTC: 20,850 days after 1970-01-01.
            valid_until: Some(20_850 * 86_400_000),
            updated_at: NOW,
            ..PartnerRecord::default()
        };
        assert_eq!(*range, expected);
        assert_eq!((&*visitor.match_value, &*visitor.site, visitor.valid_until), ("v1", "demo", None));
    }

    #[test]
    fn a_company_has_one_domain_whichever_of_its_hosts_is_given() {
        let text = "partner,match_kind,match_value,company_domain,permitted_uses\n\
                    acme,company_domain,www.example.co.uk,WWW.Example.co.uk,measurement\n\
                    acme,email_domain,mail.example.com,mail.example.com,measurement\n";
        let records = parse(text, Format::Csv, NOW).records;
        let domains: Vec<_> = records.iter().map(|one| (&*one.match_value, &*one.company_domain)).collect();
        assert_eq!(domains, [("example.co.uk", "example.co.uk"), ("mail.example.com", "example.com")]);
    }

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        let text = "partner,match_kind,match_value,site,permitted_uses,valid_until,attribute.a b\n\
                    acme,email_domain,example.com,demo,measurement,2027-01-31T12:00:00Z,\"x\"\"y\"\n";
        let records = parse(text, Format::Csv, NOW).records;
        assert_eq!(records.len(), 1);
        let printed = to_json(&records[0]).to_string();
        assert_eq!(parse(&printed, Format::JsonLines, NOW), Parsed { records, errors: Vec::new() });
    }

    #[test]
    fn wrong_lines_are_named_with_line_and_column() {
        let header = "partner,match_kind,match_value,permitted_uses\n";
        for (line, expected) in [
            ("acme,ip_range,300.0.0.0/8,measurement", "line 2, match_value: \"300.0.0.0/8\" is no range"),
            ("acme,shoe_size,44,measurement", "line 2, match_kind: \"shoe_size\" is none of ip_range"),
            (",ip_range,192.0.2.0/24,measurement", "line 2, partner: it is empty"),
            ("acme,ip_range,192.0.2.0/24,", "line 2, permitted_uses: it is empty"),
            ("acme,ip_range,192.0.2.0/24,everything", "line 2, permitted_uses: \"everything\" is none of"),
            ("acme,visitor_id,v1,measurement", "line 2, site: it is empty"),
            ("acme,ip_range,192.0.2.0/24", "line 2, the whole line: it has 3 columns, the header has 4"),
        ] {
            let errors = errors(&format!("{header}{line}\n"), Format::Csv);
            assert!(errors.len() == 1 && errors[0].starts_with(expected), "{line}: {errors:?}");
        }
        let twice = "acme,ip_range,192.0.2.0/24,measurement\nacme,ip_range,192.0.2.9/24,measurement\n";
        let errors = errors(&format!("{header}{twice}"), Format::Csv);
        assert!(
            errors[0].starts_with("line 3, match_value: the same partner, match and site stand in line 2"),
            "{errors:?}"
        );
    }

    #[test]
    fn a_wrong_header_is_one_error() {
        for (header, expected) in [
            ("partner,match_kind,match_value,permitted_use\n", "line 1, permitted_use: there is no such column"),
            ("partner,match_kind,match_value\na,b,c\n", "line 1, permitted_uses: the header lacks this column"),
            ("partner,partner\n", "line 1, partner: the column stands there twice"),
        ] {
            let errors = errors(header, Format::Csv);
            assert!(errors.len() == 1 && errors[0].starts_with(expected), "{errors:?}");
        }
    }

    #[test]
    fn wrong_json_is_named_with_line_and_place() {
        for (line, expected) in [
            ("{\"partner\": }", "line 2, character 13: expected value"),
            ("[]", "line 2, the whole line: it is no JSON object"),
            ("{\"partner\": {}}", "line 2, partner: it is neither a text nor a number"),
            ("{\"name\": \"x\"}", "line 2, name: there is no such field"),
            ("{\"attributes\": []}", "line 2, attributes: it is no object of texts"),
        ] {
            let errors = errors(&format!("\n{line}\n"), Format::JsonLines);
            assert!(errors.len() == 1 && errors[0].starts_with(expected), "{line}: {errors:?}");
        }
    }

    #[test]
    fn times_are_dates_or_instants_or_milliseconds() {
        for (text, expected) in [
            ("1970-01-01", Some(86_400_000)),
            ("2027-01-31T00:00:00+01:00", Some(20_849 * 86_400_000 - 3_600_000)),
            ("1800000000000", Some(1_800_000_000_000)),
            ("2027", None),
            ("2027-01-31T12:00:00", None),
            ("2027-01-31 12:00", None),
            ("31.01.2027", None),
            ("tomorrow", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
