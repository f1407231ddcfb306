//! Reading addresses as a browser does (WHATWG URL Standard), since browsers wrote them.

use url::Url;

/// Reads an address. `//host/path`, as some scripts report pages, is taken as https.
pub(super) fn read(text: &str) -> Option<Url> {
    let text = text.trim();
    if text.starts_with("//") {
        return Url::parse(&format!("https:{text}")).ok();
    }
    Url::parse(text).ok()
}

/// The host in lower case, without port; empty where the address has none. International names are in their ASCII form.
pub(super) fn host(address: &Url) -> String {
    // The standard lower-cases hosts of the web, but not of other schemes, such as android-app.
    let mut host = address.host_str().unwrap_or_default().to_owned();
    host.make_ascii_lowercase();
    host
}

/// True where two hosts are one website: with and without `www.` is the same.
pub(super) fn same_site(one: &str, other: &str) -> bool {
    fn bare(host: &str) -> &str {
        host.strip_prefix("www.").unwrap_or(host)
    }
    bare(one).eq_ignore_ascii_case(bare(other))
}
