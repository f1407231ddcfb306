//! Hits as JSON: one object, an array, or one object a line (NDJSON).

use hyper::StatusCode;
use schemas::{DeadLetter, Protocol, Stage};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::assemble::{self, Context};
use crate::client::Client;
use crate::fields::Fields;
use crate::identity::Newcomer;
use crate::outcome::{Outcome, Received};
use crate::policy::{self, Decision};
use crate::publisher::{Durable, Messages, PublishError};
use crate::routes::{Collector, OTHER_REGION, UNKNOWN_SITE};

/// A hit larger than this as JSON is none.
const LARGEST_HIT: usize = 65_536;
/// Of a body that can't be read, so much is kept.
const LARGEST_DEAD_BODY: usize = 65_536;

/// What is answered.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// Hits that are durable.
    pub accepted: usize,
    /// Hits that the site does not want, since the person objects.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: usize,
    /// Hits that are not stored, and why.
    pub rejected: Vec<Rejected>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A hit that is not stored.
#[derive(Debug, Serialize)]
pub struct Rejected {
    /// Its place among the hits of the body, from 0.
    pub index: usize,
    /// Why.
    pub reason: String,
    #[serde(skip)]
    outcome: Outcome,
}

/// What a body holds, ready to be published.
#[derive(Debug, Default)]
pub struct Prepared {
    /// To be published.
    pub messages: Messages,
    /// Hits whose outcome depends on that, and what it is if all goes well.
    pub open: Vec<(Received, Outcome)>,
    /// What is answered if all goes well.
    pub answer: Answer,
    /// Cookies to be set.
    pub cookies: Vec<hyper::header::HeaderValue>,
}

/// Reads the hits of a body.
#[must_use]
pub fn prepare(collector: &Collector, client: &Client<'_>, body: &[u8]) -> Prepared {
    let mut prepared = Prepared::default();
    let items = match std::str::from_utf8(body).map_err(|error| error.to_string()).and_then(items) {
        Ok(items) => items,
        Err(reason) => {
            let received = Received::count(&collector.metrics);
            let kept = &body[..body.len().min(LARGEST_DEAD_BODY)];
            prepared.dead_letter(collector, received, Unreadable { index: 0, site: "", original: kept, reason });
            return prepared;
        }
    };
    let newcomer = Newcomer::default();
    for (index, item) in items.into_iter().enumerate() {
        let received = Received::count(&collector.metrics);
        if index >= collector.options.batch_hits {
            let reason = format!("beyond the {} hits of one body", collector.options.batch_hits);
            prepared.reject(received, Outcome::DroppedBatchTooLarge, index, reason);
        } else {
            prepared.hit(collector, client, &newcomer, received, index, item);
        }
    }
    prepared
}

/// The hits of a body, each as JSON.
fn items(text: &str) -> Result<Vec<&str>, String> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err("the body is empty".to_owned());
    }
    if text.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return Ok(items.into_iter().map(RawValue::get).collect());
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(item) => Ok(vec![item.get()]),
        Err(_) if text.contains('\n') => Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()),
        Err(error) => Err(error.to_string()),
    }
}

/// Something that was meant as a hit.
struct Unreadable<'a> {
    index: usize,
    site: &'a str,
    original: &'a [u8],
    reason: String,
}

impl Prepared {
    fn reject(&mut self, received: Received, outcome: Outcome, index: usize, reason: String) {
        received.close(outcome);
        self.answer.rejected.push(Rejected { index, reason, outcome });
    }

    fn dead_letter(&mut self, collector: &Collector, received: Received, unreadable: Unreadable<'_>) {
        let Unreadable { index, site, original, reason } = unreadable;
        collector.publisher.add_dead_letter(&mut self.messages, &dead_letter(site, original, &reason));
        self.open.push((received, Outcome::DeadLettered));
        self.answer.rejected.push(Rejected { index, reason, outcome: Outcome::DeadLettered });
    }

