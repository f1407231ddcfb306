//! Who asks: the client's address and its headers.
//!
//! The address is the socket's. A forwarding header counts only when the socket belongs to a trusted proxy, and is
//! read from right to left: each trusted proxy vouches for the hop before it, and the first hop that is no trusted
//! proxy is the client. What stands further left was sent by the client and means nothing.
//!
//! Where a trusted proxy tells the client by a PROXY header, that is the hop before it: forwarding headers tell further hops only
//! where this one is a trusted proxy, too, as else the client has sent them.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::{COOKIE, FORWARDED, HeaderName, ORIGIN, REFERER, USER_AGENT};
use ipnet::IpNet;
use schemas::Map;

use crate::headers::{self, Headers};
use crate::options::ForwardingHeader;

/// The proxies that are trusted, and how they tell the client's address.
#[derive(Debug, Clone)]
pub struct Forwarding<'o> {
    /// Their networks.
    pub trusted: &'o [IpNet],
    /// The header they write.
    pub header: ForwardingHeader,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The socket's address.
    pub socket: IpAddr,
    /// The address in the PROXY header of a trusted proxy.
    pub told: Option<IpAddr>,
    /// Whether that address came to the proxy by TLS, where the PROXY header tells it.
    pub tls: Option<bool>,
}

impl From<IpAddr> for Peer {
    /// Without a PROXY header.
    fn from(socket: IpAddr) -> Self {
        Self { socket: socket.to_canonical(), told: None, tls: None }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Client<'a> {
    /// The client's address.
    pub ip: IpAddr,
    /// True where the client came by https.
    pub secure: bool,
    headers: Headers<'a>,
}

const DNT: HeaderName = HeaderName::from_static("dnt");
const SEC_GPC: HeaderName = HeaderName::from_static("sec-gpc");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const CLIENT_HINTS: &str = "sec-ch-ua";
/// Each hit of a body has these headers, so that what one of them may be long is multiplied by the hits. A user agent is
/// cut here, bytes; the enricher looks at half of it.
const LONGEST_USER_AGENT: usize = 2_048;
/// A language is cut here, bytes; hardly any tag has more than 35 (RFC 5646, section 4.4.1).
const LONGEST_LANGUAGE: usize = 64;
/// A client hint longer than this is not one.
const LONGEST_HINT: usize = 512;
/// Names and values of all client hints that are kept, bytes: what browsers send takes a fifth of it.
const MOST_HINT_BYTES: usize = 2_048;

impl<'a> Client<'a> {
    /// Reads the client from its socket and headers.
    #[must_use]
    pub fn new(peer: Peer, headers: impl Into<Headers<'a>>, forwarding: &Forwarding<'_>) -> Self {
        let headers = headers.into();
        if !forwarding.trusts(peer.socket) {
            return Self { ip: peer.socket, secure: false, headers };
        }
        let first = peer.told.unwrap_or(peer.socket);
        let is_client = !forwarding.trusts(first);
        let (ip, scheme) = forwarding.told(first, headers);
        let https = || scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        // The proxy's word, by either header. With another proxy behind it, TLS is how that one came.
        let secure = peer.tls.filter(|_| is_client).unwrap_or_else(https);
        Self { ip, secure, headers }
    }

    fn text(&self, name: &HeaderName) -> Option<Cow<'a, str>> {
        self.headers.get(name).map(String::from_utf8_lossy)
    }

    /// The User-Agent header as far as it is kept, empty where there is none.
    #[must_use]
    pub fn user_agent(&self) -> Cow<'a, str> {
        self.headers.get(&USER_AGENT).map(|value| beginning(value, LONGEST_USER_AGENT)).unwrap_or_default()
    }

    /// The Referer header, empty where there is none.
    #[must_use]
    pub fn referer(&self) -> Cow<'a, str> {
        self.text(&REFERER).unwrap_or_default()
    }

    /// The Origin header.
    #[must_use]
    pub fn origin(&self) -> Option<Cow<'a, str>> {
        self.text(&ORIGIN)
    }

    /// The first language of the Accept-Language header as far as it is kept, empty where there is none.
    #[must_use]
    pub fn language(&self) -> Cow<'a, str> {
        let all = self.headers.text(&hyper::header::ACCEPT_LANGUAGE);
        let first = all.and_then(|all| all.split([',', ';']).next()).unwrap_or_default().trim();
        if first == "*" { Cow::Borrowed("") } else { Cow::Borrowed(cut(first, LONGEST_LANGUAGE)) }
    }

    /// The host that was asked, without port.
    #[must_use]
    pub fn host(&self) -> &'a str {
        let host = self.headers.text(&hyper::header::HOST).unwrap_or_default();
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        }
    }

    /// True where an application rather than a person asks.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        let accept = self.headers.text(&hyper::header::ACCEPT);
        accept.is_some_and(|accept| accept.contains("application/json"))
    }

    /// True under the Global Privacy Control signal (W3C draft, `Sec-GPC: 1`).
    #[must_use]
    pub fn global_privacy_control(&self) -> bool {
        self.headers.get(&SEC_GPC) == Some(b"1")
    }

    /// True under Do Not Track (`DNT: 1`).
    #[must_use]
    pub fn do_not_track(&self) -> bool {
        self.headers.get(&DNT) == Some(b"1")
    }

    /// The value of a cookie. Those beside it are the site's own, and may be no text.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let pairs = self.headers.all(COOKIE).flat_map(|header| header.split(|byte| *byte == b';'));
        let mut values = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values.find_map(headers::text)
    }

    /// The client hints about the user agent, by header name, as many as are kept.
    #[must_use]
    pub fn hints(&self) -> Map<'a> {
        let mut hints: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        let mut room = MOST_HINT_BYTES;
        for (name, value) in self.headers.with_prefix(CLIENT_HINTS).filter(|(_, value)| value.len() <= LONGEST_HINT) {
            let bytes = name.len() + value.len();
            // A header that is sent twice counts once: keys of a map are unique.
            if bytes <= room && !hints.iter().any(|(known, _)| *known == name) {
                room -= bytes;
                hints.push((name, value.into()));
            }
        }
        Map(hints)
    }
}

