//! Who a hit belongs to, and which session.

use std::cell::OnceCell;

use schemas::{Text, VisitorIdSource};
use service::sites::Site;
use uuid::Uuid;

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
/// asked for, since most requests come from somebody known.
#[derive(Debug, Clone, Default)]
pub struct Newcomer {
    visitor: OnceCell<Uuid>,
    session: OnceCell<Uuid>,
}

impl Newcomer {
    fn visitor(&self) -> Uuid {
        *self.visitor.get_or_init(Uuid::new_v4)
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
    let visitor = keys.visitor(site, received_at, &client.ip.to_string(), &client.user_agent());
    Identity { visitor: visitor.into(), source: VisitorIdSource::DailyHash, session: None }
}

/// A visitor by its own id or the collector's cookie; the newcomer where there is neither.
#[must_use]
pub fn recognised<'a>(claimed: Claimed<'a>, client: &Client<'a>, newcomer: &Newcomer) -> Identity<'a> {
    let session_cookie = || client.cookie(cookies::SESSION).and_then(|text| Uuid::try_parse(text).ok());
    let session = Some(claimed.session.or_else(session_cookie).unwrap_or_else(|| newcomer.session()));
    if let Some(visitor) = claimed.visitor {
        return Identity { visitor, source: VisitorIdSource::Client, session };
    }
    let visitor = match client.cookie(cookies::VISITOR).filter(|text| is_visitor_id(text)) {
        Some(known) => known.into(),
        None => newcomer.visitor().to_string().into(),
    };
    Identity { visitor, source: VisitorIdSource::Cookie, session }
}

impl Identity<'_> {
    /// The cookies by which the visitor and the session are known next time: none where nothing may be kept, none for
    /// a client that keeps its own.
    pub fn cookies(&self, site: &Site, client: &Client<'_>) -> impl Iterator<Item = hyper::header::HeaderValue> {
        let scope = cookies::Scope { domain: site.cookie_domain.as_deref(), secure: client.secure };
        let kept = self.source == VisitorIdSource::Cookie;
        let visitor = || cookies::set(cookies::VISITOR, &self.visitor, cookies::THIRTEEN_MONTHS_SECONDS, scope);
        let session =
            |id: Uuid| cookies::set(cookies::SESSION, &id.to_string(), u64::from(site.session_minutes) * 60, scope);
        let both = if kept { [visitor(), self.session.and_then(session)] } else { [None, None] };
        both.into_iter().flatten()
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
            [192, 0, 2, 1].into(),
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
    fn the_cookies_name_visitor_and_session_and_are_renewed() {
        let session = Uuid::now_v7();
        let headers = with_cookies(&format!("hitmeter_visitor=v-1; hitmeter_session={session}"));
        let client = client(&headers);
        let identity = recognised(Claimed::default(), &client, &Newcomer::default());
        assert_eq!(
            (identity.visitor.as_ref(), identity.source, identity.session),
            ("v-1", VisitorIdSource::Cookie, Some(session))
        );
        let set: Vec<_> = identity.cookies(&Site { session_minutes: 10, ..Site::default() }, &client).collect();
        assert_eq!(set[0], "hitmeter_visitor=v-1; Path=/; Max-Age=34128000; SameSite=Lax");
        assert_eq!(set[1], format!("hitmeter_session={session}; Path=/; Max-Age=600; SameSite=Lax"));
    }

    #[test]
    fn the_clients_own_id_wins_and_sets_no_cookie() {
        let headers = with_cookies("hitmeter_visitor=v-1");
        let client = client(&headers);
        let identity =
            recognised(Claimed { visitor: Some("mine".into()), session: None }, &client, &Newcomer::default());
        assert_eq!((identity.visitor.as_ref(), identity.source), ("mine", VisitorIdSource::Client));
        assert_eq!(identity.cookies(&Site::default(), &client).count(), 0);
    }

    #[test]
    fn a_broken_cookie_makes_a_new_visitor() {
        let headers = with_cookies("hitmeter_visitor=<script>; hitmeter_session=x");
        let client = client(&headers);
        let identity = recognised(Claimed::default(), &client, &Newcomer::default());
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
