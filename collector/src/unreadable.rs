//! What was meant as a hit and can't be read: the policy decides about it before anything is stored, as about a hit.
//!
//! Site and consent are looked for leniently, since what they stand in is broken. For a site that is not known, or must
//! not send here, nothing is published. Under an objection the dead letter says that there was something, and nothing of
//! what it was. Where no site can be told, the original is kept only if every site would permit that.

use std::collections::HashSet;

use schemas::{DeadLetter, Signal, Stage};
use serde::Deserialize;
use serde_json::Value;
use service::sites::{ConsentPolicy, Site, Sites};
use uuid::Uuid;

use crate::assemble;
use crate::client::Client;
use crate::fields::{self, Permission};
use crate::objections::{Held, Objects};
use crate::outcome::Outcome;
use crate::policy::{self, Decision};
use crate::publisher::Messages;
use crate::routes::Collector;

/// Of what can't be read, so much is kept, bytes.
const LARGEST_ORIGINAL: usize = 65_536;

/// Something that can't be read.
#[derive(Debug, Clone, Copy)]
pub struct Unreadable<'a> {
    /// The raw bytes.
    pub original: &'a [u8],
    /// What is wrong, without anything of what was sent.
    pub detail: &'a str,
    /// What can be told of it all the same.
    pub told: &'a Told,
    /// What was looked for of the same request before.
    pub held: &'a Held,
}

/// What can be told of something that can't be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Keys of the sites that it names, each once.
    pub sites: Vec<String>,
    /// What it says about the consent to being measured.
    pub measurement: Option<bool>,
    /// All its values, each of which may name a person; none where they can't be told.
    pub values: Option<Vec<String>>,
}

impl Told {
    /// Of a query string.
    #[must_use]
    pub fn by_query(query: &str) -> Self {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let decoded = pairs.map(|(name, value)| (fields::decoded_lossy(name), fields::decoded_lossy(value)));
        let mut told = Self::default();
        let mut values = Vec::new();
        for (name, value) in decoded {
            match name.as_str() {
                "site" => told.sites = vec![value.clone()],
                "consent.measurement" => told.measurement = Permission::of(&value).permits(),
                _ => {}
            }
            values.push(value);
        }
        told.sites.retain(|site| !site.is_empty());
        Self { values: Some(values), ..told }
    }

    /// Of one JSON value, or of what is none.
    #[must_use]
    pub fn by_json(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        match serde_json::from_slice::<Value>(bytes) {
            Ok(hit) => Self {
                sites: hit["site"].as_str().map(str::to_owned).into_iter().collect(),
                // What stands elsewhere than it should is no consent, but may be a refusal.
                measurement: measurement(&hit["consent"]).or_else(|| refusal(&text)),
                values: Some(texts(&hit)),
            },
            Err(_) => Self::by_words(&text),
        }
    }

    /// Of text that was meant as JSON. A consent that is not a plain yes each time is taken for a no.
    fn by_words(text: &str) -> Self {
        let mut told = Self::default();
        let named = values(text, "\"site\"").filter_map(|value| value.strip_prefix('"')?.split_once('"'));
        let mut known = HashSet::new();
        told.sites.extend(named.map(|(site, _)| site).filter(|site| known.insert(*site)).map(str::to_owned));
        let is_said = values(text, "measurement").next().is_some();
        told.measurement = refusal(text).or(is_said.then_some(true));
        told
    }
}

/// What the consent of a hit says to being measured. One that tells no purposes is no plain yes.
fn measurement(consent: &Value) -> Option<bool> {
    match consent {
        Value::Null => None,
        Value::Object(purposes) => {
            let said = Permission::deserialize(purposes.get("measurement")?);
            said.unwrap_or(Permission::Unclear).permits()
        }
        _ => Some(false),
    }
}

/// A refusal to be measured anywhere in a text, whatever it is written in.
fn refusal(text: &str) -> Option<bool> {
    let tells_purposes_or_nothing = |value: &str| value.starts_with('{') || value.starts_with("null");
    let refuses = values(text, "measurement").any(|value| !value.starts_with("true"))
        || values(text, "\"consent\"").any(|value| !tells_purposes_or_nothing(value));
    refuses.then_some(false)
}

/// All texts and numbers in a value, also the names of its members.
fn texts(value: &Value) -> Vec<String> {
    let (mut texts, mut open) = (Vec::new(), vec![value]);
    while let Some(value) = open.pop() {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Number(number) => texts.push(number.to_string()),
            Value::Array(values) => open.extend(values),
            Value::Object(members) => {
                texts.extend(members.keys().cloned());
                open.extend(members.values());
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
    texts
}

/// What stands after each occurrence of a name that a value is given to, in JSON or otherwise.
fn values<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let ends_a_name = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '\\');
    text.match_indices(name).filter_map(move |(at, name)| {
        let rest = text[at + name.len()..].trim_start_matches(ends_a_name);
        rest.strip_prefix([':', '=']).map(str::trim_start)
    })
}