impl Forwarding<'_> {
    /// True for a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// What the configured header tells: the client behind a peer, and the scheme.
    fn told<'a>(&self, peer: IpAddr, headers: Headers<'a>) -> (IpAddr, Option<&'a str>) {
        match self.header {
            ForwardingHeader::XForwardedFor => {
                let hops = from_the_right(headers, X_FORWARDED_FOR);
                (self.client(peer, hops), from_the_right(headers, X_FORWARDED_PROTO).next())
            }
            ForwardingHeader::Forwarded => {
                let elements = || from_the_right(headers, FORWARDED);
                let hops = elements().map(|element| parameter(element, "for").unwrap_or_default());
                let scheme = elements().next().and_then(|element| parameter(element, "proto"));
                (self.client(peer, hops), scheme)
            }
        }
    }

    /// The client behind a peer that is trusted, by the hops from right to left; the peer itself where it is not.
    fn client<'a>(&self, peer: IpAddr, mut hops: impl Iterator<Item = &'a str>) -> IpAddr {
        let mut ip = peer;
        // A proxy may hide the hop before it ("unknown", "_token"); the last address known is the best there is.
        while self.trusts(ip)
            && let Some(hop) = hops.next().and_then(address)
        {
            ip = hop;
        }
        ip
    }
}

/// At most so many bytes of a text, in whole characters.
fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

/// At most so many bytes of a value as text.
fn beginning(value: &[u8], longest: usize) -> Cow<'_, str> {
    // A character that three more bytes do not complete begins behind those that are kept.
    match String::from_utf8_lossy(&value[..value.len().min(longest + 3)]) {
        Cow::Borrowed(text) => Cow::Borrowed(cut(text, longest)),
        Cow::Owned(mut text) => {
            text.truncate(text.floor_char_boundary(longest));
            Cow::Owned(text)
        }
    }
}

/// The comma-separated items of all headers of a name, right to left. One that is no text is an empty one.
fn from_the_right<'a>(headers: Headers<'a>, name: HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let items = headers.all(name).rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    items.map(|item| headers::text(item.trim_ascii()).unwrap_or_default())
}

/// A parameter of an element of the Forwarded header (RFC 7239).
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next();
    value.map(|value| value.trim_matches('"'))
}

