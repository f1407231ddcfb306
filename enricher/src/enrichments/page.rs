//! The parts of the page's address, so that nobody has to take it apart in SQL.

use schemas::{EnrichedHit, PageAddress};

use super::web_address::{self, Address};
use super::{Context, Problem, note};

pub(super) fn add<'a>(hit: &mut EnrichedHit<'a>, _: &Context<'a>) {
    if hit.hit.page_url.is_empty() {
        return;
    }
    let Some(Address { host, path, query }) = web_address::read_text(&hit.hit.page_url) else {
        return note(hit, Problem::PageUrlUnreadable);
    };
    hit.page = PageAddress { host, path, query };
}

#[cfg(test)]
mod tests {
    use schemas::RawHit;

    use super::super::testing::{Knowledge, problems};
    use super::*;

    fn parts(url: &str) -> (String, String, String, Vec<String>) {
        let knowledge = Knowledge::default();
        let raw = RawHit { page_url: url.into(), ..RawHit::default() };
        let mut hit = EnrichedHit { hit: raw, ..EnrichedHit::default() };
        add(&mut hit, &knowledge.context());
        let problems = problems(&hit);
        (hit.page.host.into_owned(), hit.page.path.into_owned(), hit.page.query.into_owned(), problems)
    }

    #[test]
    fn an_address_is_taken_apart() {
        for (url, host, path, query) in [
            ("https://WWW.Example.com:8443/a/b?x=1&y=2#top", "www.example.com", "/a/b", "x=1&y=2"),
            ("http://example.com", "example.com", "/", ""),
            ("//example.com/a", "example.com", "/a", ""),
            ("https://bücher.example/ä b", "xn--bcher-kva.example", "/%C3%A4%20b", ""),
            ("https://[2001:db8::1]/", "[2001:db8::1]", "/", ""),
            ("https://192.0.2.7/?", "192.0.2.7", "/", ""),
            ("app://Shop/screen/1", "shop", "/screen/1", ""),
            ("file:///C:/a.html", "", "/C:/a.html", ""),
            ("", "", "", ""),
        ] {
            assert_eq!(parts(url), (host.to_owned(), path.to_owned(), query.to_owned(), vec![]), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_a_problem() {
        for url in ["/relative", "example.com/a", "https://", "https://a b/", "nonsense"] {
            assert_eq!(parts(url).3, ["page_url_unreadable"], "{url}");
        }
    }
}
