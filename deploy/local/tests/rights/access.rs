//! What a person is told to be held on them, against what they did.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::ledger::{Hit, Ledger};
use crate::people::{SITES, Subject, sites_of};
use crate::traffic::REFUSED_PAGE;

/// Holds an export against the ledger. Gives what is wrong with it.
pub fn judge(folder: &Path, subject: &Subject, ledger: &Ledger) -> Vec<String> {
    let hits: Vec<&Hit> = ledger.of(subject.number).filter(|hit| hit.path != REFUSED_PAGE).collect();
    let texts = |file: &str, column: &str| column_of(folder, file, column);
    let mut findings = Vec::new();
    let mut hold = |what: &str, told: BTreeSet<String>, done: BTreeSet<String>| {
        if told != done {
            let (more, less): (Vec<_>, Vec<_>) = (told.difference(&done).collect(), done.difference(&told).collect());
            findings.push(format!(
                "access of {}: {what}: told and not done {more:?}, done and not told {less:?}",
                subject.number
            ));
        }
    };
    hold("hits", texts("hits", "hit_id"), hits.iter().map(|hit| hit.id.to_string()).collect());
    let sites = || sites_of(subject.customer).map(|site| site.key.to_owned()).collect::<BTreeSet<_>>();
    hold("sites of hits", texts("hits", "site"), sites());
    hold("sites of cards", texts("contact_cards", "site"), sites());
    hold("pages", texts("hits", "page_path"), hits.iter().map(|hit| hit.path.clone()).collect());
    hold(
        "visitors",
        texts("hits", "visitor_id"),
        subject.devices.iter().map(|device| device.visitor.clone()).collect(),
    );
    let place = |hit: &Hit| SITES.iter().position(|site| site == hit.site);
    let session = |hit: &&Hit| Some(subject.devices[hit.device?].sessions[place(hit)?].to_string());
    hold("sessions", texts("sessions", "session_id"), hits.iter().filter_map(session).collect());
    let forms = || hits.iter().filter_map(|hit| hit.form.as_ref());
    hold("addresses", texts("contact_cards", "email"), forms().map(|form| form.email.clone()).collect());
    hold("numbers", texts("contact_cards", "phone"), forms().map(|form| form.phone.clone()).collect());
    hold("names", texts("contact_cards", "name"), [subject.name.clone()].into());
    hold(
        "partner data",
        texts("partner_records", "match_value"),
        if subject.attribute.is_some() { [crate::partners::match_value(subject)].into() } else { BTreeSet::new() },
    );
    let page = std::fs::read_to_string(folder.join("index.html")).unwrap();
    if !page.contains(&subject.email) || !page.contains(&subject.name) {
        findings.push(format!("access of {}: the page tells neither address nor name", subject.number));
    }
    findings
}

/// The different values of a column, in all rows of a file; none where there is no file.
fn column_of(folder: &Path, file: &str, column: &str) -> BTreeSet<String> {
    let Ok(text) = std::fs::read_to_string(folder.join(format!("{file}.json"))) else { return BTreeSet::new() };
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    rows.iter()
        .map(|row| row[column].as_str().unwrap_or_else(|| panic!("no {column} in {file}: {row}")).to_owned())
        .collect()
}
