//! Permissions: what a person permits a partner, what is given under it, and whom the partner has to be told of.
//!
//! Permissions and their withdrawals are directives. What was given stands in `privacy_shares`, under the id of the
//! permission: by that id the partner knows the person, and learns later that they do not permit it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use schemas::{PrivacyAction, PrivacyDirective, SubjectKind};
use service::privacy::keys::Keys;
use uuid::Uuid;

use crate::database::{Database, Row, is_in, literal, number, text};
use crate::error::PrivacyError;
use crate::options::{NoticesOptions, Permission, PermitOptions, Places, ShareOptions, WithdrawOptions};
use crate::readable;
use crate::request::{Note, note};
use crate::resolve::addresses;
use crate::subject::{FIELDS, Identifier};
use crate::topic::{Register, blocking, directive, issued_at, messages, open, publish};

/// Publishes a permission.
///
/// # Errors
/// Where something does not answer; nothing was published then, unless [`PrivacyError::Publish`] says else.
pub async fn permit(options: PermitOptions) -> Result<String, PrivacyError> {
    let extra = (options.wording, options.evidence);
    say(options.places, options.permission, PrivacyAction::Permit, extra).await
}

/// Publishes that a permission is taken back.
///
/// # Errors
/// Where something does not answer; nothing was published then, unless [`PrivacyError::Publish`] says else.
pub async fn withdraw(options: WithdrawOptions) -> Result<String, PrivacyError> {
    say(options.places, options.permission, PrivacyAction::Withdraw, Default::default()).await
}

async fn say(
    places: Places,
    permission: Permission,
    action: PrivacyAction,
    (wording, evidence): (String, String),
) -> Result<String, PrivacyError> {
    let Permission { site, email, partner, purpose, operator } = permission;
    let contact = Identifier::new(SubjectKind::Email, &email).ok_or(PrivacyError::NoSubject)?;
    let keys = Keys::open(&places.privacy_keys)?;
    let register = open(&places.kafka).await?.found_by(&keys)?;
    let database = Database::new(&places.clickhouse);
    let id = Uuid::now_v7();
    let mut said = Said { hashes: register.hashes(&keys, &site, &contact), at: issued_at(id), ended: None };
    if action == PrivacyAction::Withdraw {
        let addresses = addresses(&database, &site, contact).await?;
        said = Said::withdrawn(&register, &keys, (&site, &partner, &purpose), &addresses, said.at);
    } else {
        said.hashes.truncate(1);
    }
    let make = |(name, hash): (&str, String)| PrivacyDirective {
        partner: partner.clone().into(),
        purpose: purpose.clone().into(),
        wording: wording.clone().into(),
        evidence: evidence.clone().into(),
        issued_at: said.at,
        ..directive(id, &site, (SubjectKind::Email, name, hash), action, &operator)
    };
    let directives: Vec<_> = said.hashes.into_iter().map(make).chain(register.mark(&keys)).collect();
    note(&database, &Note { id, site: &site, operator: &operator, action: action.as_str() }, 0).await?;
    blocking(move || publish(&places.kafka, &messages(&places.kafka, &directives)?)).await?;
    let ended = said.ended.map(|number| format!("permissions that this ends: {number}\n")).unwrap_or_default();
    Ok(format!("request: {id}\nright: {}\npartner: {partner}\npurpose: {purpose}\n{ended}", action.as_str()))
}

/// What is published of somebody who permits something, or takes it back.
struct Said<'k> {
    /// Names of keys, and hashes.
    hashes: Vec<(&'k str, String)>,
    /// Since when it holds, Unix milliseconds.
    at: i64,
    /// How many permissions it ends.
    ended: Option<usize>,
}

impl<'k> Said<'k> {
    /// Under all addresses of the contact, as whichever they permitted it under is the one that the partner is told of.
    fn withdrawn(
        register: &Register,
        keys: &'k Keys,
        (site, partner, purpose): (&str, &str, &str),
        addresses: &BTreeSet<Identifier>,
        now: i64,
    ) -> Self {
        let hashes: Vec<_> = addresses.iter().flat_map(|address| register.hashes(keys, site, address)).collect();
        let permissions = Permissions::of(register, site, partner, purpose);
        let standing: Vec<i64> = hashes.iter().filter_map(|(_, hash)| permissions.standing_since(hash)).collect();
        // Another machine's clock may be ahead of this one's, and what is said later counts.
        let at = standing.iter().copied().fold(now, i64::max);
        Self { hashes, at, ended: Some(standing.len()) }
    }
}

