//! The pages by which a person objects, takes the objection back, or looks up which it is.

use hyper::header::HeaderValue;
use service::sites::Sites;

use crate::client::Client;
use crate::cookies::{self, Scope};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To object.
    OptOut,
    /// To take it back.
    OptIn,
    /// To know.
    Status,
}

/// True for the wishes of the person itself. A page of a stranger may show a picture of /opt-in, and must not undo an
/// objection by it; objecting on somebody's behalf harms nobody.
#[must_use]
pub fn is_permitted(wish: Wish, same_site: bool, known_origin: bool) -> bool {
    wish != Wish::OptIn || same_site || known_origin
}

/// True once the wish is carried out: whether the person objects.
#[must_use]
pub fn opted_out(wish: Wish, client: &Client<'_>) -> bool {
    match wish {
        Wish::OptOut => true,
        Wish::OptIn => false,
        Wish::Status => client.cookie(cookies::OPT_OUT).is_some(),
    }
}

/// The cookies that carry a wish out, wherever this host may set them: the tag keeps its own on the site's domain, and sees
/// no others.
#[must_use]
pub fn set_cookies(wish: Wish, client: &Client<'_>, sites: &Sites) -> Vec<HeaderValue> {
    let mut domains: Vec<Option<&str>> = sites.iter().map(|(_, site)| site.cookie_domain.as_deref()).collect();
    domains.push(None);
    domains.sort_unstable();
    domains.dedup();
    let within_reach = domains.into_iter().filter(|domain| domain.is_none_or(|name| covers(name, client.host())));
    within_reach.flat_map(|domain| cookies_of(wish, Scope { domain, secure: client.secure })).collect()
}

fn cookies_of(wish: Wish, scope: Scope<'_>) -> impl Iterator<Item = HeaderValue> {
    let set = match wish {
        Wish::Status => [None, None, None],
        Wish::OptIn => [cookies::remove(cookies::OPT_OUT, scope), None, None],
        Wish::OptOut => [
            cookies::set(cookies::OPT_OUT, "1", cookies::THIRTEEN_MONTHS_SECONDS, scope),
            cookies::remove(cookies::VISITOR, scope),
            cookies::remove(cookies::SESSION, scope),
        ],
    };
    set.into_iter().flatten()
}

fn covers(domain: &str, host: &str) -> bool {
    let domain = domain.trim_start_matches('.');
    host == domain || host.strip_suffix(domain).is_some_and(|start| start.ends_with('.'))
}

/// The page a person sees.
#[must_use]
pub fn page(opted_out: bool) -> String {
    let (state, action, label) = if opted_out {
        ("Your visits are not recorded under any identifier.", "/opt-in", "Allow measuring again")
    } else {
        ("Your visits may be measured.", "/opt-out", "Do not measure my visits")
    };
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Measuring visits</title><style>body{{font:1rem/1.5 system-ui;max-width:36rem;margin:3rem auto;padding:0 1rem}}</style>\
         <h1>Measuring visits</h1><p role=\"status\">{state}</p>\
         <form method=\"post\" action=\"{action}\"><button>{label}</button></form>\
         <p>Your choice is kept in a cookie of this browser for 13 months, and lost when you delete its cookies. It covers our \
         own cookies on the websites that use this service. Advertising networks have pages of their own: \
         <a href=\"https://adssettings.google.com/\">Google</a>, \
         <a href=\"https://optout.networkadvertising.org/\">Network Advertising Initiative</a>.</p></html>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_page_cannot_undo_an_objection() {
        assert!(is_permitted(Wish::OptOut, false, false));
        assert!(!is_permitted(Wish::OptIn, false, false));
        assert!(is_permitted(Wish::OptIn, true, false) && is_permitted(Wish::OptIn, false, true));
    }

    #[test]
    fn a_domain_covers_its_hosts_only() {
        assert!(covers("example.com", "t.example.com") && covers(".example.com", "example.com"));
        assert!(!covers("example.com", "badexample.com"));
    }
}
