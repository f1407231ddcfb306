//! Everything that is held on a person, as a folder: JSON for machines, one page for people.
//!
//! * `NAME.json`: the rows of each table and view that has some ([`crate::holdings`]), as the database has them.
//! * `summary.json`: what names the person and how that was found, what partners know, what was given to partners, what
//!   they permitted and objected to, how long everything is kept.
//! * `index.html`: all of it to read, without scripts and without anything from elsewhere ([`page`]).

pub mod page;
pub mod retention;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use schemas::{PrivacyAction, PrivacyDirective, SubjectKind};
use serde_json::{Value, json};
use service::privacy::keys::Keys;
use uuid::Uuid;

use crate::database::{Database, Row, is_in, text};
use crate::error::PrivacyError;
use crate::holdings;
use crate::options::AccessOptions;
use crate::request::{Note, note};
use crate::resolve::{Fate, Link, Person, normal_email, resolve};
use crate::subject::Identifier;
use crate::topic::{Register, blocking, open};
use crate::{partners, readable};
use page::Section;

/// What the person may still do, in words for them.
const RIGHTS: [(&str, &str); 6] = [
    ("correct", "You may have each contact field corrected."),
    ("erase", "You may have everything that is held on you removed."),
    ("forget", "You may have it removed and not be linked with it when you come again."),
    ("object", "You may object: you are then counted without anything that identifies you."),
    ("withdraw", "You may take back each permission to share; the partner is told."),
    ("complain", "You may complain to the supervisory authority for data protection where you live."),
];

/// Writes the folder.
///
/// # Errors
/// Where the folder is there already, or something does not answer.
pub async fn run(options: AccessOptions) -> Result<String, PrivacyError> {
    let keys = Keys::open(&options.places.privacy_keys)?;
    let database = Database::new(&options.places.clickhouse);
    let register = open(&options.places.kafka).await?.found_by(&keys)?;
    let person = resolve(&database, &register, &keys, &options.subject).await?;
    let mut sections = held(&database, &person).await?;
    let rows = sections.iter().map(|section| section.rows.len()).sum::<usize>();
    let note_of =
        Note { id: Uuid::now_v7(), site: &options.subject.site, operator: &options.operator, action: "access" };
    note(&database, &note_of, u64::try_from(rows).unwrap_or(u64::MAX)).await?;
    sections.extend(summary(&options, &database, &person, &register, &keys).await?);
    write(&options.output, &sections)?;
    Ok(format!("{rows} rows in {} files, {}\n", sections.len(), options.output.join("index.html").display()))
}

/// The rows of all tables and views that have some.
async fn held(database: &Database, person: &Person) -> Result<Vec<Section>, PrivacyError> {
    let kept = retention::of(database).await?;
    let (others, mut sections) = (person.not_theirs().collect(), Vec::new());
    for holding in holdings::present(database).await? {
        let query = format!("SELECT * FROM {{database}}.{} WHERE {}", holding.name, holding.condition(person));
        let mut rows = database.rows("asking for what is held", &query).await?;
        rows.retain(|row| !names_one_of(&others, row));
        let kept = kept.get(holding.table).cloned().unwrap_or_else(|| retention::FOR_EVER.to_owned());
        sections.push(Section { name: holding.name.to_owned(), what: holding.what.to_owned(), kept, rows });
    }
    for (name, what, query) in of_hits(person) {
        let rows = database.rows("asking for what is held", &query).await?;
        let kept = kept.get("hits").cloned().unwrap_or_else(|| retention::FOR_EVER.to_owned());
        sections.push(Section { name: name.to_owned(), what: what.to_owned(), kept, rows });
    }
    sections.retain(|section| !section.rows.is_empty());
    Ok(sections)
}

/// Whether a row tells one of these addresses, as of who used the same computer.
fn names_one_of(others: &HashSet<&str>, row: &Row) -> bool {
    let told = ["contact", "contact_email", "merged_into", "person"].map(|column| text(row, column));
    let mut told = told.iter().filter_map(|value| Identifier::new(SubjectKind::Email, value));
    !others.is_empty() && told.any(|each| others.contains(each.value.as_str()))
}

/// What hits tell that is easily overlooked among their columns.
fn of_hits(person: &Person) -> [(&'static str, &'static str, String); 2] {
    let others = is_in(&normal_email("contact_email"), person.not_theirs());
    let condition = format!("{} AND NOT {others}", holdings::HOLDINGS[0].condition(person));
    let summed = |columns: &str, only: &str| {
        format!(
            "SELECT {columns}, count() AS hits, min(occurred_at) AS first, max(occurred_at) AS last \
             FROM {{database}}.hits WHERE {condition} AND {only} GROUP BY ALL ORDER BY first"
        )
    };
    [
        (
            "places",
            "where they were, by the address of their network",
            summed(
                "site, country, region, city, network_organisation",
                "(country != '' OR network_organisation != '')",
            ),
        ),
        (
            "partner_data",
            "what partners knew when they came, and who supplied it",
            summed(
                "site, partner, partner_matched_by, company_name, company_domain, \
                 toString(partner_attributes) AS attributes, partner_permitted_uses AS permitted_uses",
                "partner != ''",
            ),
        ),
    ]
}