/// An address with or without port, IPv6 with or without brackets.
fn address(hop: &str) -> Option<IpAddr> {
    if let Ok(address) = hop.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(rest) = hop.strip_prefix('[') {
        return rest.split(']').next()?.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    }
    let (host, port) = hop.rsplit_once(':')?;
    if port.parse::<u16>().is_err() { None } else { host.parse().ok() }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn peer(socket: &str) -> Peer {
        socket.parse::<IpAddr>().unwrap().into()
    }

    fn seen(socket: &str, header: ForwardingHeader, pairs: &[(&'static str, &str)]) -> (String, bool) {
        seen_of(peer(socket), header, pairs)
    }

    fn seen_of(peer: Peer, header: ForwardingHeader, pairs: &[(&'static str, &str)]) -> (String, bool) {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let headers = headers(pairs);
        let client = Client::new(peer, &headers, &Forwarding { trusted: &trusted, header });
        (client.ip.to_string(), client.secure)
    }

    #[test]
    fn headers_of_a_stranger_mean_nothing() {
        let sent = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
        assert_eq!(seen("198.51.100.7", ForwardingHeader::XForwardedFor, &sent), ("198.51.100.7".to_owned(), false));
    }

    #[test]
    fn hops_are_read_from_the_right_until_one_is_no_proxy() {
        for (value, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, 203.0.113.9, 10.3.3.3", "203.0.113.9"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::5]:4711", "2001:db8::5"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("10.9.9.9", "10.9.9.9"),
            ("1.1.1.1, unknown, 10.3.3.3", "10.3.3.3"),
            ("nonsense", "10.0.0.1"),
            // What a client sends of its own stands on the left of what its proxy adds.
            ("Zürich, 203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, Zürich, 10.3.3.3", "10.3.3.3"),
            ("", "10.0.0.1"),
        ] {
            let (ip, _) = seen("10.0.0.1", ForwardingHeader::XForwardedFor, &[("x-forwarded-for", value)]);
            assert_eq!(ip, expected, "for {value:?}");
        }
        let two_headers = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(seen("10.0.0.1", ForwardingHeader::XForwardedFor, &two_headers).0, "203.0.113.9");
    }

    #[test]
    fn only_the_configured_header_counts() {
        let sent = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=1.1.1.1;proto=https")];
        assert_eq!(seen("10.0.0.1", ForwardingHeader::XForwardedFor, &sent), ("203.0.113.9".to_owned(), false));
        assert_eq!(seen("10.0.0.1", ForwardingHeader::Forwarded, &sent), ("1.1.1.1".to_owned(), true));
    }

    #[test]
    fn a_proxy_header_tells_the_hop_before_and_how_it_came() {
        let sent = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")];
        for (told, tls, headers, expected) in [
            ("198.51.100.7", None, &sent[..0], ("198.51.100.7", false)),
            ("198.51.100.7", Some(true), &sent[..0], ("198.51.100.7", true)),
            ("198.51.100.7", None, &sent[..], ("198.51.100.7", true)),
            ("198.51.100.7", Some(false), &sent[..], ("198.51.100.7", false)),
            // Another proxy of ours: what it wrote is about the client.
            ("10.0.0.2", Some(false), &sent[..], ("203.0.113.9", true)),
            ("10.0.0.2", Some(true), &sent[..1], ("203.0.113.9", false)),
        ] {
            let peer = Peer { told: Some(told.parse().unwrap()), tls, ..peer("10.0.0.1") };
            let (ip, secure) = seen_of(peer, ForwardingHeader::XForwardedFor, headers);
            assert_eq!((ip.as_str(), secure), expected, "{told} {tls:?} {headers:?}");
        }
    }

    /// The examples of RFC 7239, section 4.
    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        for (value, expected) in [
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=\"_gazonk\"", "10.0.0.1"),
            ("for=198.51.100.17, by=10.0.0.2", "10.0.0.1"),
        ] {
            assert_eq!(seen("10.0.0.1", ForwardingHeader::Forwarded, &[("forwarded", value)]).0, expected, "{value}");
        }
    }

    #[test]
    fn cookies_languages_hosts_and_hints_are_found() {
        let headers = headers(&[
            ("cookie", "a=1; city=Zürich; hitmeter_visitor=abc"),
            ("cookie", "b=2; d=ü; d=4"),
            ("accept-language", "de-CH,de;q=0.9"),
            ("host", "[::1]:8080"),
            ("sec-ch-ua-platform", "\"Linux\""),
            ("sec-ch-ua-platform", "\"twice\""),
        ]);
        let forwarding = Forwarding { trusted: &[], header: ForwardingHeader::XForwardedFor };
        let client = Client::new(peer("127.0.0.1"), &headers, &forwarding);
        assert_eq!(
            ["hitmeter_visitor", "b", "c", "city", "d"].map(|name| client.cookie(name)),
            [Some("abc"), Some("2"), None, None, Some("4")]
        );
        assert_eq!((client.language().as_ref(), client.host()), ("de-CH", "[::1]"));
        assert_eq!(client.hints(), Map(vec![("sec-ch-ua-platform".into(), "\"Linux\"".into())]));
    }

    /// Each hit of a body has them, so that they cost as often as it has hits.
    #[test]
    fn long_headers_are_cut_at_whole_characters() {
        let mut headers = headers(&[("accept-language", &"x".repeat(9_000))]);
        for number in 0..50 {
            let name = HeaderName::try_from(format!("sec-ch-ua-{number:02}")).unwrap();
            headers.insert(name, "x".repeat(500).parse().unwrap());
        }
        let broken = vec![0xff; 9_000];
        for (user_agent, kept) in [
            ("x".repeat(9_000).as_bytes(), "x".repeat(2_048)),
            ("x".repeat(2_048).as_bytes(), "x".repeat(2_048)),
            (format!("xx{}", "\u{1f600}".repeat(9_000)).as_bytes(), format!("xx{}", "\u{1f600}".repeat(511))),
            (&broken, "\u{fffd}".repeat(682)),
        ] {
            headers.insert(USER_AGENT, HeaderValue::from_bytes(user_agent).unwrap());
            let forwarding = Forwarding { trusted: &[], header: ForwardingHeader::XForwardedFor };
            let client = Client::new(peer("127.0.0.1"), &headers, &forwarding);
            assert_eq!(client.user_agent(), kept);
            assert_eq!(client.language(), "x".repeat(64));
            let hints = client.hints();
            let bytes: usize = hints.0.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert_eq!((hints.0.len(), bytes), (4, 4 * 512));
        }
    }
}
