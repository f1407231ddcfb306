//! Erase, forget, object, rectify: a request becomes directives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use schemas::topics::{PARTNERS, PRIVACY};
use schemas::{Map, PrivacyAction, PrivacyDirective, SubjectKind};
use service::options::KafkaOptions;
use service::privacy::keys::Keys;
use uuid::Uuid;

use crate::database::{Database, literal};
use crate::error::PrivacyError;
use crate::options::{RectifyOptions, RightOptions};
use crate::resolve::{Fate, Link, Person, contacts_of, resolve, sites};
use crate::subject::{FIELDS, Identifier};
use crate::topic::{Message, Named, Register, blocking, directive, issued_at, messages, open, publish};
use crate::{holdings, partners, readable};

const DAY: i64 = 24 * 60 * 60 * 1_000;
/// What changes what is kept takes effect so long after it was entered, milliseconds: what comes until then is treated as what
/// was before. By then each stage knows of it, so that no hit of after it passes one that does not.
const EFFECT: i64 = 10_000;

/// The rights that are about all that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Everything goes.
    Erase,
    /// Everything goes, and what comes is not linked with it.
    Forget,
    /// Nothing that identifies is kept from now on.
    Object,
}

impl Right {
    fn action(self) -> PrivacyAction {
        match self {
            Self::Erase => PrivacyAction::Erase,
            Self::Forget => PrivacyAction::Forget,
            Self::Object => PrivacyAction::Object,
        }
    }
}

/// Publishes a request, or shows what it would touch.
///
/// # Errors
/// What is wrong with the command, or what does not answer; nothing was published then, unless [`PrivacyError::Publish`] says else.
pub async fn exercise(right: Right, options: RightOptions) -> Result<String, PrivacyError> {
    let keys = Keys::open(&options.places.privacy_keys)?;
    let database = Database::new(&options.places.clickhouse);
    let kafka = options.places.kafka.clone();
    let register = if options.dry_run { read_only(&kafka).await? } else { open(&kafka).await? };
    let register = register.found_by(&keys)?;
    let person = resolve(&database, &register, &keys, &options.subject).await?;
    let rows = holdings::count(&database, &person).await?;
    let (records, corrections) = match right {
        Right::Object => Default::default(),
        Right::Erase | Right::Forget => {
            let corrections = taken_back(&kafka, &register, &keys, &person);
            let (kafka, person) = (kafka.clone(), person.clone());
            let records = blocking(move || Ok(partners::removals(&kafka, partners::read(&kafka, &person)?))).await?;
            (records, corrections)
        }
    };
    let found = Found { person: &person, rows: &rows, partner_records: records.len(), show: options.show };
    if options.dry_run {
        return Ok(format!("{found}nothing was published, as --dry-run was given\n"));
    }
    let id = Uuid::now_v7();
    let due_at = issued_at(id) + i64::from(options.due) * DAY;
    let mut directives = directives(&register, &keys, &person, |site, subject| PrivacyDirective {
        due_at: Some(due_at),
        issued_at: issued_at(id) + EFFECT,
        ..directive(id, site, subject, right.action(), &options.operator)
    });
    let action = right.action().as_str();
    note(
        &database,
        &Note { id, site: &options.subject.site, operator: &options.operator, action },
        rows.values().sum(),
    )
    .await?;
    let count = directives.len();
    directives.extend(register.mark(&keys));
    blocking(move || publish(&kafka, &[messages(&kafka, &directives)?, records, corrections].concat())).await?;
    Ok(receipt(id, action, due_at, count) + &found.to_string())
}

/// Takes the corrections of a person off the topic: their fields are in plain text there.
fn taken_back(kafka: &KafkaOptions, register: &Register, keys: &Keys, person: &Person) -> Vec<Message> {
    let hashes = person.hashes(keys).into_keys().collect();
    let topic = kafka.topic(&PRIVACY);
    let message = |key: &[u8]| Message { topic: topic.clone(), key: key.to_vec(), value: None };
    register.corrections(&hashes).map(message).collect()
}

/// Where nothing may be created.
async fn read_only(kafka: &KafkaOptions) -> Result<Register, PrivacyError> {
    let mut kafka = kafka.clone();
    if kafka.topic_setup == service::options::TopicSetup::Create {
        kafka.topic_setup = service::options::TopicSetup::Check;
    }
    kafka.set_up_topics("privacy", &[PRIVACY, PARTNERS]).await?;
    blocking(move || Register::read(&kafka)).await
}

