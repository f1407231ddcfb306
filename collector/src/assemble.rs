//! Makes the `RawHit` from what the client says, what its connection shows, and what the policy permits.

use std::time::{SystemTime, UNIX_EPOCH};

use schemas::{Consent, Contact, Kind, Protocol, RawHit, Signal, Text};
use service::privacy::anonymous::{network_part, take_off_free_text};
use service::sites::Site;
use uuid::Uuid;

use crate::client::Client;
use crate::daily_keys::DailyKeys;
use crate::fields::{ConsentFields, ContactFields, Fields, Permission, Scalar};
use crate::identity::{self, Claimed, Identity, Newcomer};

/// Parameters whose values are checked: an unusable one is left out and counted, the hit goes on without it. A permission
/// counts as refused instead.
pub const CHECKED_PARAMETERS: &[&str] = &[
    "hit",
    "page_view",
    "visitor",
    "session",
    "time",
    "sent",
    "duration",
    "screen",
    "consent.time",
    "consent.measurement",
    "consent.personalisation",
    "consent.advertising",
    "consent.partner_sharing",
];

/// The clock, Unix milliseconds.
#[must_use]
pub fn now_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Where a hit came in, and under which policy it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// Key of the site.
    pub site_key: &'c str,
    /// The site.
    pub site: &'c Site,
    /// How it came in.
    pub protocol: Protocol,
    /// The objection under which it is made anonymous, if any.
    pub signal: Signal,
    /// The days' keys.
    pub keys: &'c DailyKeys,
    /// Whoever the request comes from, if it is nobody known.
    pub newcomer: &'c Newcomer,
    /// Collector's clock, Unix milliseconds.
    pub received_at: i64,
}

/// A hit as it is published.
#[derive(Debug, Clone)]
pub struct Assembled<'a> {
    /// The hit.
    pub hit: RawHit<'a>,
    /// Whom it belongs to.
    pub identity: Identity<'a>,
    /// Names of the parameters that were left out, from [`CHECKED_PARAMETERS`].
    pub invalid: Vec<&'static str>,
}

/// Makes the hit.
#[must_use]
pub fn assemble<'a>(fields: Fields<'a>, client: &Client<'a>, context: Context<'a>) -> Assembled<'a> {
    let mut checked = Checked::default();
    let anonymous = context.signal != Signal::None;
    let claimed =
        Claimed { visitor: checked.visitor(fields.visitor), session: checked.uuid("session", &fields.session) };
    let protocol = if fields.tag.0.is_empty() { context.protocol } else { Protocol::Tag };
    // The tag keeps its own ids and sends none where it may keep none: it would come as a newcomer with every hit.
    let keeps_nothing = protocol == Protocol::Tag && claimed.visitor.is_none();
    let (kind, event_name) = kind(fields.event.0);
    let named = checked.hit(&fields.hit);
    let identity = if anonymous || context.site.cookieless || keeps_nothing {
        identity::of_the_day(context.keys, context.site_key, client, context.received_at)
    } else {
        let named = || Some(identity::of_named(named?, context.keys, context.site_key, client, context.received_at));
        identity::recognised(claimed, kind, client, context.newcomer, named)
    };
    let (screen_width, screen_height) = checked.screen(&fields.screen);
    let hit_id = named.unwrap_or_else(Uuid::now_v7);
    let page_view_id = checked.uuid("page_view", &fields.page_view);
    let mut hit = RawHit {
        hit_id,
        site: context.site_key.into(),
        protocol,
        kind,
        event_name,
        received_at: context.received_at,
        client_time: checked.number("time", &fields.time),
        sent_at: checked.number("sent", &fields.sent),
        visitor_id: identity.visitor.clone(),
        visitor_id_source: identity.source,
        session_id: identity.session,
        page_view_id: page_view_id.or((kind == Kind::PageView).then_some(hit_id)),
        page_url: or_else(fields.url.0, || match context.protocol {
            Protocol::Pixel => client.referer(),
            _ => Text::default(),
        }),
        page_title: fields.title.0,
        referrer: fields.referrer.0,
        target_url: fields.target.0,
        search_term: fields.search.0,
        duration_ms: checked.number("duration", &fields.duration),
        screen_width,
        screen_height,
        language: or_else(fields.language.0, || client.language()),
        time_zone: fields.timezone.0,
        user_agent: client.user_agent(),
        client_hints: client.hints(),
        ip: if anonymous { network_part(client.ip) } else { client.ip }.to_string().into(),
        ip_policy: context.site.ip,
        signal: context.signal,
        contact: fields.contact.filter(|_| !anonymous).and_then(contact),
        consent: fields.consent.map(|consent| checked.consent(consent)),
        properties: fields.properties,
        tag_version: fields.tag.0,
    };
    // Who objects here, and not only by what their browser says to everybody, is not to be known by anything they send: from
    // here on no stage can tell any more whose hit it is.
    if context.signal == Signal::OptOut {
        take_off_free_text(&mut hit);
    }
    Assembled { hit, identity, invalid: checked.invalid }
}

