//! Campaign parameters and click ids of the page's address.
//!
//! Google's names (`utm_source`, ...) and Matomo's (`mtm_source`, `pk_source`, ...) are the same six fields; where a
//! link carries several, the earlier family of [`FAMILIES`] wins. They are also read from the fragment, where Matomo
//! allows them, and from a query in it.

use std::borrow::Cow;

use schemas::{Campaign, EnrichedHit};

use super::Context;

/// Beginnings of parameter names, the strongest first.
const FAMILIES: [&str; 5] = ["utm_", "mtm_", "matomo_", "pk_", "piwik_"];

/// A parameter that an advertising network or a platform adds to links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClickId {
    /// Name of the parameter, lower case.
    pub parameter: &'static str,
    /// Who adds it.
    pub network: &'static str,
    /// True where only paid clicks carry it. Facebook and Instagram mark every link that leaves them.
    pub paid: bool,
}

const fn paid(parameter: &'static str, network: &'static str) -> ClickId {
    ClickId { parameter, network, paid: true }
}

/// The strongest first: an id of the ad that was clicked says more than a mark of the platform it was shown on.
const CLICK_IDS: &[ClickId] = &[
    paid("gclid", "Google Ads"),
    paid("gbraid", "Google Ads"),
    paid("wbraid", "Google Ads"),
    paid("dclid", "Google Marketing Platform"),
    paid("msclkid", "Microsoft Advertising"),
    paid("li_fat_id", "LinkedIn Ads"),
    paid("ttclid", "TikTok Ads"),
    paid("twclid", "X Ads"),
    paid("yclid", "Yandex Direct"),
    paid("rdt_cid", "Reddit Ads"),
    paid("qclid", "Quora Ads"),
    paid("epik", "Pinterest Ads"),
    paid("sccid", "Snapchat Ads"),
    paid("tblci", "Taboola"),
    paid("dicbo", "Outbrain"),
    paid("irclickid", "impact.com"),
    ClickId { parameter: "fbclid", network: "Facebook", paid: false },
    ClickId { parameter: "igshid", network: "Instagram", paid: false },
];

/// Who adds the parameter that holds a hit's click id.
pub(super) fn click_id(parameter: &str) -> Option<&'static ClickId> {
    CLICK_IDS.iter().find(|known| known.parameter == parameter)
}

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, _: &Context<'a>) {
    let fragment = hit.hit.page_url.split_once('#').map_or("", |(_, fragment)| fragment);
    if !hit.page.query.contains('=') && !fragment.contains('=') {
        return;
    }
    let mut found = Found::default();
    for text in [hit.page.query.as_ref(), parameters(fragment)] {
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if !value.is_empty() {
                found.take(&name, &value);
            }
        }
    }
    hit.campaign = found.campaign();
}

/// The parameters of a fragment. Applications of one page keep their paths there, with queries of their own.
fn parameters(fragment: &str) -> &str {
    match fragment.split_once('?') {
        Some((path, query)) if !path.contains('=') => query,
        _ => fragment,
    }
}

/// What was found so far, with the rank of what said so; a lower rank wins.
#[derive(Default)]
struct Found {
    fields: [Option<(usize, String)>; 6],
    click_id: Option<(usize, String)>,
}

impl Found {
    fn take(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        let named = FAMILIES.iter().enumerate().find_map(|(rank, family)| Some((rank, name.strip_prefix(family)?)));
        if let Some((rank, field)) = named {
            if let Some(field) = field_of(field) {
                keep_stronger(&mut self.fields[field], rank, value);
            }
        } else if let Some(rank) = CLICK_IDS.iter().position(|known| known.parameter == name) {
            keep_stronger(&mut self.click_id, rank, value);
        }
    }

    fn campaign(self) -> Campaign<'static> {
        let [source, medium, name, term, content, id] =
            self.fields.map(|field| Cow::Owned(field.map(|(_, value)| value).unwrap_or_default()));
        let (click_id_kind, click_id) = match self.click_id {
            Some((rank, value)) => (CLICK_IDS[rank].parameter, value),
            None => ("", String::new()),
        };
        Campaign {
            source,
            medium,
            name,
            term,
            content,
            id,
            click_id_kind: Cow::Borrowed(click_id_kind),
            click_id: Cow::Owned(click_id),
        }
    }
}

