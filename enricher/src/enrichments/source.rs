//! Where the visitor came from. The first rule that fits decides:
//!
//! 1. `utm_source` alone that names an assistant, as ChatGPT adds to its links: assistant.
//! 2. Campaign parameters, or the click id of an advertisement: campaign, whatever the referrer is, since the link was
//!    made to be counted. Marks that platforms put on every link, such as `fbclid`, are no campaign.
//! 3. No referrer: direct where there is a page; mail for an opened mail; else unknown.
//! 4. The page's own host, or a host that the site names as its own: internal.
//! 5. A known referrer: search, social, mail, assistant, campaign (an advertising network's host) or referral.
//! 6. Any other referrer: referral.

use std::borrow::Cow;

use schemas::{EnrichedHit, Kind, Source, SourceKind, Text};
use service::sites::Site;

use super::web_address::Address;
use super::{Context, Problem, campaign, lend, note, web_address};

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, context: &Context<'a>) {
    let referrer = Referrer::read(&hit.hit.referrer);
    if matches!(referrer, Referrer::Unreadable) {
        note(hit, Problem::ReferrerUnreadable);
    }
    let mut source = named_by_link(hit, context).unwrap_or_else(|| match &referrer {
        Referrer::None => without_referrer(hit),
        Referrer::Unreadable => Source::default(),
        Referrer::From(address) => from_referrer(hit, context, address),
    });
    if let Referrer::From(address) = referrer {
        source.referrer_host = address.host;
    }
    hit.source = source;
}

enum Referrer<'a> {
    None,
    Unreadable,
    From(Address<'a>),
}

impl<'a> Referrer<'a> {
    fn read(text: &Text<'a>) -> Self {
        if text.trim().is_empty() {
            return Self::None;
        }
        let Some(address) = web_address::read_text(text) else { return Self::Unreadable };
        // `about:client`, `data:...`, `file:///...`: nobody sent the visitor.
        if address.host.is_empty() { Self::None } else { Self::From(address) }
    }
}

fn named<'a>(kind: SourceKind, name: impl Into<Text<'a>>) -> Source<'a> {
    Source { kind, name: name.into(), ..Source::default() }
}

fn named_by_link<'a>(hit: &EnrichedHit<'a>, context: &Context<'a>) -> Option<Source<'a>> {
    let link = &hit.campaign;
    if !link.source.is_empty() && link.medium.is_empty() && link.name.is_empty() {
        let known = context.referrers.find(&link.source, "");
        if let Some(assistant) = known.filter(|known| known.kind == SourceKind::Assistant) {
            return Some(Source { kind: SourceKind::Assistant, name: lend(&assistant.name), ..Source::default() });
        }
    }
    if !link.source.is_empty() {
        return Some(named(SourceKind::Campaign, link.source.to_string()));
    }
    if let Some(click) = campaign::click_id(&link.click_id_kind).filter(|click| click.paid) {
        return Some(named(SourceKind::Campaign, click.network));
    }
    let other = [&link.medium, &link.name, &link.term, &link.content, &link.id];
    other.iter().any(|field| !field.is_empty()).then(|| named(SourceKind::Campaign, ""))
}

fn without_referrer(hit: &EnrichedHit<'_>) -> Source<'static> {
    match hit.hit.kind {
        Kind::MailOpen => named(SourceKind::Mail, ""),
        _ if hit.hit.page_url.is_empty() => Source::default(),
        _ => named(SourceKind::Direct, ""),
    }
}

fn from_referrer<'a>(hit: &EnrichedHit<'a>, context: &Context<'a>, address: &Address<'a>) -> Source<'a> {
    let host = &address.host;
    if is_own(host, &hit.page.host, context.site) {
        return named(SourceKind::Internal, host.clone());
    }
    let Some(known) = context.referrers.find(host, &address.path) else {
        return named(SourceKind::Referral, host.clone());
    };
    let term = known.parameters.iter().find_map(|parameter| value_of(address, parameter));
    Source {
        kind: known.kind,
        name: lend(&known.name),
        term: Cow::Owned(term.unwrap_or_default()),
        ..Source::default()
    }
}