/// A kind by its parameter, or a custom event of that name.
fn kind(event: Text<'_>) -> (Kind, Text<'_>) {
    let kind = match event.as_ref() {
        "" | "page" => Kind::PageView,
        name => match Kind::from_symbol(name) {
            Some(kind) => kind,
            None => return (Kind::Event, event),
        },
    };
    (kind, Text::default())
}

fn or_else<'a>(text: Text<'a>, other: impl FnOnce() -> Text<'a>) -> Text<'a> {
    if text.is_empty() { other() } else { text }
}

fn contact(fields: ContactFields<'_>) -> Option<Contact<'_>> {
    let contact = Contact {
        name: fields.name.0,
        email: fields.email.0,
        phone: fields.phone.0,
        job_title: fields.job_title.0,
        company: fields.company.0,
        address: fields.address.0,
    };
    (contact != Contact::default()).then_some(contact)
}

/// Reads values, and remembers which were unusable.
#[derive(Debug, Default)]
struct Checked {
    invalid: Vec<&'static str>,
}

impl Checked {
    fn read<T>(&mut self, name: &'static str, text: &Scalar<'_>, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if text.0.is_empty() {
            return None;
        }
        let value = parse(&text.0);
        if value.is_none() {
            self.invalid.push(name);
        }
        value
    }

    fn uuid(&mut self, name: &'static str, text: &Scalar<'_>) -> Option<Uuid> {
        self.read(name, text, |text| Uuid::try_parse(text).ok().filter(|id| !id.is_nil()))
    }

    /// The time in a UUIDv7 is what bounds how long its duplicates have to be remembered; others name no hit.
    fn hit(&mut self, text: &Scalar<'_>) -> Option<Uuid> {
        self.read("hit", text, |text| Uuid::try_parse(text).ok().filter(|id| id.get_version_num() == 7))
    }

    /// A number of milliseconds, not negative; a fraction is cut off.
    fn number(&mut self, name: &'static str, text: &Scalar<'_>) -> Option<i64> {
        /// Beyond this, JavaScript's numbers are not exact.
        const MOST: f64 = 9_007_199_254_740_991.0;
        self.read(name, text, |text| {
            let exact = text.parse::<i64>().ok();
            let cut =
                || text.parse::<f64>().ok().filter(|number| (0.0..=MOST).contains(number)).map(|number| number as i64);
            exact.or_else(cut).filter(|number| *number >= 0)
        })
    }

    fn screen(&mut self, text: &Scalar<'_>) -> (Option<i32>, Option<i32>) {
        let size = self.read("screen", text, |text| {
            let (width, height) = text.split_once('x')?;
            let side = |text: &str| text.parse::<i32>().ok().filter(|pixels| (0..=65_535).contains(pixels));
            Some((side(width)?, side(height)?))
        });
        size.unzip()
    }

    fn visitor<'a>(&mut self, text: Scalar<'a>) -> Option<Text<'a>> {
        self.read("visitor", &text, |text| identity::is_visitor_id(text).then_some(()))?;
        Some(text.0)
    }

    fn permission(&mut self, name: &'static str, permission: Permission) -> Option<bool> {
        if permission == Permission::Unclear {
            self.invalid.push(name);
        }
        permission.permits()
    }

    fn consent<'a>(&mut self, fields: ConsentFields<'a>) -> Consent<'a> {
        Consent {
            measurement: self.permission("consent.measurement", fields.measurement),
            personalisation: self.permission("consent.personalisation", fields.personalisation),
            advertising: self.permission("consent.advertising", fields.advertising),
            partner_sharing: self.permission("consent.partner_sharing", fields.partner_sharing),
            given_at: self.number("consent.time", &fields.time),
            wording: fields.wording.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use schemas::VisitorIdSource;

    use super::*;
    use crate::client::Forwarding;
    use crate::options::ForwardingHeader;

    fn assembled(query: &str, site: &Site, signal: Signal, check: impl FnOnce(Assembled<'_>)) {
        let mut headers = HeaderMap::new();
        headers.insert("referer", "https://example.com/page".parse().unwrap());
        headers.insert("user-agent", "Mozilla/5.0".parse().unwrap());
        headers.insert("accept-language", "fr-CH, fr;q=0.9".parse().unwrap());
        let forwarding = Forwarding { trusted: &[], header: ForwardingHeader::XForwardedFor };
        let client = Client::new(std::net::IpAddr::from([192, 0, 2, 77]).into(), &headers, &forwarding);
        let (fields, _) = Fields::from_query(query).unwrap();
        let keys = DailyKeys::default();
        let newcomer = &Newcomer::default();
        let context = Context {
            site_key: "demo",
            site,
            protocol: Protocol::Pixel,
            signal,
            keys: &keys,
            newcomer,
            received_at: 5,
        };
        check(assemble(fields, &client, context));
    }

    #[test]
    fn who_opts_out_is_not_known_by_what_they_send_freely() {
        let query = "site=demo&p.account=secret&url=https%3A%2F%2Fexample.com%2Fa%3Fmail%3Dsecret&referrer=https%3A%2F%2Fx.example%2F%23secret";
        assembled(query, &Site::default(), Signal::OptOut, |Assembled { hit, .. }| {
            assert_eq!((&*hit.page_url, &*hit.referrer), ("https://example.com/a", "https://x.example/"));
            assert!(hit.properties.0.is_empty() && hit.page_view_id.is_none(), "{hit:?}");
        });
    }

    #[test]
    fn a_bare_pixel_is_a_page_view_of_the_referring_page() {
        assembled("site=demo", &Site::default(), Signal::None, |Assembled { hit, .. }| {
            assert_eq!(
                (hit.kind, hit.page_url.as_ref(), hit.language.as_ref()),
                (Kind::PageView, "https://example.com/page", "fr-CH")
            );
            assert_eq!((hit.ip.as_ref(), hit.received_at, hit.protocol), ("192.0.2.77", 5, Protocol::Pixel));
            assert_eq!(hit.page_view_id, Some(hit.hit_id));
            assert_eq!(hit.contact, None);
        });
    }

    #[test]
    fn every_parameter_finds_its_field() {
        let query = "event=download&url=u&referrer=r&title=t&visitor=v&session=0190d5a0-0000-7000-8000-000000000001\
            &hit=0190d5a0-0000-7000-8000-000000000002&time=1000&sent=1005.7&screen=1920x1080&language=de&timezone=Europe/Zurich\
            &duration=4321&target=f.pdf&search=pump&tag=1&page_view=0190d5a0-0000-7000-8000-000000000003\
            &name=N&email=E&phone=P&job_title=J&company=C&address=A&p.k=w";
        assembled(query, &Site::default(), Signal::None, |Assembled { hit, invalid, .. }| {
            assert_eq!(invalid, Vec::<&str>::new());
            assert_eq!(hit.hit_id.to_string(), "0190d5a0-0000-7000-8000-000000000002");
            assert_eq!(hit.session_id.unwrap().to_string(), "0190d5a0-0000-7000-8000-000000000001");
            assert_eq!(hit.page_view_id.unwrap().to_string(), "0190d5a0-0000-7000-8000-000000000003");
            assert_eq!(
                (hit.kind, hit.protocol, hit.visitor_id_source),
                (Kind::Download, Protocol::Tag, VisitorIdSource::Client)
            );
            assert_eq!((hit.client_time, hit.sent_at, hit.duration_ms), (Some(1000), Some(1005), Some(4321)));
            assert_eq!((hit.screen_width, hit.screen_height), (Some(1920), Some(1080)));
            let texts = [
                &hit.page_url,
                &hit.referrer,
                &hit.page_title,
                &hit.visitor_id,
                &hit.language,
                &hit.time_zone,
                &hit.target_url,
                &hit.search_term,
                &hit.tag_version,
            ];
            assert_eq!(texts.map(AsRef::as_ref), ["u", "r", "t", "v", "de", "Europe/Zurich", "f.pdf", "pump", "1"]);
            let contact = hit.contact.unwrap();
            let card =
                [contact.name, contact.email, contact.phone, contact.job_title, contact.company, contact.address];
            assert_eq!(card.each_ref().map(AsRef::as_ref), ["N", "E", "P", "J", "C", "A"]);
            assert_eq!(hit.properties.get("k"), Some("w"));
        });
    }

    #[test]
    fn unusable_values_are_left_out_and_named() {
        let query = "hit=1&session=x&visitor=a%20b&time=yesterday&screen=wide&duration=-5";
        assembled(query, &Site::default(), Signal::None, |Assembled { hit, invalid, .. }| {
            assert_eq!(invalid, ["visitor", "session", "hit", "screen", "time", "duration"]);
            assert_eq!(hit.hit_id.get_version_num(), 7);
            assert_eq!((hit.client_time, hit.duration_ms, hit.screen_width), (None, None, None));
        });
        let query = "hit=8c8b43b1-5d1e-4f5e-9d0a-0e7f4a3c2b10";
        assembled(query, &Site::default(), Signal::None, |Assembled { hit, invalid, .. }| {
            assert_eq!(invalid, ["hit"], "a random UUID names no hit");
            assert_eq!(hit.hit_id.get_version_num(), 7);
        });
    }

    #[test]
    fn under_an_objection_nothing_that_identifies_is_kept() {
        let query = "visitor=v&session=0190d5a0-0000-7000-8000-000000000001&email=a@b.example";
        assembled(query, &Site::default(), Signal::GlobalPrivacyControl, |Assembled { hit, identity, .. }| {
            assert_eq!((hit.ip.as_ref(), hit.session_id, hit.contact), ("192.0.2.0", None, None));
            assert_eq!(
                (hit.visitor_id_source, identity.source),
                (VisitorIdSource::DailyHash, VisitorIdSource::DailyHash)
            );
            assert_ne!(hit.visitor_id, "v");
            assert_eq!(hit.signal, Signal::GlobalPrivacyControl);
        });
    }

    #[test]
    fn a_tag_that_keeps_no_id_is_a_visitor_of_the_day() {
        assembled("tag=1", &Site::default(), Signal::None, |Assembled { hit, .. }| {
            assert_eq!((hit.visitor_id_source, hit.session_id), (VisitorIdSource::DailyHash, None));
        });
    }

    #[test]
    fn a_cookieless_site_recognises_nobody_tomorrow() {
        let site = Site { cookieless: true, ..Site::default() };
        assembled("visitor=v&email=a@b.example", &site, Signal::None, |Assembled { hit, .. }| {
            assert_eq!((hit.visitor_id_source, hit.session_id), (VisitorIdSource::DailyHash, None));
            assert!(hit.contact.is_some());
        });
    }

    #[test]
    fn kinds_and_custom_events() {
        for (event, expected) in [
            ("", (Kind::PageView, "")),
            ("page", (Kind::PageView, "")),
            ("page_view", (Kind::PageView, "")),
            ("mail_open", (Kind::MailOpen, "")),
            ("event", (Kind::Event, "")),
            ("signed up", (Kind::Event, "signed up")),
        ] {
            let (kind, name) = kind(event.into());
            assert_eq!((kind, name.as_ref()), expected);
        }
    }

    #[test]
    fn ipv6_keeps_its_first_48_bits() {
        assert_eq!(network_part("2001:db8:1:2:3:4:5:6".parse().unwrap()).to_string(), "2001:db8:1::");
    }
}
