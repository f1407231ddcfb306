//! The sites that hits may come from, from one TOML file.
//!
//! ```toml
//! [sites.demo]
//! origins = ["https://www.example.com"]
//! ```
//!
//! [`SitesFile`] reads it when it starts, and again whenever the file changes. A file that is wrong changes nothing:
//! the sites stay as they were, and the log says which line is wrong and why.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use schemas::IpPolicy;
use serde::{Deserialize, Deserializer};
use tokio_util::sync::CancellationToken;

use crate::stamp::{Stamp, stamp};

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);

/// What a site does with hits under an objection: `Sec-GPC`, `DNT`, the opt-out cookie, or missing consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalPolicy {
    /// Counts them without identifiers.
    #[default]
    Anonymous,
    /// Drops them.
    Drop,
}

/// Whether a site needs a person's consent before it may recognise them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentPolicy {
    /// It needs none.
    #[default]
    NotRequired,
    /// Without it a hit is treated as one under an objection.
    Required,
}

/// Settings of one site.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// Region whose collectors may take its hits; any collector where absent.
    pub region: Option<String>,
    /// Origins whose scripts may send hits, such as `https://www.example.com`.
    pub origins: Vec<String>,
    /// Domain of the cookies; the collector's own host where absent.
    pub cookie_domain: Option<String>,
    /// What an objection means.
    pub signals: SignalPolicy,
    /// Whether consent is needed.
    pub consent: ConsentPolicy,
    /// What is kept of an address after enriching.
    #[serde(deserialize_with = "ip_policy")]
    pub ip: IpPolicy,
    /// Sets no cookies and recognises visitors by a hash that is forgotten after the day.
    pub cookieless: bool,
    /// Minutes without a hit after which a session has ended.
    pub session_minutes: u32,
    /// Months that tables may keep what they hold on people; the sink checks it where it has this file.
    pub retention_months: u16,
    /// Endings of links that are downloads.
    pub download_extensions: Vec<String>,
    /// Hosts that are the site's own, besides that of the page.
    pub internal_hosts: Vec<String>,
    /// Query parameters that hold a site-search term.
    pub search_parameters: Vec<String>,
}

impl Default for Site {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            region: None,
            origins: Vec::new(),
            cookie_domain: None,
            signals: SignalPolicy::default(),
            consent: ConsentPolicy::default(),
            ip: IpPolicy::Truncated,
            cookieless: false,
            session_minutes: 30,
            retention_months: 25,
            download_extensions: owned(&[
                "pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "csv", "zip", "gz", "tgz", "7z", "rar", "exe",
                "msi", "dmg", "mp3", "mp4", "mov", "epub",
            ]),
            internal_hosts: Vec::new(),
            search_parameters: owned(&["q", "s", "search", "query"]),
        }
    }
}

fn ip_policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpPolicy, D::Error> {
    let text = String::deserialize(deserializer)?;
    IpPolicy::from_symbol(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("ip is {text:?}, must be \"full\", \"truncated\" or \"none\"")))
}

/// All sites, by key.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sites {
    sites: HashMap<String, Arc<Site>>,
}

/// Why a file of sites is refused.
#[derive(Debug, thiserror::Error)]
pub enum SitesError {
    /// It can't be read.
    #[error("cannot read the sites file {}: {cause}; give its path with --sites", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the sites file {} is wrong: {reason}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Line, and what is wrong with it.
        reason: String,
    },
}

impl Sites {
    /// Reads sites from TOML.
    ///
    /// # Errors
    /// Says which line is wrong, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let sites: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for (key, site) in &sites.sites {
            site.check(key).map_err(|reason| {
                let header = format!("[sites.{key}]");
                let line = text.lines().position(|line| line.trim() == header).map_or(0, |index| index + 1);
                format!("line {line}, {header}: {reason}")
            })?;
        }
        Ok(sites)
    }

    /// The site with a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<Site>> {
        self.sites.get(key)
    }

    /// Keys and sites, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Site>)> {
        self.sites.iter().map(|(key, site)| (key.as_str(), site))
    }
}

impl Site {
    fn check(&self, key: &str) -> Result<(), String> {
        let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if key.is_empty() || key.len() > 64 || !key.chars().all(allowed) {
            return Err("a site's key has 1 to 64 letters, digits, '-', '_' or '.'".to_owned());
        }
        if !(1..=24 * 60).contains(&self.session_minutes) {
            return Err(format!("session_minutes is {}, must be 1 to 1440", self.session_minutes));
        }
        if !(1..=1200).contains(&self.retention_months) {
            return Err(format!("retention_months is {}, must be 1 to 1200", self.retention_months));
        }
        for origin in &self.origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if !host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', '?', '#', '@'])) {
                return Err(format!("origin {origin:?} is not of the form https://host or https://host:port"));
            }
        }
        if let Some(region) = self.region.as_ref().filter(|region| region.is_empty()) {
            return Err(format!("region {region:?} names none; leave it out where any collector may take the hits"));
        }
        let domain = |character: char| character.is_ascii_alphanumeric() || "-.".contains(character);
        match &self.cookie_domain {
            Some(name) if name.is_empty() || !name.chars().all(domain) => {
                Err(format!("cookie_domain {name:?} is not a domain"))
            }
            _ => Ok(()),
        }
    }

    /// True for a collector of this region, or of none, that may take the site's hits.
    #[must_use]
    pub fn belongs_to(&self, region: Option<&str>) -> bool {
        self.region.is_none() || self.region.as_deref() == region
    }

    /// True for an origin, as in the `Origin` header, whose scripts may send hits.
    #[must_use]
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// The sites as the file has them now.
#[derive(Debug)]
pub struct SitesFile {
    path: PathBuf,
    /// Of the file before it was read first: what is changed while a service starts is seen.
    opened: Stamp,
    current: ArcSwap<Sites>,
}

