//! Reading addresses as a browser does (WHATWG URL Standard), since browsers wrote them.
//!
//! Most addresses are already as the standard would write them. Those are taken apart where they stand; only the others
//! are parsed, and copied by that. A property test holds that both ways say the same.

use std::borrow::Cow;

use schemas::Text;
use url::Url;

use crate::data::LONGEST_HOST;

/// Longer than any host, in whatever letters, with a user's name before it, bytes. To bring a host into its ASCII form takes
/// time that grows with the square of its labels' lengths.
const LONGEST_AUTHORITY: usize = 2_048;

/// The parts of an address that tell something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Address<'a> {
    /// In lower case, without port; empty where the address has none. International names are in their ASCII form.
    pub host: Text<'a>,
    pub path: Text<'a>,
    pub query: Text<'a>,
}

/// Reads an address, borrowing from it where it is borrowed itself.
pub(super) fn read_text<'a>(text: &Text<'a>) -> Option<Address<'a>> {
    match text {
        Cow::Borrowed(text) => read(text),
        Cow::Owned(text) => parse(text),
    }
}

/// Reads an address. `//host/path`, as some scripts report pages, is taken as https.
pub(super) fn read(text: &str) -> Option<Address<'_>> {
    split(text).or_else(|| parse(text))
}

fn parse(text: &str) -> Option<Address<'static>> {
    let text = text.trim();
    let text = if text.starts_with("//") { Cow::Owned(format!("https:{text}")) } else { Cow::Borrowed(text) };
    let text = without_breaks(text);
    if authority(&text).len() > LONGEST_AUTHORITY {
        return None;
    }
    let address = Url::parse(&text).ok()?;
    // The standard lower-cases hosts of the web, but not of other schemes, such as android-app.
    let host = address.host_str().unwrap_or_default().to_ascii_lowercase();
    (host.len() <= LONGEST_HOST).then(|| Address {
        host: Cow::Owned(host),
        path: Cow::Owned(address.path().to_owned()),
        query: Cow::Owned(address.query().unwrap_or_default().to_owned()),
    })
}

/// The standard passes over tabs and line breaks, wherever they stand.
fn without_breaks(text: Cow<'_, str>) -> Cow<'_, str> {
    const BREAKS: [char; 3] = ['\t', '\n', '\r'];
    if text.contains(BREAKS) { Cow::Owned(text.replace(BREAKS, "")) } else { text }
}

/// Host and port, and what stands before them.
fn authority(address: &str) -> &str {
    let rest = address.split_once(':').map_or(address, |(_, rest)| rest).trim_start_matches(['/', '\\']);
    rest.split(['/', '\\', '?', '#']).next().unwrap_or_default()
}

/// Takes apart an address that the standard leaves as it is; nothing where that is not sure.
fn split(text: &str) -> Option<Address<'_>> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // The fragment is checked too: blanks at the end of an address belong to nobody.
    let is_plain = is_plain_host(host) && is_plain_path(path) && query.bytes().all(is_plain_in_query);
    let path = if path.is_empty() { "/" } else { path };
    (is_plain && text.is_ascii()).then_some(Address { host: host.into(), path: path.into(), query: query.into() })
}

/// Names that are no numbers, which may be addresses, and not written in the ASCII form of others, which may be wrong.
fn is_plain_host(host: &str) -> bool {
    let is_name = |label: &str| label.starts_with(|first: char| first.is_ascii_lowercase());
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    host.len() <= LONGEST_HOST
        && host.bytes().all(is_plain)
        && host.rsplit('.').next().is_some_and(is_name)
        && !host.contains("xn--")
}

/// No dots before which a slash stands, as which `%2e` counts too: the standard resolves them.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~' | b'+');
    path.bytes().all(is_plain) && !path.contains("/.")
}

fn is_plain_in_query(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'=' | b'&' | b'-' | b'_' | b'.' | b'~' | b'+' | b'%' | b'/' | b':' | b',')
}

/// A host that somebody wrote, as addresses have it: in lower case, and international names in their ASCII form.
pub(super) fn as_in_addresses(host: &str) -> Text<'_> {
    if is_plain_host(host) {
        return Cow::Borrowed(host);
    }
    parse(&format!("https://{host}")).map_or(Cow::Borrowed(host), |address| address.host)
}

/// True where two hosts are one website: with and without `www.` is the same.
pub(super) fn same_site(one: &str, other: &str) -> bool {
    fn bare(host: &str) -> &str {
        host.strip_prefix("www.").unwrap_or(host)
    }
    bare(one).eq_ignore_ascii_case(bare(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::processor_time::ticks;

    fn assert_same(text: &str) {
        if let Some(address) = split(text) {
            assert_eq!(Some(address), parse(text), "{text:?}");
        }
    }

    #[test]
    fn what_browsers_send_is_taken_apart_where_it_stands() {
        for text in
            ["https://www.example.com/products/pumps/7?page=2&x=a%20b#top", "http://example.com", "https://a.de/?"]
        {
            assert!(matches!(read(text), Some(Address { host: Cow::Borrowed(_), .. })), "{text}");
            assert_same(text);
        }
    }

    #[test]
    fn what_is_longer_than_a_host_can_be_is_no_address() {
        for (end, is_one) in [("m", true), ("me", false)] {
            let host = format!("{}{end}", "a.".repeat(126));
            for start in ["https://", "https://B@", "//", "app://"] {
                assert_eq!(read(&format!("{start}{host}/page")).is_some(), is_one, "{start} {end}");
            }
        }
    }

    /// In one request a client may send hundreds of them. Held against what bringing it into its ASCII form takes on the
    /// same machine.
    #[test]
    fn an_endless_host_takes_a_fraction_of_parsing_it() {
        const STARTS: [&str; 5] = ["https://", "https:\\", "//", "https:/\t/", "https://user@"];
        let unlike: String = ('\u{4e00}'..).take(990).collect();
        let host = format!("{unlike}.").repeat(21);
        let before = ticks();
        for _ in 0..6 {
            assert!(STARTS.iter().all(|start| read(&format!("{start}{host}com/")).is_none()));
        }
        let reading = ticks() - before;
        for _ in 0..6 * STARTS.len() {
            Url::parse(&format!("https://{host}com/")).unwrap();
        }
        let parsing = ticks() - before - reading;
        // One start of the five that is parsed would take a fifth, and reading takes a twentieth.
        assert!(6 * reading <= parsing, "{reading} and {parsing} hundredths of a second");
    }

    #[test]
    fn what_stands_before_a_host_may_be_long_and_breaks_count_for_nothing() {
        let user = "u".repeat(1_500);
        for address in [format!("https://{user}@example.com/"), "ht\ntps:/\t/exam\rple.com/".to_owned()] {
            assert_eq!(read(&address).unwrap().host, "example.com");
        }
        let path = "p".repeat(60_000);
        assert_eq!(read(&format!("https://example.com/{path}#")).unwrap().path.len(), 60_001);
        assert_eq!(read(&format!("https://example.com?ä{path}")).unwrap().host, "example.com");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn taking_apart_says_what_parsing_says(
            text in "https?://[a-zX0-9.:@-]{0,12}(xn--)?[a-z0-9.-]{0,5}[/.a-zA%2eE\\\\ ä-]{0,12}([?][a-z=&%'\" ä]{0,8})?(#[a-z \t]{0,4})?"
        ) {
            assert_same(&text);
        }
    }
}
