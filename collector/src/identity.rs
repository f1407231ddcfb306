//! Who a hit belongs to, and which session.

use std::cell::OnceCell;

use schemas::{Kind, Text, VisitorIdSource};
use service::sites::Site;
use uuid::{Builder, Uuid};

use crate::client::Client;
use crate::cookies;
use crate::daily_keys::DailyKeys;

/// Longest visitor id that a client may send, bytes.
pub const LONGEST_VISITOR_ID: usize = 64;

/// Visitor and session of a hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The visitor's id.
    pub visitor: Text<'a>,
    /// Where it comes from.
    pub source: VisitorIdSource,
    /// The session, where there is one.
    pub session: Option<Uuid>,
    /// True where the visitor was met just now: only then is the visitor's cookie set.
    pub is_new: bool,
}

/// What a client says of itself, as far as it is usable.
#[derive(Debug, Clone, Default)]
pub struct Claimed<'a> {
    /// Its own visitor id.
    pub visitor: Option<Text<'a>>,
    /// Its own session.
    pub session: Option<Uuid>,
}

/// Ids for whoever a request turns out to come from: one visitor and one session for all of its hits. Made when first
/// asked for, since most requests come from somebody known. Where the client named the hit that asks first, its retry asks
/// for the same visitor, as else the two would be hits of different people.
#[derive(Debug, Clone, Default)]
pub struct Newcomer {
    visitor: OnceCell<Uuid>,
    session: OnceCell<Uuid>,
}

impl Newcomer {
    fn visitor(&self, named: impl FnOnce() -> Option<Uuid>) -> Uuid {
        *self.visitor.get_or_init(|| named().unwrap_or_else(Uuid::new_v4))
    }

    fn session(&self) -> Uuid {
        *self.session.get_or_init(Uuid::now_v7)
    }
}

/// True for an id that a client may use for a visitor.
#[must_use]
pub fn is_visitor_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
    !text.is_empty() && text.len() <= LONGEST_VISITOR_ID && text.bytes().all(allowed)
}

/// A visitor for whom nothing is kept at the client: the same until the end of the day. Every client on one address
/// with one user agent is one such visitor.
#[must_use]
pub fn of_the_day(keys: &DailyKeys, site: &str, client: &Client<'_>, received_at: i64) -> Identity<'static> {
    let hash = keys.hash(received_at, &[site, &client.ip.to_string(), &client.user_agent()]);
    Identity { visitor: hex::encode(hash).into(), source: VisitorIdSource::DailyHash, session: None, is_new: false }
}

/// The id of whoever comes with a hit that its client named: the same for its retries, and looking as any other. By address
/// and user agent, too, so that a page which names one hit for all who see it does not make one visitor of them; by the
/// key of the day, so that nobody can tell the address by it later.
#[must_use]
pub fn of_named(hit: Uuid, keys: &DailyKeys, site: &str, client: &Client<'_>, received_at: i64) -> Uuid {
    let (ip, hit) = (client.ip.to_string(), hit.to_string());
    Builder::from_random_bytes(keys.hash(received_at, &[site, &ip, &client.user_agent(), &hit])).into_uuid()
}

/// A visitor by its own id or the collector's cookie; the newcomer where there is neither. A session begins here only for
/// a visitor whose cookies the collector keeps: one that its client tells without a session would be given another with
/// each hit, and has its sessions computed from gaps. A mail that is opened is no visit: it is in no session of a cookie.
/// `named` is the newcomer's id where the client named the hit, see [`of_named`].
#[must_use]
pub fn recognised<'a>(
    claimed: Claimed<'a>,
    kind: Kind,
    client: &Client<'a>,
    newcomer: &Newcomer,
    named: impl FnOnce() -> Option<Uuid>,
) -> Identity<'a> {
    let is_visit = kind != Kind::MailOpen;
    let session_cookie = || client.cookie(cookies::SESSION).and_then(|text| Uuid::try_parse(text).ok());
    let session = claimed.session.or_else(|| session_cookie().filter(|_| is_visit));
    if let Some(visitor) = claimed.visitor {
        return Identity { visitor, source: VisitorIdSource::Client, session, is_new: false };
    }
    let session = session.or_else(|| is_visit.then(|| newcomer.session()));
    let (visitor, is_new) = match client.cookie(cookies::VISITOR).filter(|text| is_visitor_id(text)) {
        Some(known) => (known.into(), false),
        None => (newcomer.visitor(named).to_string().into(), true),
    };
    Identity { visitor, source: VisitorIdSource::Cookie, session, is_new }
}