/// Adds the dead letter of what can't be read to what a request publishes, as far as the policy permits one.
#[must_use]
pub fn bury(
    collector: &Collector,
    client: &Client<'_>,
    origin_counts: bool,
    messages: &mut Messages,
    unreadable: Unreadable<'_>,
) -> Outcome {
    let sites = collector.sites.current();
    let may_be_kept = match permission(collector, &sites, client, origin_counts, unreadable) {
        Ok(may_be_kept) => may_be_kept,
        Err(outcome) => return outcome,
    };
    let kept = unreadable.original.len().min(LARGEST_ORIGINAL);
    let (detail, original) = match may_be_kept {
        true => (unreadable.detail, &unreadable.original[..kept]),
        false => ("the original is not kept, since the person objects or a site may not permit it", &[][..]),
    };
    let letter = DeadLetter {
        dead_letter_id: Uuid::now_v7(),
        stage: Stage::Collector,
        reason: "unreadable".into(),
        detail: detail.into(),
        dead_at: assemble::now_milliseconds(),
        site: unreadable.told.sites.first().map(String::as_str).unwrap_or_default().into(),
        original: original.into(),
        ..DeadLetter::default()
    };
    collector.publisher.add_dead_letter(messages, &letter);
    Outcome::DeadLettered
}

/// Whether the original may be kept, or what becomes of something of which there is to be no letter at all.
fn permission(
    collector: &Collector,
    sites: &Sites,
    client: &Client<'_>,
    origin_counts: bool,
    Unreadable { told, held, .. }: Unreadable<'_>,
) -> Result<bool, Outcome> {
    let origin = client.origin().filter(|_| origin_counts);
    let allowed = |site: &Site| origin.as_ref().is_none_or(|origin| site.allows_origin(origin));
    if told.sites.is_empty() {
        return if sites.iter().any(|(_, site)| allowed(site)) {
            let region = collector.options.region.as_deref();
            let by_nobody = policy::decide(&Site::default(), client, told.measurement) == Decision::Keep;
            let asks_nothing = |site: &Site| site.consent == ConsentPolicy::NotRequired && site.belongs_to(region);
            let objects = |key: &str| collector.objections.of_unreadable(key, client, told, held) != Objects::No;
            Ok(by_nobody && sites.iter().all(|(key, site)| asks_nothing(site) && !objects(key)))
        } else {
            Err(Outcome::DroppedOrigin)
        };
    }
    let mut may_be_kept = true;
    for key in &told.sites {
        let site = collector.site(sites, key)?;
        if !allowed(site) {
            return Err(Outcome::DroppedOrigin);
        }
        let objects = collector.objections.of_unreadable(key, client, told, held);
        may_be_kept &= objects == Objects::No;
        let decision = match objects {
            Objects::Yes => policy::under(site, Signal::OptOut),
            Objects::No | Objects::Perhaps => policy::decide(site, client, told.measurement),
        };
        match decision {
            Decision::Keep => {}
            Decision::Anonymous(_) => may_be_kept = false,
            Decision::Drop => return Err(Outcome::DroppedObjection),
        }
    }
    Ok(may_be_kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sites: &[&str], measurement: Option<bool>) -> Told {
        Told { sites: sites.iter().map(|site| (*site).to_owned()).collect(), measurement, values: None }
    }

    /// Without its values.
    fn without_values(told: Told) -> Told {
        Told { values: None, ..told }
    }

    #[test]
    fn each_value_may_be_a_name() {
        let values = |told: Told| told.values.unwrap();
        assert_eq!(values(Told::by_query("email=a%40x.example&title=%ff")), ["a@x.example", "\u{fffd}"]);
        let mut found = values(Told::by_json(br#"{"contact":["a@x.example",{"7":[47]}],"x":null}"#));
        found.sort();
        assert_eq!(found, ["47", "7", "a@x.example", "contact", "x"]);
        assert_eq!(Told::by_json(br#"{"email":"a@x.example""#).values, None);
    }

    #[test]
    fn the_site_and_the_consent_of_a_broken_query_are_told() {
        let query = "site=other&title=%ff&site=d%65mo&consent.measurement=0";
        assert_eq!(without_values(Told::by_query(query)), told(&["demo"], Some(false)));
        assert_eq!(without_values(Told::by_query("title=%ff&site=")), told(&[], None));
    }

    #[test]
    fn those_of_broken_json_are_told_by_its_structure_or_else_by_its_words() {
        for (json, expected) in [
            (
                r#"{"site":"demo","title":[],"properties":{"site":"x"},"consent":{"measurement":true}}"#,
                told(&["demo"], Some(true)),
            ),
            (r#"{"site":["demo"]}"#, told(&[], None)),
            ("7", told(&[], None)),
            (
                r#"[{"site":"demo"},{"site" : "two","consent":{"measurement":true}},{"site":"demo""#,
                told(&["demo", "two"], Some(true)),
            ),
            (r#"{"site":"demo","consent":{"measurement":true},{"measurement": 1"#, told(&["demo"], Some(false))),
            (r#"{"site": "de"#, told(&[], None)),
        ] {
            assert_eq!(without_values(Told::by_json(json.as_bytes())), expected, "{json}");
        }
    }

    /// Compared with each other, they would keep this test for a quarter of a minute.
    #[test]
    fn of_many_sites_each_is_told_once() {
        let body: String = (0..80_000).chain(0..10).map(|site| format!(r#""site":"{site}","#)).collect();
        assert!(body.len() > 1 << 20);
        let told = Told::by_json(body.as_bytes());
        assert_eq!((told.sites.len(), told.sites[79_999].as_str()), (80_000, "79999"));
    }
}
