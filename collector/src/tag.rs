//! Serves the JavaScript tag, which is embedded in the binary, and the settings that it asks for.

use std::sync::LazyLock;

use serde::Serialize;
use service::sites::{ConsentPolicy, SignalPolicy, Site};
use sha2::{Digest, Sha256};

/// The tag as it is built from `tag/src`.
pub const SCRIPT: &str = include_str!("../tag/dist/t.js");

/// Names this version of the tag (RFC 9110, 8.8.3).
pub static ETAG: LazyLock<String> = LazyLock::new(|| format!("\"{}\"", &hex::encode(Sha256::digest(SCRIPT))[..16]));

/// What the tag has to know of its site.
#[derive(Debug, Serialize)]
pub struct TagSettings<'a> {
    site: &'a str,
    consent: &'static str,
    signals: &'static str,
    cookieless: bool,
    session_minutes: u32,
    cookie_domain: Option<&'a str>,
    download_extensions: &'a [String],
    internal_hosts: &'a [String],
    search_parameters: &'a [String],
}

impl<'a> TagSettings<'a> {
    /// The settings of a site.
    #[must_use]
    pub fn of(key: &'a str, site: &'a Site) -> Self {
        Self {
            site: key,
            consent: match site.consent {
                ConsentPolicy::Required => "required",
                ConsentPolicy::NotRequired => "not_required",
            },
            signals: match site.signals {
                SignalPolicy::Anonymous => "anonymous",
                SignalPolicy::Drop => "drop",
            },
            cookieless: site.cookieless,
            session_minutes: site.session_minutes,
            cookie_domain: site.cookie_domain.as_deref(),
            download_extensions: &site.download_extensions,
            internal_hosts: &site.internal_hosts,
            search_parameters: &site.search_parameters,
        }
    }
}