/// One directive for each identifier at each site.
fn directives(
    register: &Register,
    keys: &Keys,
    person: &Person,
    make: impl Fn(&str, Named<'_>) -> PrivacyDirective<'static>,
) -> Vec<PrivacyDirective<'static>> {
    let mut directives = Vec::new();
    for site in &person.sites {
        for identifier in &person.identifiers {
            let hashes = register.hashes(keys, site, identifier);
            directives.extend(hashes.into_iter().map(|(name, hash)| make(site, (identifier.kind, name, hash))));
        }
    }
    directives
}

/// Who did what.
#[derive(Debug, Clone, Copy)]
pub struct Note<'a> {
    /// The request.
    pub id: Uuid,
    /// Key of the site.
    pub site: &'a str,
    /// Who.
    pub operator: &'a str,
    /// What.
    pub action: &'a str,
}

/// Writes into the trail that somebody does something. It is written before it is done: what is in no trail was not done.
///
/// # Errors
/// Where ClickHouse does not take it.
pub async fn note(database: &Database, note: &Note<'_>, rows: u64) -> Result<(), PrivacyError> {
    let statement = format!(
        "INSERT INTO {{database}}.privacy_trail (at, operator, action, site, directive_id, rows, stage) \
         SELECT now64(3, 'UTC'), {}, {}, {}, toUUID('{}'), {rows}, 'privacy'",
        literal(note.operator),
        literal(note.action),
        literal(note.site),
        note.id
    );
    database.execute("writing the trail", &statement).await
}

fn receipt(id: Uuid, action: &str, due_at: i64, directives: usize) -> String {
    format!("request: {id}\nright: {action}\ndue: {}\ndirectives published: {directives}\n", readable(due_at))
}

/// What was found, for people. What names the person is numbered unless it is to be shown.
struct Found<'a> {
    person: &'a Person,
    rows: &'a BTreeMap<&'static str, u64>,
    partner_records: usize,
    show: bool,
}

/// The number of each identifier among those of its kind.
type Numbers<'a> = HashMap<&'a Identifier, usize>;

impl Found<'_> {
    fn numbers(&self) -> Numbers<'_> {
        let links = &self.person.links;
        let all: BTreeSet<_> = self.person.identifiers.iter().chain(links.iter().map(|link| &link.to)).collect();
        let mut last: HashMap<SubjectKind, usize> = HashMap::new();
        let number = |identifier: &Identifier| {
            let last = last.entry(identifier.kind).or_default();
            *last += 1;
            *last
        };
        let numbers: Vec<_> = all.iter().copied().map(number).collect();
        all.into_iter().zip(numbers).collect()
    }

    fn name(&self, identifier: &Identifier, numbers: &Numbers<'_>) -> String {
        if self.show {
            let value: String = identifier.value.chars().filter(|character| !character.is_control()).collect();
            return format!("{} {value}", identifier.what());
        }
        format!("{} {}", identifier.what(), numbers.get(identifier).copied().unwrap_or_default())
    }

    fn link(&self, link: &Link, numbers: &Numbers<'_>) -> String {
        let fate = match link.fate {
            Fate::Followed => "",
            Fate::Cut => "; cut by --without",
            Fate::Undone => "; undone by hand",
            Fate::Shared => "; left out, as others told it, too: give it with --phone if it is this person's alone",
        };
        let is_of_another = matches!(link.fate, Fate::Cut | Fate::Undone) && link.to.kind == SubjectKind::Email;
        let is_shared = is_of_another && link.from.kind == SubjectKind::VisitorId;
        let with = if is_shared { ", but all that this visitor did counts as this person's: cut it, too" } else { "" };
        let (from, to) = (self.name(&link.from, numbers), self.name(&link.to, numbers));
        format!("{from} -> {to}: {} at {}{fate}{with}", link.why, link.site)
    }
}

impl std::fmt::Display for Found<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers = self.numbers();
        writeln!(out, "sites: {}", self.person.sites.join(", "))?;
        writeln!(out, "identifiers: {}", self.person.identifiers.len())?;
        for identifier in &self.person.identifiers {
            writeln!(out, "  {}", self.name(identifier, &numbers))?;
        }
        writeln!(out, "links: {}", self.person.links.len())?;
        for link in &self.person.links {
            writeln!(out, "  {}", self.link(link, &numbers))?;
        }
        writeln!(out, "rows held:{}", if self.rows.is_empty() { " none" } else { "" })?;
        for (table, rows) in self.rows {
            writeln!(out, "  {table}: {rows}")?;
        }
        writeln!(out, "partner records: {}", self.partner_records)
    }
}