fn field_of(name: &str) -> Option<usize> {
    match name {
        "source" => Some(0),
        "medium" => Some(1),
        "campaign" | "name" => Some(2),
        "term" | "keyword" | "kwd" => Some(3),
        "content" => Some(4),
        "id" | "cid" => Some(5),
        _ => None,
    }
}

fn keep_stronger(place: &mut Option<(usize, String)>, rank: usize, value: &str) {
    // Of equals the first: that is what was in the link before something else was appended.
    if place.as_ref().is_none_or(|(kept, _)| rank < *kept) {
        *place = Some((rank, value.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use schemas::RawHit;

    use super::super::testing::Knowledge;
    use super::*;

    fn campaign(url: &str) -> Campaign<'static> {
        let knowledge = Knowledge::default();
        let raw = RawHit { page_url: url.to_owned().into(), ..RawHit::default() };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        super::super::page::add(&mut hit, &knowledge.context());
        add(&mut hit, &knowledge.context());
        let found = hit.campaign;
        let own = |text: schemas::Text<'_>| schemas::codec::owned(text);
        Campaign {
            source: own(found.source),
            medium: own(found.medium),
            name: own(found.name),
            term: own(found.term),
            content: own(found.content),
            id: own(found.id),
            click_id_kind: own(found.click_id_kind),
            click_id: own(found.click_id),
        }
    }

    #[test]
    fn all_six_parameters_are_read_and_decoded() {
        let url = "https://a.example/?utm_source=news&UTM_Medium=e-mail&utm_campaign=spring+sale&utm_term=a%26b\
                   &utm_content=top&utm_id=7&x=1";
        let expected = Campaign {
            source: "news".into(),
            medium: "e-mail".into(),
            name: "spring sale".into(),
            term: "a&b".into(),
            content: "top".into(),
            id: "7".into(),
            ..Campaign::default()
        };
        assert_eq!(campaign(url), expected);
    }

    #[test]
    fn matomo_names_count_and_give_way_to_utm() {
        let found = campaign("https://a.example/?pk_source=old&mtm_source=new&mtm_kwd=word&mtm_cid=9&pk_campaign=c");
        assert_eq!((&*found.source, &*found.term, &*found.id, &*found.name), ("new", "word", "9", "c"));
        assert_eq!(campaign("https://a.example/?mtm_source=m&utm_source=u").source, "u");
    }

    #[test]
    fn parameters_in_the_fragment_count() {
        assert_eq!(campaign("https://a.example/#mtm_campaign=f").name, "f");
        assert_eq!(campaign("https://a.example/?utm_campaign=q#utm_campaign=f").name, "q");
        // Applications of one page keep their paths there, with queries of their own.
        let found = campaign("https://a.example/#/offers?utm_source=news&utm_medium=mail");
        assert_eq!((&*found.source, &*found.medium), ("news", "mail"));
        assert_eq!(campaign("https://a.example/#utm_source=what?&utm_id=7").source, "what?");
    }

    #[test]
    fn an_empty_value_is_none_and_the_first_of_two_wins() {
        assert_eq!(campaign("https://a.example/?utm_source=&utm_source=b&utm_source=c").source, "b");
    }

    #[test]
    fn the_click_id_of_an_ad_is_stronger_than_the_mark_of_a_platform() {
        let found = campaign("https://a.example/?fbclid=F&gclid=G1&msclkid=M");
        assert_eq!((&*found.click_id_kind, &*found.click_id), ("gclid", "G1"));
        let found = campaign("https://a.example/?ScCid=S");
        assert_eq!((&*found.click_id_kind, &*found.click_id), ("sccid", "S"));
    }

    #[test]
    fn an_ordinary_page_has_no_campaign() {
        for url in ["https://a.example/?q=1&page=2", "https://a.example/", "https://a.example/#top", "nonsense"] {
            assert_eq!(campaign(url), Campaign::default(), "{url}");
        }
    }
}
