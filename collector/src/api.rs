//! Hits as JSON: one object, an array, or one object a line (NDJSON).

use hyper::StatusCode;
use schemas::{Protocol, Signal};
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::assemble::{self, Context};
use crate::client::Client;
use crate::fields::Fields;
use crate::identity::Newcomer;
use crate::metrics::Metrics;
use crate::objections::{self, Held};
use crate::outcome::{Outcome, Received};
use crate::policy::{self, Decision};
use crate::publisher::{Durable, Messages, PublishError};
use crate::routes::{Collector, OTHER_REGION, UNKNOWN_SITE};
use crate::unreadable::{self, Told, Unreadable};

/// A hit larger than this as JSON is none.
const LARGEST_HIT: usize = 65_536;

/// What is said of a script that may not send for a site.
const OTHER_ORIGIN: &str = "the origin is not one of the site's";

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

/// A hit that is not stored, or all those from one on that are beyond the most of one body.
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
    held: Held,
}

/// Reads the hits of a body.
#[must_use]
pub fn prepare(collector: &Collector, client: &Client<'_>, body: &[u8]) -> Prepared {
    let most = collector.options.batch_hits;
    let Items { taken, beyond } =
        match std::str::from_utf8(body).map_err(Problem::NotUtf8).and_then(|text| items(text, most)) {
            Ok(items) => items,
            Err(problem) => return nothing_read(collector, client, body, &problem),
        };
    let mut prepared = Prepared::default();
    let newcomer = Newcomer::default();
    for (index, item) in taken.into_iter().enumerate() {
        let received = Received::count(&collector.metrics);
        prepared.hit(collector, client, &newcomer, received, index, item);
    }
    if beyond > 0 {
        prepared.reject_beyond(&collector.metrics, most, beyond);
    }
    prepared
}

/// A body of which nothing can be read counts as one hit.
#[must_use]
pub fn nothing_read(collector: &Collector, client: &Client<'_>, body: &[u8], problem: &Problem) -> Prepared {
    let mut prepared = Prepared::default();
    let received = Received::count(&collector.metrics);
    prepared.unreadable(collector, client, received, 0, body, problem);
    prepared
}

/// Why something that was meant as a hit can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The body can't be decompressed.
    #[error("the body is not {0}")]
    Undecodable(String),
    /// Text that is none.
    #[error("{0}")]
    NotUtf8(std::str::Utf8Error),
    /// Nothing at all.
    #[error("the body is empty")]
    Empty,
    /// It is not JSON, or a value in it is of another type than it should be.
    #[error("{0}")]
    Json(serde_json::Error),
    /// It is too large.
    #[error("the hit is larger than {LARGEST_HIT} bytes")]
    TooLarge,
}

impl Problem {
    /// What is wrong, without anything of what was sent: serde's messages quote values.
    fn detail(&self) -> String {
        let Self::Json(error) = self else { return self.to_string() };
        let what = match error.classify() {
            serde_json::error::Category::Data => "a value is not of its type",
            _ => "it is not JSON",
        };
        format!("{what}, at line {} column {}", error.line(), error.column())
    }
}

/// The hits of a body, each as JSON.
#[derive(Debug, Default, PartialEq, Eq)]
struct Items<'a> {
    /// As many as one body may have.
    taken: Vec<&'a str>,
    /// How many came after them. They are not told apart any further: a body of few bytes can hold half a million.
    beyond: usize,
}

/// The first `most` hits of a body.
fn items(text: &str, most: usize) -> Result<Items<'_>, Problem> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if text.starts_with('[') {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let items = FirstOfArray(most).deserialize(&mut deserializer).map_err(Problem::Json)?;
        return deserializer.end().map(|()| items).map_err(Problem::Json);
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(item) => Ok(Items { taken: vec![item.get()], beyond: 0 }),
        Err(_) if begins_with_a_line_of_json(text) => {
            let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            Ok(Items { taken: lines.by_ref().take(most).collect(), beyond: lines.count() })
        }
        Err(error) => Err(Problem::Json(error)),
    }
}

/// True for one hit a line. A hit of many lines that can't be read is judged as a whole: what its person says of their consent
/// stands in another line than who they are.
fn begins_with_a_line_of_json(text: &str) -> bool {
    text.split_once('\n').is_some_and(|(line, _)| serde_json::from_str::<IgnoredAny>(line).is_ok())
}

/// Reads so many elements of an array, and counts the others.
struct FirstOfArray(usize);

