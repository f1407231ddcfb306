//! Serves the JavaScript tag, which is embedded in the binary, and the settings that it asks for.

use std::io::Write;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use service::sites::{ConsentPolicy, SignalPolicy, Site};
use sha2::{Digest, Sha256};

/// The tag as it is built from `tag/src`.
pub const SCRIPT: &str = include_str!("../tag/dist/t.js");

/// The tag for those who take gzip, prepared once. Empty where that fails, and then not sent.
pub static COMPRESSED: LazyLock<Bytes> = LazyLock::new(|| {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(SCRIPT.as_bytes());
    written.and_then(|()| encoder.finish()).unwrap_or_default().into()
});

/// Name of this version of the tag (RFC 9110, 8.8.3), another for its compressed form.
#[must_use]
pub fn etag(compressed: bool) -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| hex::encode(Sha256::digest(SCRIPT))[..16].to_owned());
    static PLAIN: LazyLock<String> = LazyLock::new(|| format!("\"{}\"", *HASH));
    static GZIP: LazyLock<String> = LazyLock::new(|| format!("\"{}-gzip\"", *HASH));
    if compressed { &GZIP } else { &PLAIN }
}

/// True where an Accept-Encoding header takes gzip (RFC 9110, 12.5.3).
#[must_use]
pub fn takes_gzip(accept_encoding: &str) -> bool {
    let weight = |name: &str| {
        let coding = |item: &str| {
            let mut parts = item.split(';').map(str::trim);
            let named = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case(name));
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            named.then(|| weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)))
        };
        accept_encoding.split(',').find_map(coding)
    };
    weight("gzip").or_else(|| weight("x-gzip")).or_else(|| weight("*")).unwrap_or(false)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for taken in ["gzip", "br, GZIP;q=0.5", "deflate, gzip;q=1.0, *;q=0", "x-gzip", "*"] {
            assert!(takes_gzip(taken), "{taken}");
        }
        for refused in ["", "identity", "br", "gzip;q=0", "*, gzip;q=0", "*;q=0.0", "gzip;q=nonsense"] {
            assert!(!takes_gzip(refused), "{refused}");
        }
    }
}