impl SitesFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Where it can't be read or is wrong.
    pub fn open(path: &Path) -> Result<Arc<Self>, SitesError> {
        let opened = stamp(path);
        let sites = read(path)?;
        Ok(Arc::new(Self { path: path.to_owned(), opened, current: ArcSwap::from_pointee(sites) }))
    }

    /// The sites now.
    #[must_use]
    pub fn current(&self) -> arc_swap::Guard<Arc<Sites>> {
        self.current.load()
    }

    /// Reads the file again whenever it changes, until `shutdown`. Tells `changed` of each attempt: whether it
    /// succeeded.
    pub fn watch(self: &Arc<Self>, shutdown: CancellationToken, changed: impl Fn(bool) + Send + 'static) {
        let file = Arc::clone(self);
        let mut seen = file.opened;
        let look = async move {
            loop {
                tokio::time::sleep(POLL).await;
                let now = stamp(&file.path);
                if now != seen {
                    seen = now;
                    changed(file.reload());
                }
            }
        };
        tokio::spawn(shutdown.run_until_cancelled_owned(look));
    }

    fn reload(&self) -> bool {
        match read(&self.path) {
            Ok(sites) => {
                tracing::info!(sites = sites.sites.len(), "sites file read again");
                self.current.store(Arc::new(sites));
                true
            }
            Err(error) => {
                tracing::error!(%error, "keeping the sites as they were");
                false
            }
        }
    }
}

fn read(path: &Path) -> Result<Sites, SitesError> {
    let text = std::fs::read_to_string(path).map_err(|cause| SitesError::Read { path: path.to_owned(), cause })?;
    Sites::parse(&text).map_err(|reason| SitesError::Wrong { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_needs_only_its_key() {
        let sites = Sites::parse("[sites.demo]\n").unwrap();
        let site = sites.get("demo").unwrap();
        assert_eq!((site.session_minutes, site.ip, site.cookieless), (30, IpPolicy::Truncated, false));
        assert!(sites.get("other").is_none());
    }

    #[test]
    fn everything_can_be_set() {
        let text = r#"
            [sites.shop]
            origins = ["https://shop.example.com"]
            cookie_domain = "example.com"
            signals = "drop"
            consent = "required"
            ip = "none"
            cookieless = true
            session_minutes = 10
            retention_months = 6
            download_extensions = ["pdf"]
            internal_hosts = ["help.example.com"]
            search_parameters = ["find"]
        "#;
        let sites = Sites::parse(text).unwrap();
        let site = sites.get("shop").unwrap();
        assert_eq!(
            (site.signals, site.consent, site.ip),
            (SignalPolicy::Drop, ConsentPolicy::Required, IpPolicy::None)
        );
        assert_eq!(site.retention_months, 6);
        assert!(site.allows_origin("https://SHOP.example.com") && !site.allows_origin("https://example.com"));
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line_and_the_reason() {
        for (text, expected) in [
            ("[sites.a]\ncookiless = true\n", "line 2"),
            ("[sites.a]\n\n[sites.b]\nsession_minutes = 0\n", "line 3, [sites.b]: session_minutes is 0"),
            ("[sites.a]\nretention_months = 0\n", "line 1, [sites.a]: retention_months is 0"),
            ("[sites.a]\nip = \"half\"\n", "must be \"full\""),
            ("[sites.a]\norigins = [\"*\"]\n", "origin \"*\""),
            ("[sites.a]\ncookie_domain = \"a b\"\n", "cookie_domain \"a b\""),
            ("[sites.\"a/b\"]\n", "a site's key"),
        ] {
            let error = Sites::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        for _ in 0..200 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not within 10 s: {what}");
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sites.toml");
        std::fs::write(&path, "[sites.a]\n").unwrap();
        let file = SitesFile::open(&path).unwrap();
        let (shutdown, (tell, told)) = (CancellationToken::new(), std::sync::mpsc::channel());
        // While the service still starts.
        std::fs::write(&path, "[sites.a]\n[sites.b]\n").unwrap();
        file.watch(shutdown.clone(), move |succeeded| tell.send(succeeded).unwrap());
        until("the change from before is noticed", || told.try_recv() == Ok(true)).await;
        assert!(file.current().get("b").is_some());

        std::fs::write(&path, "[sites.b]\nnonsense = 1\n").unwrap();
        until("the wrong file is noticed", || told.try_recv() == Ok(false)).await;
        assert!(file.current().get("a").is_some());

        std::fs::write(&path, "[sites.b]\n[sites.c]\n").unwrap();
        until("the right file is read", || file.current().get("c").is_some()).await;
        assert!(file.current().get("a").is_none());
        shutdown.cancel();
    }
}