fn is_own(host: &str, page_host: &str, site: Option<&Site>) -> bool {
    if !page_host.is_empty() && web_address::same_site(host, page_host) {
        return true;
    }
    let Some(site) = site else { return false };
    let hosts = site.internal_hosts.iter().map(String::as_str);
    let mut hosts = hosts.chain(site.origins.iter().map(|origin| host_of_origin(origin)));
    hosts.any(|own| web_address::same_site(host, &web_address::as_in_addresses(own)))
}

/// `https://host:port` without scheme and port.
fn host_of_origin(origin: &str) -> &str {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}

fn value_of(address: &Address<'_>, parameter: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(address.query.as_bytes());
    let found = pairs.find(|(name, value)| name == parameter && !value.is_empty());
    found.map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use schemas::RawHit;

    use super::super::testing::{Knowledge, problems};
    use super::*;
    use crate::data::referrers::Referrers;

    const KNOWN: &str = r#"{
        "search": {"Google": {"domains": ["www.google.com", "google.com"], "parameters": ["q", "query"]}},
        "social": {"LinkedIn": {"domains": ["linkedin.com", "com.linkedin.android"], "parameters": []}},
        "email": {"Gmail": {"domains": ["mail.google.com"], "parameters": []}},
        "chatbot": {"ChatGPT": {"domains": ["chatgpt.com"], "parameters": []}},
        "paid": {"Criteo": {"domains": ["criteo.com"], "parameters": []}},
        "unknown": {"Google": {"domains": ["support.google.com"], "parameters": []}}
    }"#;

    fn hit_from<'a>(page_url: &'a str, referrer: &'a str, knowledge: &'a Knowledge) -> EnrichedHit<'a> {
        let raw = RawHit { page_url: page_url.into(), referrer: referrer.into(), ..RawHit::default() };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        let context = knowledge.context();
        super::super::page::add(&mut hit, &context);
        campaign::add(&mut hit, &context);
        add(&mut hit, &context);
        hit
    }

    fn knowledge() -> Knowledge {
        let site = Site {
            internal_hosts: ["help.example.net", "WWW.Shop.example", "bücher.example"].map(str::to_owned).into(),
            origins: vec!["https://shop.example.org:8443".to_owned()],
            ..Site::default()
        };
        Knowledge { referrers: Referrers::parse(KNOWN).unwrap(), site: Some(site), ..Knowledge::default() }
    }

    fn source(page_url: &str, referrer: &str) -> (SourceKind, String, String, String) {
        let knowledge = knowledge();
        let source = hit_from(page_url, referrer, &knowledge).source;
        (source.kind, source.name.into_owned(), source.term.into_owned(), source.referrer_host.into_owned())
    }

    fn expect(page_url: &str, referrer: &str, kind: SourceKind, name: &str, term: &str, host: &str) {
        let expected = (kind, name.to_owned(), term.to_owned(), host.to_owned());
        assert_eq!(source(page_url, referrer), expected, "{page_url} from {referrer}");
    }

    const PAGE: &str = "https://www.example.com/a";

    #[test]
    fn without_a_referrer_a_visit_is_direct() {
        expect(PAGE, "", SourceKind::Direct, "", "", "");
        expect(PAGE, "about:client", SourceKind::Direct, "", "", "");
        expect("", "", SourceKind::Unknown, "", "", "");
    }

    #[test]
    fn the_sites_own_hosts_are_internal() {
        for (referrer, host) in [
            ("https://www.example.com/b", "www.example.com"),
            ("https://EXAMPLE.com/b", "example.com"),
            ("https://help.example.net/", "help.example.net"),
            ("https://shop.example/", "shop.example"),
            ("https://www.bücher.example/", "www.xn--bcher-kva.example"),
            ("https://shop.example.org:8443/", "shop.example.org"),
        ] {
            expect(PAGE, referrer, SourceKind::Internal, host, "", host);
        }
        let other = "https://other.example.com/";
        expect(PAGE, other, SourceKind::Referral, "other.example.com", "", "other.example.com");
    }

    #[test]
    fn known_referrers_have_a_class_and_a_name() {
        for (referrer, kind, name, term, host) in [
            (
                "https://www.google.com/search?q=acme+pumps&x=1",
                SourceKind::Search,
                "Google",
                "acme pumps",
                "www.google.com",
            ),
            ("https://www.google.com/?q=&query=pumps", SourceKind::Search, "Google", "pumps", "www.google.com"),
            ("https://www.google.com/", SourceKind::Search, "Google", "", "www.google.com"),
            ("https://de.linkedin.com/feed", SourceKind::Social, "LinkedIn", "", "de.linkedin.com"),
            ("android-app://com.linkedin.android/", SourceKind::Social, "LinkedIn", "", "com.linkedin.android"),
            ("https://mail.google.com/mail/u/0", SourceKind::Mail, "Gmail", "", "mail.google.com"),
            ("https://chatgpt.com/c/1", SourceKind::Assistant, "ChatGPT", "", "chatgpt.com"),
            ("https://cat.fr.eu.criteo.com/x", SourceKind::Campaign, "Criteo", "", "cat.fr.eu.criteo.com"),
            ("https://support.google.com/x", SourceKind::Referral, "Google", "", "support.google.com"),
            ("https://blog.example.edu/post", SourceKind::Referral, "blog.example.edu", "", "blog.example.edu"),
        ] {
            expect(PAGE, referrer, kind, name, term, host);
        }
    }

    #[test]
    fn a_campaign_wins_over_every_referrer() {
        let tagged = "https://www.example.com/?utm_source=newsletter&utm_medium=email";
        let kind = SourceKind::Campaign;
        expect(tagged, "https://www.google.com/?q=a", kind, "newsletter", "", "www.google.com");
        expect(tagged, "https://www.example.com/", kind, "newsletter", "", "www.example.com");
        expect("https://www.example.com/?gclid=1", "https://www.google.com/", kind, "Google Ads", "", "www.google.com");
        expect("https://www.example.com/?utm_campaign=sale", "", kind, "", "", "");
    }

    #[test]
    fn the_mark_of_a_platform_is_no_campaign() {
        let marked = "https://www.example.com/?fbclid=1";
        expect(marked, "https://de.linkedin.com/", SourceKind::Social, "LinkedIn", "", "de.linkedin.com");
        expect(marked, "", SourceKind::Direct, "", "", "");
    }

    #[test]
    fn an_assistant_that_names_itself_in_the_link_is_an_assistant() {
        let link = "https://www.example.com/?utm_source=chatgpt.com";
        expect(link, "", SourceKind::Assistant, "ChatGPT", "", "");
        let advertisement = "https://www.example.com/?utm_source=chatgpt.com&utm_medium=cpc";
        expect(advertisement, "", SourceKind::Campaign, "chatgpt.com", "", "");
    }

    #[test]
    fn an_opened_mail_comes_from_mail() {
        let knowledge = knowledge();
        let raw = RawHit { kind: Kind::MailOpen, ..RawHit::default() };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        add(&mut hit, &knowledge.context());
        assert_eq!(hit.source.kind, SourceKind::Mail);
    }

    #[test]
    fn a_referrer_that_is_no_address_is_a_problem() {
        let knowledge = knowledge();
        let hit = hit_from(PAGE, "not an address", &knowledge);
        assert_eq!((hit.source.kind, problems(&hit)), (SourceKind::Unknown, vec!["referrer_unreadable".to_owned()]));
    }
}