/// What may end a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub why: PrivacyAction,
    /// When, Unix milliseconds.
    pub at: i64,
}

impl End {
    /// Of something that was said, where it is about permissions for a partner and purpose.
    #[must_use]
    pub fn of(said: &PrivacyDirective<'_>, partner: &str, purpose: &str) -> Option<Self> {
        let is_about_it = match said.action {
            PrivacyAction::Withdraw => said.partner == partner && said.purpose == purpose,
            PrivacyAction::Erase | PrivacyAction::Forget | PrivacyAction::Object => true,
            _ => false,
        };
        is_about_it.then_some(Self { why: said.action, at: said.issued_at })
    }

    /// Whether it ends one of the same person's that was given at a time. An objection is about everything, whatever they
    /// permitted later.
    #[must_use]
    pub fn ends(&self, given_at: i64) -> bool {
        self.why == PrivacyAction::Object || self.at >= given_at
    }
}

/// What a site's people said about one partner and purpose.
#[derive(Debug)]
pub struct Permissions<'a> {
    permits: BTreeMap<(&'a str, &'a str), &'a PrivacyDirective<'static>>,
    ends: BTreeMap<(&'a str, &'a str), Vec<End>>,
}

impl<'a> Permissions<'a> {
    /// From the topic.
    #[must_use]
    pub fn of(register: &'a Register, site: &'a str, partner: &str, purpose: &str) -> Self {
        let mut permissions = Self { permits: BTreeMap::new(), ends: BTreeMap::new() };
        for said in register.directives(site) {
            let who = (said.subject_kind.as_str(), said.subject.as_ref());
            if said.action == PrivacyAction::Permit && said.partner == partner && said.purpose == purpose {
                permissions.permits.insert(who, said);
            }
            if let Some(end) = End::of(said, partner, purpose) {
                permissions.ends.entry(who).or_default().push(end);
            }
        }
        permissions
    }

    /// When the permission of an address was given, where it holds.
    fn standing_since(&self, hash: &str) -> Option<i64> {
        let kind = SubjectKind::Email;
        let given_at = self.permits.get(&(kind.as_str(), hash))?.issued_at;
        self.end(kind, hash, given_at).is_none().then_some(given_at)
    }

    /// The first thing that ended a permission of somebody that was given at a time; none where it holds.
    #[must_use]
    pub fn end(&self, kind: SubjectKind, subject: &str, given_at: i64) -> Option<End> {
        let ends = self.ends.get(&(kind.as_str(), subject))?;
        ends.iter().filter(|end| end.at >= given_at).min_by_key(|end| end.at).copied()
    }

    /// The permission of a person that is in force, by all that names them.
    #[must_use]
    pub fn in_force(
        &self,
        keys: &Keys,
        site: &str,
        identifiers: &[Identifier],
    ) -> Option<&'a PrivacyDirective<'static>> {
        let of = |each: &Identifier| {
            let kind = each.kind.as_str();
            each.hashes(keys, site).map(move |hash| (kind, hash)).collect::<Vec<_>>()
        };
        let named: Vec<(&str, String)> = identifiers.iter().flat_map(of).collect();
        let known: Vec<(&str, &str)> = named.iter().map(|(kind, hash)| (*kind, hash.as_str())).collect();
        let permits = known.iter().filter_map(|who| self.permits.get(who).copied());
        let newest = permits.max_by_key(|permit| permit.issued_at)?;
        let mut ends = known.iter().filter_map(|who| self.ends.get(who)).flatten();
        (!ends.any(|end| end.ends(newest.issued_at))).then_some(newest)
    }
}