/// Publishes a correction.
///
/// # Errors
/// Where a field is unknown or empty, or something does not answer; nothing was published then, unless [`PrivacyError::Publish`] says else.
pub async fn rectify(options: RectifyOptions) -> Result<String, PrivacyError> {
    let fields = fields(&options.set)?;
    let contact = Identifier::new(SubjectKind::Email, &options.email).ok_or(PrivacyError::NoSubject)?;
    let keys = Keys::open(&options.places.privacy_keys)?;
    let database = Database::new(&options.places.clickhouse);
    let sites = sites(&database, &options.site).await?;
    let register = open(&options.places.kafka).await?.found_by(&keys)?;
    let id = Uuid::now_v7();
    let due_at = issued_at(id) + i64::from(options.due) * DAY;
    let identifiers = contacts_of(&database, &sites, contact).await?;
    let person = Person { sites, identifiers, ..Person::default() };
    let mut directives = directives(&register, &keys, &person, |site, subject| PrivacyDirective {
        due_at: Some(due_at),
        fields: fields.clone(),
        ..directive(id, site, subject, PrivacyAction::Rectify, &options.operator)
    });
    let action = PrivacyAction::Rectify.as_str();
    note(&database, &Note { id, site: &options.site, operator: &options.operator, action }, 0).await?;
    let (kafka, count) = (options.places.kafka, directives.len());
    directives.extend(register.mark(&keys));
    blocking(move || publish(&kafka, &messages(&kafka, &directives)?)).await?;
    let mut text = receipt(id, action, due_at, count);
    let names: Vec<&str> = options.set.iter().map(|(field, _)| field.as_str()).collect();
    let _ = writeln!(text, "fields: {}", names.join(", "));
    Ok(text)
}

fn fields(set: &[(String, String)]) -> Result<Map<'static>, PrivacyError> {
    let mut fields = Map::default();
    for (field, value) in set {
        if !FIELDS.contains(&field.as_str()) {
            return Err(PrivacyError::UnknownField(field.clone()));
        }
        if fields.get(field).is_some() {
            return Err(PrivacyError::Fields);
        }
        // An empty field of a card is one that was not told.
        if value.trim().is_empty() {
            return Err(PrivacyError::NoValue(field.clone()));
        }
        fields.push(field.clone(), value.clone());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[(&str, &str)]) -> Result<Map<'static>, PrivacyError> {
        fields(&words.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn only_fields_of_a_contact_are_corrected_and_each_once() {
        assert_eq!(set(&[("name", "Ada"), ("phone", "1")]).unwrap().get("phone"), Some("1"));
        assert!(matches!(set(&[("shoe_size", "38")]), Err(PrivacyError::UnknownField(_))));
        assert!(matches!(set(&[("name", "Ada"), ("name", "Ida")]), Err(PrivacyError::Fields)));
    }

    /// It would be told as done, and the wrong value would stand.
    #[test]
    fn no_field_is_corrected_to_nothing() {
        assert!(matches!(set(&[("phone", "")]), Err(PrivacyError::NoValue(field)) if field == "phone"));
        assert!(matches!(set(&[("name", "Ada"), ("phone", " ")]), Err(PrivacyError::NoValue(_))));
    }

    #[test]
    fn a_receipt_names_nobody_unless_it_is_to() {
        let ada = Identifier::new(SubjectKind::Email, "ada@steel.example").unwrap();
        let visitor = Identifier::new(SubjectKind::VisitorId, "v-4711").unwrap();
        let link = Link {
            from: ada.clone(),
            to: visitor.clone(),
            site: "shop".to_owned(),
            why: "told by form, 2026-03-10".to_owned(),
            fate: Fate::Followed,
        };
        let person = Person { sites: vec!["shop".to_owned()], identifiers: [ada, visitor].into(), links: vec![link] };
        let rows = BTreeMap::from([("hits", 7)]);
        let text = |show| Found { person: &person, rows: &rows, partner_records: 1, show }.to_string();
        assert!(!text(false).contains("steel") && !text(false).contains("4711"), "{}", text(false));
        assert!(text(false).contains("e-mail 1 -> visitor 1: told by form, 2026-03-10 at shop\n"), "{}", text(false));
        assert!(text(true).contains("e-mail ada@steel.example -> visitor v-4711: "), "{}", text(true));
        assert!(text(true).contains("  hits: 7\n"));
    }
}