impl Identity<'_> {
    /// The cookies by which the visitor and the session are known next time: none where nothing may be kept, none for
    /// a client that keeps its own. The session's is renewed with each hit; the visitor's is not, so that its 13 months
    /// are not prolonged by visits.
    pub fn cookies(&self, site: &Site, client: &Client<'_>) -> impl Iterator<Item = hyper::header::HeaderValue> {
        let scope = cookies::Scope { domain: site.cookie_domain.as_deref(), secure: client.secure };
        let kept = self.source == VisitorIdSource::Cookie;
        let visitor = || cookies::set(cookies::VISITOR, &self.visitor, cookies::THIRTEEN_MONTHS_SECONDS, scope);
        let session =
            |id: Uuid| cookies::set(cookies::SESSION, &id.to_string(), u64::from(site.session_minutes) * 60, scope);
        let set_visitor = (kept && self.is_new).then(visitor).flatten();
        set_visitor.into_iter().chain(self.session.filter(|_| kept).and_then(session))
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;
    use crate::client::Forwarding;
    use crate::options::ForwardingHeader;

    fn client(headers: &HeaderMap) -> Client<'_> {
        Client::new(
            std::net::IpAddr::from([192, 0, 2, 1]).into(),
            headers,
            &Forwarding { trusted: &[], header: ForwardingHeader::XForwardedFor },
        )
    }

    fn with_cookies(cookies: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookies.parse().unwrap());
        headers
    }

    #[test]
    fn the_cookies_name_visitor_and_session_and_only_the_sessions_is_renewed() {
        let session = Uuid::now_v7();
        let headers = with_cookies(&format!("hitmeter_visitor=v-1; hitmeter_session={session}"));
        let client = client(&headers);
        let identity = recognised(Claimed::default(), Kind::PageView, &client, &Newcomer::default(), || None);
        assert_eq!(
            (identity.visitor.as_ref(), identity.source, identity.session),
            ("v-1", VisitorIdSource::Cookie, Some(session))
        );
        let set: Vec<_> = identity.cookies(&Site { session_minutes: 10, ..Site::default() }, &client).collect();
        assert_eq!(set, [format!("hitmeter_session={session}; Path=/; Max-Age=600; SameSite=Lax").as_str()]);
    }

    #[test]
    fn the_clients_own_id_wins_and_gets_no_cookie_and_no_session_but_one_that_is_told() {
        let told = || Claimed { visitor: Some("mine".into()), session: None };
        let headers = with_cookies("hitmeter_visitor=v-1");
        let known = client(&headers);
        let identity = recognised(told(), Kind::PageView, &known, &Newcomer::default(), || None);
        assert_eq!((identity.visitor.as_ref(), identity.source), ("mine", VisitorIdSource::Client));
        assert_eq!((identity.session, identity.cookies(&Site::default(), &known).count()), (None, 0));
        let (own, kept) = (Uuid::now_v7(), Uuid::now_v7());
        let headers = with_cookies(&format!("hitmeter_session={kept}"));
        let session =
            |claimed| recognised(claimed, Kind::PageView, &client(&headers), &Newcomer::default(), || None).session;
        assert_eq!(session(told()), Some(kept));
        assert_eq!(session(Claimed { session: Some(own), ..told() }), Some(own));
    }

    #[test]
    fn a_mail_that_is_opened_is_no_visit() {
        let headers = with_cookies(&format!("hitmeter_visitor=v-1; hitmeter_session={}", Uuid::now_v7()));
        for (headers, cookies) in [(headers, 0), (HeaderMap::new(), 1)] {
            let client = client(&headers);
            let identity = recognised(Claimed::default(), Kind::MailOpen, &client, &Newcomer::default(), || None);
            assert_eq!((identity.session, identity.cookies(&Site::default(), &client).count()), (None, cookies));
        }
    }

    #[test]
    fn a_broken_cookie_makes_a_new_visitor() {
        let headers = with_cookies("hitmeter_visitor=<script>; hitmeter_session=x");
        let client = client(&headers);
        let identity = recognised(Claimed::default(), Kind::PageView, &client, &Newcomer::default(), || None);
        assert!(Uuid::try_parse(&identity.visitor).is_ok());
        assert_eq!(identity.session.unwrap().get_version_num(), 7);
    }

    #[test]
    fn a_visitor_of_the_day_gets_no_cookie_and_no_session() {
        let headers = with_cookies("hitmeter_visitor=v-1");
        let client = client(&headers);
        let identity = of_the_day(&DailyKeys::default(), "demo", &client, 0);
        assert_eq!((identity.source, identity.session), (VisitorIdSource::DailyHash, None));
        assert_eq!(identity.cookies(&Site::default(), &client).count(), 0);
    }
}