impl<'de> DeserializeSeed<'de> for FirstOfArray {
    type Value = Items<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FirstOfArray {
    type Value = Items<'de>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array of hits")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Items::default();
        while items.taken.len() < self.0 {
            let Some(item) = access.next_element::<&RawValue>()? else { return Ok(items) };
            items.taken.push(item.get());
        }
        while access.next_element::<IgnoredAny>()?.is_some() {
            items.beyond += 1;
        }
        Ok(items)
    }
}

impl Prepared {
    fn reject(&mut self, received: Received, outcome: Outcome, index: usize, reason: String) {
        received.close(outcome);
        self.answer.rejected.push(Rejected { index, reason, outcome });
    }

    /// Rejects all hits of a body after its first `most` with one entry.
    fn reject_beyond(&mut self, metrics: &Metrics, most: usize, beyond: usize) {
        let outcome = Outcome::DroppedBatchTooLarge;
        metrics.count_at_once(outcome, beyond as u64);
        let reason = format!("the last {beyond} hits are beyond the {most} of one body");
        self.answer.rejected.push(Rejected { index: most, reason, outcome });
    }

    fn unreadable(
        &mut self,
        collector: &Collector,
        client: &Client<'_>,
        received: Received,
        index: usize,
        original: &[u8],
        problem: &Problem,
    ) {
        let (told, detail) = (Told::by_json(original), problem.detail());
        let unreadable = Unreadable { original, detail: &detail, told: &told, held: &self.held };
        match unreadable::bury(collector, client, true, &mut self.messages, unreadable) {
            Outcome::DeadLettered => {
                self.open.push((received, Outcome::DeadLettered));
                let reason = problem.to_string();
                self.answer.rejected.push(Rejected { index, reason, outcome: Outcome::DeadLettered });
            }
            Outcome::DroppedUnknownSite => {
                self.reject(received, Outcome::DroppedUnknownSite, index, UNKNOWN_SITE.to_owned());
            }
            Outcome::DroppedRegion => self.reject(received, Outcome::DroppedRegion, index, OTHER_REGION.to_owned()),
            Outcome::DroppedOrigin => self.reject(received, Outcome::DroppedOrigin, index, OTHER_ORIGIN.to_owned()),
            outcome => self.reject(received, outcome, index, problem.to_string()),
        }
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
            return self.unreadable(collector, client, received, index, item.as_bytes(), &Problem::TooLarge);
        }
        let (fields, unknown) = match Fields::from_json(item) {
            Ok(read) => read,
            Err(error) => {
                return self.unreadable(collector, client, received, index, item.as_bytes(), &Problem::Json(error));
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
            return self.reject(received, Outcome::DroppedOrigin, index, OTHER_ORIGIN.to_owned());
        }
        let measurement = fields.consent.as_ref().and_then(|consent| consent.measurement.permits());
        let objects = collector.objections.holds(&site_key, client, &fields);
        if objects && self.cookies.is_empty() {
            self.cookies = objections::set_cookies(client, &sites);
        }
        let decision =
            if objects { policy::under(site, Signal::OptOut) } else { policy::decide(site, client, measurement) };
        let Some(signal) = decision.signal() else {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_an_array_and_lines_are_told_apart() {
        let taken = |text| items(text, 9).map(|items| items.taken);
        assert_eq!(taken("{\"a\":1}").unwrap(), ["{\"a\":1}"]);
        assert_eq!(taken("\u{feff} {\n\"a\": 1\n}\n").unwrap(), ["{\n\"a\": 1\n}"]);
        assert_eq!(taken("[{\"a\":1}, 2]").unwrap(), ["{\"a\":1}", "2"]);
        assert_eq!(taken("{\"a\":1}\r\n\n{\"b\":2}\nbroken").unwrap(), ["{\"a\":1}", "{\"b\":2}", "broken"]);
        assert_eq!(taken("[]").unwrap(), [""; 0]);
        for broken in ["", "  ", "{\"a\":", "[{\"a\":1}", "hello", "{\n\"a\": 1,\n}", "{\"a\":1},\n{\"a\":2}"] {
            assert!(taken(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn what_is_beyond_the_most_hits_is_counted_only() {
        for text in ["[1,2,{\"a\":[3]},4]", "1\n2\n\n{}\r\nx"] {
            assert_eq!(items(text, 2).unwrap(), Items { taken: vec!["1", "2"], beyond: 2 }, "{text}");
            assert_eq!(items(text, 4).unwrap().beyond, 0, "{text}");
        }
        for broken in ["[1,2,3", "[1,2,3}", "[1,2,3] 4", "[1,2,x]"] {
            assert!(items(broken, 1).is_err(), "{broken}");
        }
    }
}
