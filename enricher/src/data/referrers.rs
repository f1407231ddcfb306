//! Known referrers: search engines, networks, mailers, assistants, advertising networks.
//!
//! The file is JSON in the layout of Snowplow's referer-parser database:
//! `{medium: {source: {"domains": ["host", "host/path", ...], "parameters": ["q", ...]}}}`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use schemas::{SourceKind, Text};
use serde::Deserialize;

use super::{DataError, LONGEST_HOST, Source};

const FILE: Source = Source { what: "a database of referrers", option: "--referrers" };

/// Paths of the database are not deeper than this.
const DEEPEST_PATH: usize = 4;

/// A known referrer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Its class.
    pub kind: SourceKind,
    /// Its name.
    pub name: Text<'static>,
    /// Parameters that hold a search term, in the order in which they are tried.
    pub parameters: Vec<String>,
}

/// All known referrers by host, or host and path.
#[derive(Debug, Clone, Default)]
pub struct Referrers {
    by_address: HashMap<Box<str>, Arc<Referrer>>,
    /// Hosts that stand in the database with a path.
    with_path: std::collections::HashSet<Box<str>>,
}

#[derive(Deserialize)]
struct Entry {
    domains: Vec<String>,
    #[serde(default)]
    parameters: Vec<String>,
}

impl Referrers {
    /// Reads the database from a file.
    ///
    /// # Errors
    /// Where the file can't be read or is no such database.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let bytes = FILE.read(path)?;
        let text = String::from_utf8(bytes).map_err(|error| FILE.wrong(path, error))?;
        Self::parse(&text).map_err(|error| FILE.wrong(path, error))
    }

    /// Reads the database from JSON.
    ///
    /// # Errors
    /// Where it is no such database; the message names line and column.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        let media: HashMap<String, HashMap<String, Entry>> = serde_json::from_str(json)?;
        let mut referrers = Self::default();
        // A host may stand under several media; which one counts must not depend on the order in a hash map.
        let mut media: Vec<_> = media.into_iter().collect();
        media.sort_by_key(|(medium, _)| (rank(medium), medium.clone()));
        for (medium, sources) in media {
            let mut sources: Vec<_> = sources.into_iter().collect();
            sources.sort_by(|(one, _), (other, _)| one.cmp(other));
            for (name, entry) in sources {
                referrers.add(kind_of(&medium), name, entry);
            }
        }
        Ok(referrers)
    }

    fn add(&mut self, kind: SourceKind, name: String, entry: Entry) {
        let referrer = Arc::new(Referrer { kind, name: Text::Owned(name), parameters: entry.parameters });
        for domain in entry.domains {
            let address = domain.trim_end_matches('/').to_lowercase();
            if let Some((host, _)) = address.split_once('/') {
                self.with_path.insert(host.into());
            }
            self.by_address.entry(address.into()).or_insert_with(|| Arc::clone(&referrer));
        }
    }

    /// How many hosts and paths are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// True where none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// The referrer with a host, in lower case, and a path: by host and path, by host, or by a domain above the host.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<&Referrer> {
        if host.len() > LONGEST_HOST {
            return None;
        }
        let mut name = host;
        loop {
            if let Some(found) = self.at(name, path) {
                let below = &host[..host.len() - name.len()];
                return (found.kind != SourceKind::Search || is_same_engine(below)).then_some(found);
            }
            name = name.split_once('.')?.1;
        }
    }

    fn at(&self, host: &str, path: &str) -> Option<&Referrer> {
        if self.with_path.contains(host) {
            let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
            let ends: Vec<usize> = ends.take(DEEPEST_PATH).collect();
            let by_path = ends
                .iter()
                .rev()
                .find_map(|end| self.by_address.get(format!("{host}{}", &path[..*end]).trim_end_matches('/')));
            if let Some(found) = by_path {
                return Some(found);
            }
        }
        self.by_address.get(host).map(AsRef::as_ref)
    }
}

/// Whether a host that is `below` (such as `de.m.`) a search engine's is the search engine too. Engines have much below
/// their domain that searches nothing: docs.google.com sent nobody by a search result.
fn is_same_engine(below: &str) -> bool {
    let labels = below.split('.').filter(|label| !label.is_empty());
    labels.into_iter().all(|label| label.len() == 2 || matches!(label, "www" | "search" | "m" | "mobile"))
}

fn kind_of(medium: &str) -> SourceKind {
    match medium {
        "search" => SourceKind::Search,
        "social" => SourceKind::Social,
        "email" => SourceKind::Mail,
        "chatbot" => SourceKind::Assistant,
        "paid" => SourceKind::Campaign,
        // Known, but of no class of its own.
        _ => SourceKind::Referral,
    }
}

/// The medium that tells most comes first.
fn rank(medium: &str) -> usize {
    let order = ["chatbot", "email", "social", "search", "paid", "referral"];
    order.iter().position(|known| *known == medium).unwrap_or(order.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "search": {
            "Google": {"domains": ["google.de", "www.google.de"], "parameters": ["q"]},
            "Google Images": {"domains": ["google.de/imgres"], "parameters": ["q"]},
            "Bing Images": {"domains": ["bing.com/images/search"], "parameters": ["q"]},
            "Apollo": {"domains": ["apollo.lv/portal/search/"], "parameters": ["q"]}
        },
        "social": {"LinkedIn": {"domains": ["linkedin.com"], "parameters": []}}
    }"#;

    fn name(host: &str, path: &str) -> Option<String> {
        Referrers::parse(JSON).unwrap().find(host, path).map(|found| found.name.to_string())
    }

    #[test]
    fn a_path_is_more_than_a_host_and_a_host_more_than_its_domain() {
        for (host, path, expected) in [
            ("google.de", "/search", Some("Google")),
            ("google.de", "/imgres", Some("Google Images")),
            ("google.de", "/imgres/more/and/more/and/more", Some("Google Images")),
            ("google.de", "/imgresult", Some("Google")),
            ("bing.com", "/images/search", Some("Bing Images")),
            ("bing.com", "/images", None),
            ("apollo.lv", "/portal/search/x", Some("Apollo")),
            ("at.linkedin.com", "/feed", Some("LinkedIn")),
            ("notlinkedin.com", "/", None),
            ("com", "/", None),
            ("", "", None),
        ] {
            assert_eq!(name(host, path).as_deref(), expected, "{host}{path}");
        }
    }

    #[test]
    fn not_everything_below_a_search_engine_searches() {
        assert_eq!(name("m.google.de", "/").as_deref(), Some("Google"));
        assert_eq!(name("docs.google.de", "/"), None);
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_line() {
        assert!(Referrers::parse("{\n\"search\": 1}").unwrap_err().to_string().contains("line 2"));
    }

    /// Looked up by each of its ends, a host of 16,000 labels costs a second.
    #[test]
    fn what_is_longer_than_a_host_can_be_is_none() {
        let referrers = Referrers::parse(JSON).unwrap();
        let below = |length: usize| format!("{}google.de", "de.".repeat(length));
        assert!(referrers.find(&below(81), "/").is_some());
        assert_eq!(referrers.find(&below(82), "/"), None);
    }
}