    fn hit(
        &mut self,
        collector: &Collector,
        client: &Client<'_>,
        newcomer: &Newcomer,
        received: Received,
        index: usize,
        item: &str,
    ) {
        if item.len() > LARGEST_HIT {
            let reason = format!("the hit is larger than {LARGEST_HIT} bytes");
            let original = &item.as_bytes()[..LARGEST_HIT];
            return self.dead_letter(collector, received, Unreadable { index, site: "", original, reason });
        }
        let (fields, unknown) = match Fields::from_json(item) {
            Ok(read) => read,
            Err(error) => {
                let unreadable = Unreadable { index, site: "", original: item.as_bytes(), reason: error.to_string() };
                return self.dead_letter(collector, received, unreadable);
            }
        };
        collector.metrics.unknown_parameters.inc_by(unknown as u64);
        let site_key = fields.site.0.clone();
        if site_key.is_empty() {
            return self.reject(received, Outcome::DroppedNoSite, index, "the hit names no site".to_owned());
        }
        let sites = collector.sites.current();
        let site = match collector.site(&sites, &site_key) {
            Ok(site) => site,
            Err(Outcome::DroppedRegion) => {
                return self.reject(received, Outcome::DroppedRegion, index, OTHER_REGION.to_owned());
            }
            Err(outcome) => return self.reject(received, outcome, index, UNKNOWN_SITE.to_owned()),
        };
        if client.origin().is_some_and(|origin| !site.allows_origin(&origin)) {
            let reason = "the origin is not one of the site's".to_owned();
            return self.reject(received, Outcome::DroppedOrigin, index, reason);
        }
        let measurement = fields.consent.as_ref().and_then(|consent| consent.measurement);
        let Some(signal) = policy::decide(site, client, measurement).signal() else {
            received.close(Outcome::DroppedObjection);
            self.answer.dropped += 1;
            return;
        };
        let context = Context {
            site_key: &site_key,
            site,
            protocol: Protocol::Api,
            signal,
            keys: &collector.daily_keys,
            newcomer,
            received_at: assemble::now_milliseconds(),
        };
        let assembled = assemble::assemble(fields, client, context);
        collector.count_invalid(&assembled.invalid);
        if self.cookies.is_empty() {
            self.cookies.extend(assembled.identity.cookies(site, client));
        }
        collector.publisher.add_hit(&mut self.messages, &assembled.hit);
        self.open.push((received, Outcome::Accepted));
        self.answer.accepted += 1;
    }

    /// Says of every hit that was to be published what became of it.
    pub fn settle(&mut self, result: Result<Durable, PublishError>) {
        for (received, outcome) in self.open.drain(..) {
            received.close(outcome.after(result));
        }
    }
}

impl Decision {
    /// The signal of a hit that is kept; nothing for one that is not.
    #[must_use]
    pub fn signal(self) -> Option<schemas::Signal> {
        match self {
            Self::Keep => Some(schemas::Signal::None),
            Self::Anonymous(signal) => Some(signal),
            Self::Drop => None,
        }
    }
}

impl Answer {
    /// The status of a body whose hits are dealt with. Where none was taken, it is that of the first rejection.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.rejected.first() {
            Some(first) if self.accepted + self.dropped == 0 => match first.outcome {
                Outcome::DroppedUnknownSite => StatusCode::NOT_FOUND,
                Outcome::DroppedRegion => StatusCode::MISDIRECTED_REQUEST,
                Outcome::DroppedOrigin => StatusCode::FORBIDDEN,
                _ => StatusCode::BAD_REQUEST,
            },
            _ => StatusCode::OK,
        }
    }
}

/// A dead letter of the collector.
#[must_use]
pub fn dead_letter<'a>(site: &'a str, original: &'a [u8], detail: &'a str) -> DeadLetter<'a> {
    DeadLetter {
        dead_letter_id: Uuid::now_v7(),
        stage: Stage::Collector,
        reason: "unreadable".into(),
        detail: detail.into(),
        dead_at: assemble::now_milliseconds(),
        site: site.into(),
        original: original.into(),
        ..DeadLetter::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_an_array_and_lines_are_told_apart() {
        assert_eq!(items("{\"a\":1}").unwrap(), ["{\"a\":1}"]);
        assert_eq!(items("\u{feff} {\n\"a\": 1\n}\n").unwrap(), ["{\n\"a\": 1\n}"]);
        assert_eq!(items("[{\"a\":1}, 2]").unwrap(), ["{\"a\":1}", "2"]);
        assert_eq!(items("{\"a\":1}\r\n\n{\"b\":2}\nbroken").unwrap(), ["{\"a\":1}", "{\"b\":2}", "broken"]);
        assert_eq!(items("[]").unwrap(), [""; 0]);
        for broken in ["", "  ", "{\"a\":", "[{\"a\":1}", "hello"] {
            assert!(items(broken).is_err(), "{broken:?}");
        }
    }
}