/// What is held elsewhere than in tables about visits and contacts.
async fn summary(
    options: &AccessOptions,
    database: &Database,
    person: &Person,
    register: &Register,
    keys: &Keys,
) -> Result<Vec<Section>, PrivacyError> {
    let (kafka, whom) = (options.places.kafka.clone(), person.clone());
    let records = blocking(move || partners::read(&kafka, &whom)).await?;
    let hashes = person.hashes(keys);
    let shares = format!(
        "SELECT site, partner, purpose, fields, shared_at, directive_id FROM {{database}}.privacy_shares \
         WHERE {} AND {} ORDER BY shared_at",
        is_in("site", person.sites.iter().map(String::as_str)),
        is_in("subject", hashes.keys().map(String::as_str)),
    );
    let shares = database.rows("asking what was given", &shares).await?;
    let identifiers = person.identifiers.iter().map(|each| json!({"kind": each.what(), "value": each.value})).collect();
    let rights = RIGHTS.iter().map(|(right, words)| json!({"right": right, "what": words})).collect();
    let until_erased = "until it is removed on request";
    let section = |name: &str, what: &str, kept: &str, rows: Vec<Row>| Section {
        name: name.to_owned(),
        what: what.to_owned(),
        kept: kept.to_owned(),
        rows,
    };
    Ok(vec![
        section("identifiers", "what names you", until_erased, rows(identifiers)),
        section("found_by", "why these are taken to be one person", until_erased, rows(links(&person.links))),
        section("partner_records", "what partners know of you", until_erased, rows(records.into_values().collect())),
        section("shared", "what was given to whom, and under which permission", retention::FOR_EVER, shares),
        section(
            "requests",
            "what you asked for, permitted and objected to",
            retention::FOR_EVER,
            asked(register, person, &hashes),
        ),
        section("topics", "what is on its way is kept, too", "", retention::topics()),
        section("rights", "what you may still do", "", rows(rights)),
    ])
}

fn rows(values: Vec<Value>) -> Vec<Row> {
    let row = |value| if let Value::Object(row) = value { Some(row) } else { None };
    values.into_iter().filter_map(row).collect()
}

fn links(links: &[Link]) -> Vec<Value> {
    let followed = links.iter().filter(|link| link.fate == Fate::Followed);
    followed
        .map(|link| json!({"from": link.from.value, "to": link.to.value, "site": link.site, "why": link.why}))
        .collect()
}

/// A request is told once, however many identifiers it is about.
fn asked(register: &Register, person: &Person, hashes: &BTreeMap<String, String>) -> Vec<Row> {
    let mut asked: BTreeMap<(i64, Uuid, &str), Value> = BTreeMap::new();
    for site in &person.sites {
        for said in register.directives(site).filter(|said| hashes.contains_key(said.subject.as_ref())) {
            asked.insert((said.issued_at, said.directive_id, site), request(said));
        }
    }
    rows(asked.into_values().collect())
}

fn request(said: &PrivacyDirective<'_>) -> Value {
    let fields: Vec<&str> = said.fields.0.iter().map(|(field, _)| field.as_ref()).collect();
    let about = if said.action == PrivacyAction::Rectify { fields.join(", ") } else { said.purpose.to_string() };
    json!({
        "at": readable(said.issued_at), "site": said.site, "right": said.action.as_str(), "partner": said.partner,
        "about": about, "wording": said.wording, "evidence": said.evidence, "id": said.directive_id.to_string(),
    })
}

fn write(folder: &Path, sections: &[Section]) -> Result<(), PrivacyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| PrivacyError::Write { path, cause }
    };
    // Nobody else on this machine may read it.
    fs::DirBuilder::new().mode(0o700).create(folder).map_err(failed(folder))?;
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(failed(&path))
    };
    for section in sections {
        put(&format!("{}.json", section.name), &format!("{:#}\n", json!(section.rows)))?;
    }
    let summary: Vec<Value> = sections
        .iter()
        .map(|each| json!({"file": format!("{}.json", each.name), "what": each.what, "kept": each.kept, "rows": each.rows.len()}))
        .collect();
    put("summary.json", &format!("{:#}\n", json!(summary)))?;
    put("index.html", &page::html(sections))
}