/// Writes the contacts who permit it into a file, and notes what was given.
///
/// # Errors
/// Where a field is unknown, the file is there already, or something does not answer.
pub async fn share(options: ShareOptions) -> Result<String, PrivacyError> {
    check_fields(&options.fields)?;
    let keys = Keys::open(&options.places.privacy_keys)?;
    let register = open(&options.places.kafka).await?.found_by(&keys)?;
    let database = Database::new(&options.places.clickhouse);
    let permissions = Permissions::of(&register, &options.site, &options.partner, &options.purpose);
    let contacts = contacts(&database, &options.site).await?;
    let permitted: Vec<(&PrivacyDirective<'_>, &Row)> = contacts
        .iter()
        .filter_map(|row| Some((permissions.in_force(&keys, &options.site, &named(row))?, row)))
        .filter(|(permit, row)| !refused_since(permit, row))
        .collect();
    let file = create(&options.output)?;
    let id = Uuid::now_v7();
    let count = permitted.len();
    let action = Note { id, site: &options.site, operator: &options.operator, action: "share" };
    // What is noted and not given harms nobody; what is given and not noted could not be told to anybody.
    let noted = async {
        note(&database, &action, u64::try_from(count).unwrap_or(u64::MAX)).await?;
        record(&database, &options, &permitted).await
    };
    if let Err(error) = noted.await {
        // Nothing is in it, and it would be in the way of who tries again.
        drop(std::fs::remove_file(&options.output));
        return Err(error);
    }
    write(file, &options, &permitted)?;
    Ok(format!("{count} of {} contacts permit {} to {}\n", contacts.len(), options.purpose, options.partner))
}

/// Whether they refused on the site itself, after they permitted it, that anything is shared.
fn refused_since(permit: &PrivacyDirective<'_>, contact: &Row) -> bool {
    i64::try_from(number(contact, "refused_at")).is_ok_and(|refused_at| refused_at >= permit.issued_at)
}

fn check_fields(fields: &[String]) -> Result<(), PrivacyError> {
    for (index, field) in fields.iter().enumerate() {
        if !FIELDS.contains(&field.as_str()) {
            return Err(PrivacyError::UnknownField(field.clone()));
        }
        if fields[..index].contains(field) {
            return Err(PrivacyError::Fields);
        }
    }
    Ok(())
}

async fn contacts(database: &Database, site: &str) -> Result<Vec<Row>, PrivacyError> {
    let site = literal(site);
    let query = format!(
        "SELECT c.contact AS contact, c.name AS name, c.email AS email, c.phone AS phone, c.job_title AS job_title, \
         c.company AS company, c.address AS address, c.emails AS emails, m.addresses AS merged, v.visitors AS visitors, v.refused_at AS refused_at \
         FROM {{database}}.contacts AS c LEFT JOIN \
         (SELECT l.contact AS contact, groupArray(l.visitor_id) AS visitors, max(r.told_at) AS refused_at \
         FROM {{database}}.contact_visitors AS l LEFT JOIN \
         (SELECT visitor_id, toUInt64(toUnixTimestamp64Milli(told_at)) AS told_at FROM {{database}}.consents \
         WHERE site = {site} AND purpose = 'partner_sharing' AND NOT is_permitted) AS r ON l.visitor_id = r.visitor_id \
         WHERE l.site = {site} GROUP BY contact) AS v ON c.contact = v.contact LEFT JOIN \
         (SELECT person, groupArray(contact) AS addresses FROM {{database}}.merged_contacts WHERE site = {site} GROUP BY person) \
         AS m ON c.contact = m.person WHERE c.site = {site} ORDER BY contact"
    );
    database.rows("asking for contacts", &query).await
}

/// All that names a contact.
fn named(row: &Row) -> Vec<Identifier> {
    let all = |column: &str, kind| {
        let values = row.get(column).and_then(serde_json::Value::as_array).into_iter().flatten();
        values.filter_map(move |value| Identifier::new(kind, value.as_str()?)).collect::<Vec<_>>()
    };
    let one = |column, kind| Identifier::new(kind, text(row, column)).into_iter().collect();
    [
        one("contact", SubjectKind::Email),
        all("emails", SubjectKind::Email),
        // Not each has a card that tells it.
        all("merged", SubjectKind::Email),
        all("visitors", SubjectKind::VisitorId),
        one("phone", SubjectKind::Phone),
    ]
    .concat()
}

fn create(path: &Path) -> Result<File, PrivacyError> {
    // It holds what people submitted of themselves: nobody else on this machine may read it.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|cause| PrivacyError::Write { path: path.to_owned(), cause })
}

async fn record(
    database: &Database,
    options: &ShareOptions,
    permitted: &[(&PrivacyDirective<'_>, &Row)],
) -> Result<(), PrivacyError> {
    if permitted.is_empty() {
        return Ok(());
    }
    let fields: Vec<String> = options.fields.iter().map(|field| literal(field)).collect();
    let (site, partner, purpose) = (literal(&options.site), literal(&options.partner), literal(&options.purpose));
    let now = crate::now();
    let row = |(permit, _): &(&PrivacyDirective<'_>, &Row)| {
        format!(
            "({site}, {partner}, {purpose}, '{}', {}, {}, [{}], fromUnixTimestamp64Milli({now}, 'UTC'))",
            permit.directive_id,
            literal(&permit.subject),
            literal(&permit.key_name),
            fields.join(", "),
        )
    };
    let rows: Vec<String> = permitted.iter().map(row).collect();
    let statement = format!(
        "INSERT INTO {{database}}.privacy_shares \
         (site, partner, purpose, directive_id, subject, key_name, fields, shared_at) VALUES {}",
        rows.join(", ")
    );
    database.execute("noting what is given", &statement).await
}

fn write(file: File, options: &ShareOptions, permitted: &[(&PrivacyDirective<'_>, &Row)]) -> Result<(), PrivacyError> {
    let failed = |cause| PrivacyError::Write { path: options.output.clone(), cause };
    let mut table = csv::Writer::from_writer(file);
    let fields = options.fields.iter().map(String::as_str);
    table.write_record(["id"].into_iter().chain(fields.clone())).map_err(|error| failed(error.into()))?;
    for (permit, row) in permitted {
        let id = permit.directive_id.to_string();
        let values = fields.clone().map(|field| harmless(text(row, field)));
        table.write_record([id].into_iter().chain(values)).map_err(|error| failed(error.into()))?;
    }
    table.flush().map_err(failed)
}

/// What ends a field where a spreadsheet is set so, which differs from country to country, and does not heed quotes then.
const SEPARATORS: [char; 5] = [';', ',', '\t', '\n', '\r'];

/// A field that a person filled in must be no formula to the partner's spreadsheet, nor any part of it that may pass for a field. A
/// telephone number stays as it is.
fn harmless(value: &str) -> String {
    let harmless = |part: &str| if is_formula(part) { format!("'{part}") } else { part.to_owned() };
    value.split_inclusive(SEPARATORS).map(harmless).collect()
}

fn is_formula(part: &str) -> bool {
    let is_number = |text: &str| text.chars().all(|each| each.is_ascii_digit() || "+-() /.".contains(each));
    let is_signed = part.starts_with(['+', '-']) && !is_number(part.trim_end_matches(SEPARATORS));
    is_signed || part.starts_with(['=', '@', '\t', '\r'])
}

/// Lists who was given to a partner and does not permit it any more, by the ids under which they were given.
///
/// # Errors
/// Where something does not answer.
pub async fn notices(options: NoticesOptions) -> Result<String, PrivacyError> {
    let database = Database::new(&options.clickhouse);
    let register = open(&options.kafka).await?;
    let query = format!(
        "SELECT purpose, toString(directive_id) AS id, subject, toString(max(shared_at)) AS shared \
         FROM {{database}}.privacy_shares WHERE {} AND {} GROUP BY purpose, id, subject ORDER BY purpose, id",
        is_in("site", [options.site.as_str()].into_iter()),
        is_in("partner", [options.partner.as_str()].into_iter()),
    );
    let rows = database.rows("asking what was given", &query).await?;
    let mut lines = vec!["id,purpose,reason,since,shared".to_owned()];
    let mut of_purposes: BTreeMap<&str, Permissions<'_>> = BTreeMap::new();
    for row in &rows {
        let purpose = text(row, "purpose");
        let permissions = of_purposes
            .entry(purpose)
            .or_insert_with(|| Permissions::of(&register, &options.site, &options.partner, purpose));
        let id = text(row, "id");
        let given_at = id.parse().map(issued_at).unwrap_or_default();
        if let Some(End { why, at }) = permissions.end(SubjectKind::Email, text(row, "subject"), given_at) {
            let shared = text(row, "shared");
            lines.push(format!("{id},{purpose:?},{},{},{shared} UTC", why.as_str(), readable(at)));
        }
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("new {}\nold {}\n", "ab".repeat(32), "cd".repeat(32))).unwrap();
        Keys::open(file.path()).unwrap()
    }

    fn ada() -> Identifier {
        Identifier::new(SubjectKind::Email, "ada@steel.example").unwrap()
    }

    fn said(key: &str, action: PrivacyAction, purpose: &'static str, at: i64) -> PrivacyDirective<'static> {
        let keys = keys();
        let key = keys.get(key).unwrap();
        let subject = (SubjectKind::Email, key.name(), ada().hash(key, "shop"));
        PrivacyDirective {
            partner: "acme".into(),
            purpose: purpose.into(),
            issued_at: at,
            ..directive(Uuid::from_u128(1), "shop", subject, action, "olga")
        }
    }

    fn is_in_force(said: Vec<PrivacyDirective<'static>>) -> bool {
        let register = Register::of(said);
        Permissions::of(&register, "shop", "acme", "fair").in_force(&keys(), "shop", &[ada()]).is_some()
    }

    #[test]
    fn a_permission_holds_for_its_purpose_until_something_newer_ends_it() {
        use PrivacyAction::{Erase, Object, Permit, Withdraw};
        let permit = || said("new", Permit, "fair", 10);
        assert!(is_in_force(vec![permit()]));
        assert!(!is_in_force(vec![said("new", Permit, "letters", 10)]));
        assert!(is_in_force(vec![permit(), said("new", Withdraw, "fair", 9)]));
        assert!(is_in_force(vec![permit(), said("new", Withdraw, "letters", 11)]));
        assert!(!is_in_force(vec![permit(), said("new", Withdraw, "fair", 11)]));
        assert!(!is_in_force(vec![permit(), said("new", Erase, "", 11)]));
        assert!(is_in_force(vec![permit(), said("new", Erase, "", 9)]));
        assert!(!is_in_force(vec![permit(), said("new", Object, "", 9)]));
    }

    #[test]
    fn no_field_is_a_formula() {
        assert_eq!(harmless("=HYPERLINK(\"x\")"), "'=HYPERLINK(\"x\")");
        assert_eq!(harmless("+1+cmd|x"), "'+1+cmd|x");
        assert_eq!(harmless("+49 (30) 4711"), "+49 (30) 4711");
        assert_eq!(harmless("Ada - Dr."), "Ada - Dr.");
        // In many countries it is the semicolon that ends a field.
        assert_eq!(harmless("Ada;=cmd|'/C calc'!A0"), "Ada;'=cmd|'/C calc'!A0");
        assert_eq!(harmless("\t@x\n-y"), "'\t'@x\n'-y");
        assert_eq!(harmless("+49 30 4711,+49 30 4712; x"), "+49 30 4711,+49 30 4712; x");
    }

    #[test]
    fn a_permission_from_before_a_new_key_is_found_and_ended_under_the_key_it_was_given_under() {
        let permit = said("old", PrivacyAction::Permit, "fair", 10);
        assert!(is_in_force(vec![permit.clone()]));
        let register = Register::of([permit.clone()]);
        let keys = keys();
        let names: Vec<&str> = register.hashes(&keys, "shop", &ada()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["new", "old"]);
        let register = Register::of([permit, said("old", PrivacyAction::Withdraw, "fair", 12)]);
        let permissions = Permissions::of(&register, "shop", "acme", "fair");
        let hash = ada().hash(keys.get("old").unwrap(), "shop");
        assert_eq!(permissions.end(SubjectKind::Email, &hash, 10).map(|end| end.at), Some(12));
        assert_eq!(permissions.end(SubjectKind::Email, &hash, 13), None);
    }
}
