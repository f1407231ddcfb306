//! Hits as a picture: whatever comes of them, the page gets its pixel.

use hyper::header::HeaderValue;
use schemas::{Protocol, Signal};

use crate::assemble::{self, Context};
use crate::client::Client;
use crate::fields::{Fields, QueryError};
use crate::identity::Newcomer;
use crate::objections::{self, Held};
use crate::outcome::Outcome;
use crate::policy;
use crate::publisher::Messages;
use crate::routes::Collector;
use crate::unreadable::{self, Told, Unreadable};

/// A transparent GIF of one pixel (GIF89a), the smallest that all browsers take: 43 bytes.
pub const GIF: &[u8; 43] =
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff\x21\xf9\x04\x01\x00\x00\x00\x00\
    \x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

/// A pixel's hit, ready to be published.
#[derive(Debug)]
pub struct Prepared {
    /// To be published; nothing for a hit that is dropped.
    pub messages: Messages,
    /// What becomes of the hit if that goes well.
    pub outcome: Outcome,
    /// Cookies to be set.
    pub cookies: Vec<HeaderValue>,
}

impl Prepared {
    fn dropped(outcome: Outcome) -> Self {
        Self { messages: Messages::default(), outcome, cookies: Vec::new() }
    }
}

/// Reads the hit of a query string.
#[must_use]
pub fn prepare(collector: &Collector, client: &Client<'_>, query: &str) -> Prepared {
    let sites = collector.sites.current();
    let (fields, unknown) = match Fields::from_query(query) {
        Ok(read) => read,
        Err(error) => return unreadable(collector, client, query, error),
    };
    collector.metrics.unknown_parameters.inc_by(unknown as u64);
    let site_key = fields.site.0.clone();
    if site_key.is_empty() {
        return Prepared::dropped(Outcome::DroppedNoSite);
    }
    let site = match collector.site(&sites, &site_key) {
        Ok(site) => site,
        Err(outcome) => return Prepared::dropped(outcome),
    };
    let measurement = fields.consent.as_ref().and_then(|consent| consent.measurement.permits());
    let objects = collector.objections.holds(&site_key, client, &fields);
    let mut cookies = if objects { objections::set_cookies(client, &sites) } else { Vec::new() };
    let decision =
        if objects { policy::under(site, Signal::OptOut) } else { policy::decide(site, client, measurement) };
    let Some(signal) = decision.signal() else {
        return Prepared { cookies, ..Prepared::dropped(Outcome::DroppedObjection) };
    };
    let context = Context {
        site_key: &site_key,
        site,
        protocol: Protocol::Pixel,
        signal,
        keys: &collector.daily_keys,
        newcomer: &Newcomer::default(),
        received_at: assemble::now_milliseconds(),
    };
    let assembled = assemble::assemble(fields, client, context);
    collector.count_invalid(&assembled.invalid);
    let mut messages = Messages::default();
    collector.publisher.add_hit(&mut messages, &assembled.hit);
    cookies.extend(assembled.identity.cookies(site, client));
    Prepared { messages, outcome: Outcome::Accepted, cookies }
}

fn unreadable(collector: &Collector, client: &Client<'_>, query: &str, error: QueryError) -> Prepared {
    let mut messages = Messages::default();
    let (told, detail) = (Told::by_query(query), error.to_string());
    let unreadable = Unreadable { original: query.as_bytes(), detail: &detail, told: &told, held: &Held::default() };
    let outcome = unreadable::bury(collector, client, false, &mut messages, unreadable);
    Prepared { messages, outcome, cookies: Vec::new() }
}
