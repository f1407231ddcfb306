//! One message: from the bytes of hits.raw to the bytes of hits.enriched, or to the reason why that can't be.
//!
//! Nothing here talks to Kafka, so that benches and tests run exactly what a worker runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::IntCounter;
use schemas::codec::decode_all;
use schemas::{DeadLetter, EnrichedHit, RawHit, Reader, Stage, Text, WireError, Writer};
use service::privacy::asked::Asked;
use service::sites::SitesFile;
use uuid::Uuid;

use crate::data::geoip::GeoIp;
use crate::data::referrers::Referrers;
use crate::data::user_agents::UserAgents;
use crate::enrichments::{self, Context};
use crate::metrics::Metrics;
use crate::partners::index::PartnerIndex;
use crate::privacy::{self, Visitor};

/// Why a message can't become an enriched hit: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// It has no value.
    Empty,
    /// It starts with no header that is known.
    HeaderMissing,
    /// It names a schema that this version or its registry does not know. Worth a replay after an upgrade.
    SchemaUnknown,
    /// Its body is no hit.
    Undecodable,
    /// A step panicked, which is a defect of the enricher.
    EnrichmentFailed,
    /// The enriched hit is larger than the brokers take.
    TooLarge,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::Empty,
        Self::HeaderMissing,
        Self::SchemaUnknown,
        Self::Undecodable,
        Self::EnrichmentFailed,
        Self::TooLarge,
    ];

    /// Its name, as in the dead letter.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::HeaderMissing => "header_missing",
            Self::SchemaUnknown => "schema_unknown",
            Self::Undecodable => "undecodable",
            Self::EnrichmentFailed => "enrichment_failed",
            Self::TooLarge => "too_large",
        }
    }
}

/// Why a message was not enriched.
#[derive(Debug)]
pub enum Obstacle {
    /// It never will be.
    Dead {
        /// Why.
        reason: DeadReason,
        /// What exactly is wrong; holds no personal data.
        detail: String,
    },
    /// It may be later: the schema registry does not answer.
    Later(WireError),
}

impl From<WireError> for Obstacle {
    fn from(error: WireError) -> Self {
        if error.is_transient() {
            return Self::Later(error);
        }
        let reason = match &error {
            WireError::NoHeader => DeadReason::HeaderMissing,
            WireError::UnknownFingerprint(..) | WireError::NoRegistry(_) | WireError::Registry(_) => {
                DeadReason::SchemaUnknown
            }
            WireError::Resolve(..) | WireError::Schema(..) | WireError::Canonical(_) | WireError::Decode(_) => {
                DeadReason::Undecodable
            }
        };
        Self::Dead { reason, detail: without_quotes(&error) }
    }
}

/// What is wrong with a message, without what it says: apache-avro may quote that.
#[must_use]
pub fn without_quotes(error: &WireError) -> String {
    match error {
        WireError::Resolve(name, _) => format!("the message cannot be resolved into the current version of {name}"),
        other => other.to_string(),
    }
}

/// What became of a message that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enriched {
    /// It was enriched.
    Written,
    /// It was refused, and nothing is written.
    Refused,
    /// The person it is about had it erased, and nothing is written.
    Erased,
}

/// Where a message was read.
#[derive(Debug, Clone, Copy)]
pub struct Coordinates<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// All that is known beforehand, shared by all workers.
#[derive(Debug)]
pub struct Knowledge {
    /// Places and networks.
    pub geoip: GeoIp,
    /// Devices and robots.
    pub user_agents: UserAgents,
    /// Known referrers.
    pub referrers: Referrers,
    /// Sites, where there is a file of them.
    pub sites: Option<Arc<SitesFile>>,
    /// What partners know.
    pub partners: RwLock<PartnerIndex>,
    /// What people asked of us.
    pub privacy: Arc<Asked>,
}

/// Counters of the hot way, looked up once.
#[derive(Debug)]
struct CacheCounters {
    address: [IntCounter; 2],
    user_agent: [IntCounter; 2],
}

impl CacheCounters {
    fn new(metrics: &Metrics) -> Self {
        let of = |cache: &str| ["miss", "hit"].map(|result| metrics.cache.with_label_values(&[cache, result]));
        Self { address: of("address"), user_agent: of("user_agent") }
    }
}

/// Makes enriched hits of raw ones.
#[derive(Debug)]
pub struct Enricher {
    knowledge: Arc<Knowledge>,
    metrics: Metrics,
    cache: CacheCounters,
    reader: Reader,
    written: Reader,
    enriched: Writer,
    dead: Writer,
}

/// The wire formats of the three topics.
#[derive(Debug)]
pub struct Formats {
    /// Reads hits.raw.
    pub raw: Reader,
    /// Reads hits.enriched, for what was written earlier.
    pub written: Reader,
    /// Writes hits.enriched.
    pub enriched: Writer,
    /// Writes hits.dead.
    pub dead: Writer,
}

impl Formats {
    /// Single-object encoding, without a registry.
    ///
    /// # Errors
    /// Where a schema file is not a schema.
    pub fn single_object() -> Result<Self, WireError> {
        Ok(Self {
            raw: Reader::new::<RawHit>(None)?,
            written: Reader::new::<EnrichedHit>(None)?,
            enriched: Writer::single_object::<EnrichedHit>()?,
            dead: Writer::single_object::<DeadLetter>()?,
        })
    }
}

impl Enricher {
    /// An enricher with this knowledge.
    #[must_use]
    pub fn new(knowledge: Arc<Knowledge>, metrics: Metrics, formats: Formats) -> Self {
        let cache = CacheCounters::new(&metrics);
        let Formats { raw, written, enriched, dead } = formats;
        Self { knowledge, metrics, cache, reader: raw, written, enriched, dead }
    }

    /// Whether all is known that people asked of us. While it is not, no hit may be enriched.
    #[must_use]
    pub fn knows_all_directives(&self) -> bool {
        self.knowledge.privacy.is_all_known()
    }

    /// Appends to `out` the enriched hit of a message of hits.raw. `now` is Unix milliseconds.
    ///
    /// # Errors
    /// Where the message can't be enriched; what is in `out` is then of no use.
    pub fn enrich(&self, message: Option<&[u8]>, now: i64, out: &mut Vec<u8>) -> Result<(), Obstacle> {
        self.enrich_unless(message, now, out, |_, _| false).map(|_| ())
    }

    /// The same, unless the hit is to be refused, as a repetition is, or was erased. Whoever decides about refusing is told
    /// whose the hit is now: of its own visitor, or of another one, as the person asked for that.
    ///
    /// # Errors
    /// Where the message can't be enriched; what is in `out` is then of no use.
    pub fn enrich_unless(
        &self,
        message: Option<&[u8]>,
        now: i64,
        out: &mut Vec<u8>,
        refuse: impl FnOnce(&RawHit<'_>, Visitor) -> bool,
    ) -> Result<Enriched, Obstacle> {
        let message = message.ok_or_else(|| Obstacle::Dead {
            reason: DeadReason::Empty,
            detail: "the message has no value".to_owned(),
        })?;
        let body = self.reader.body(message)?;
        let mut hit: RawHit<'_> = decode_all(&body).map_err(WireError::from)?;
        let directives = self.knowledge.privacy.directives();
        let Some(visitor) = privacy::apply(&directives, &mut hit) else { return Ok(Enriched::Erased) };
        drop(directives);
        if refuse(&hit, visitor) {
            return Ok(Enriched::Refused);
        }
        guarded(|| self.enrich_hit(hit, now, out))?;
        Ok(Enriched::Written)
    }

    /// Who a hit of hits.enriched is and when it was received, Unix milliseconds.
    ///
    /// # Errors
    /// Where the message is no such hit.
    pub fn recognise(&self, message: &[u8]) -> Result<(Uuid, i64), WireError> {
        let body = self.written.body(message)?;
        let enriched: EnrichedHit<'_> = decode_all(&body)?;
        Ok((enriched.hit.hit_id, enriched.hit.received_at))
    }

    fn enrich_hit(&self, hit: RawHit<'_>, now: i64, out: &mut Vec<u8>) {
        let knowledge = &self.knowledge;
        let databases = knowledge.geoip.current();
        let (address, known_address) = databases.look_up(&hit.ip);
        let (user_agent, known_user_agent) = knowledge.user_agents.look_up(&hit.user_agent, &hit.client_hints);
        self.cache.address[usize::from(known_address)].inc();
        self.cache.user_agent[usize::from(known_user_agent)].inc();
        let sites = knowledge.sites.as_ref().map(|file| file.current());
        let site = sites.as_ref().and_then(|sites| sites.get(&hit.site));
        let partners = knowledge.partners.read().unwrap_or_else(PoisonError::into_inner);
        let context = Context {
            now,
            user_agent: &user_agent,
            address: &address,
            geoip_version: databases.version(),
            referrers: &knowledge.referrers,
            site: site.map(AsRef::as_ref),
            partners: &partners,
        };
        let enriched = enrichments::enrich(hit, &context);
        self.enriched.write(&enriched, out);
        for problem in &enriched.enrichment_errors {
            self.metrics.problems.with_label_values(&[problem.as_ref()]).inc();
        }
        self.metrics.age.observe(now.saturating_sub(enriched.hit.received_at).max(0) as f64 / 1_000.0);
    }

    /// Appends to `out` the dead letter of a message: its bytes, at most `most_bytes` of them, and why it is dead.
    pub fn bury(&self, message: &Burial<'_>, most_bytes: usize, out: &mut Vec<u8>) {
        let original = message.original.unwrap_or_default();
        let kept = &original[..original.len().min(most_bytes)];
        let cut = if kept.len() < original.len() {
            format!("; only the first {} of {} bytes are kept", kept.len(), original.len())
        } else {
            String::new()
        };
        let letter = DeadLetter {
            dead_letter_id: Uuid::now_v7(),
            stage: Stage::Enricher,
            reason: message.reason.as_str().into(),
            detail: Text::Owned(format!("{}{cut}", message.detail)),
            dead_at: message.now,
            site: site_of(message.key).into(),
            original: kept.into(),
            source_topic: message.coordinates.topic.into(),
            source_partition: Some(message.coordinates.partition),
            source_offset: Some(message.coordinates.offset),
        };
        self.dead.write(&letter, out);
    }
}

/// Runs the steps so that a defect in one of them costs a hit and not a partition: it would be read again for ever.
fn guarded(steps: impl FnOnce()) -> Result<(), Obstacle> {
    catch_unwind(AssertUnwindSafe(steps)).map_err(|_| Obstacle::Dead {
        reason: DeadReason::EnrichmentFailed,
        detail: "a step of enriching panicked; the log of the enricher says where".to_owned(),
    })
}

/// A message that is given up.
#[derive(Debug)]
pub struct Burial<'a> {
    /// Its value.
    pub original: Option<&'a [u8]>,
    /// Its key, from which the site is read.
    pub key: Option<&'a [u8]>,
    /// Where it was read.
    pub coordinates: Coordinates<'a>,
    /// Why it is given up.
    pub reason: DeadReason,
    /// What exactly is wrong.
    pub detail: &'a str,
    /// Enricher's clock, Unix milliseconds.
    pub now: i64,
}

/// The site in a key of hits.raw ([`schemas::topics::visitor_key`]); empty where there is none.
fn site_of(key: Option<&[u8]>) -> &str {
    let site = key.unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(site).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enricher() -> Enricher {
        let knowledge = Knowledge {
            geoip: GeoIp::open(None, None).unwrap(),
            user_agents: UserAgents::without_expressions(),
            referrers: Referrers::default(),
            sites: None,
            partners: RwLock::default(),
            privacy: Arc::default(),
        };
        Enricher::new(Arc::new(knowledge), Metrics::new().unwrap(), Formats::single_object().unwrap())
    }

    fn reason(message: Option<&[u8]>) -> DeadReason {
        match enricher().enrich(message, 0, &mut Vec::new()) {
            Err(Obstacle::Dead { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cant_be_read_is_dead_for_a_reason() {
        let mut good = Vec::new();
        Writer::single_object::<RawHit>().unwrap().write(&RawHit::default(), &mut good);
        enricher().enrich(Some(&good), 0, &mut Vec::new()).unwrap();
        assert_eq!(reason(None), DeadReason::Empty);
        assert_eq!(reason(Some(b"")), DeadReason::HeaderMissing);
        assert_eq!(reason(Some(b"GET /p.gif")), DeadReason::HeaderMissing);
        assert_eq!(reason(Some(b"\xc3\x01unknown!...")), DeadReason::SchemaUnknown);
        assert_eq!(reason(Some(b"\0\0\0\0\x07body")), DeadReason::SchemaUnknown);
        assert_eq!(reason(Some(&good[..good.len() - 1])), DeadReason::Undecodable);
        good.push(0);
        assert_eq!(reason(Some(&good)), DeadReason::Undecodable);
    }

    #[test]
    fn a_step_that_panics_costs_one_hit() {
        let failed = guarded(|| panic!("a defect"));
        assert!(matches!(failed, Err(Obstacle::Dead { reason: DeadReason::EnrichmentFailed, .. })));
        assert!(guarded(|| {}).is_ok());
    }

    #[test]
    fn a_registry_that_does_not_answer_is_waited_for() {
        let unreachable = schemas::registry::RegistryError::Unreachable { url: String::new(), cause: String::new() };
        assert!(matches!(Obstacle::from(WireError::from(unreachable)), Obstacle::Later(_)));
    }

    #[test]
    fn what_is_wrong_is_told_without_what_a_message_says() {
        let cause = "Expected Value::Long, got: String(\"someone@example.com\")".to_owned();
        let error = WireError::Resolve("hitmeter.RawHit", cause);
        let told = without_quotes(&error);
        assert!(told.contains("hitmeter.RawHit") && !told.contains("someone"), "{told}");
        let Obstacle::Dead { detail, .. } = Obstacle::from(error) else { panic!("it is dead") };
        assert_eq!(detail, told);
    }

    /// Who may not ask it, or asks too often, is told nothing of the hit.
    #[test]
    fn a_registry_that_refuses_whoever_asks_is_waited_for() {
        let refused = |status| {
            let error =
                schemas::registry::RegistryError::Refused { url: String::new(), status, message: String::new() };
            Obstacle::from(WireError::from(error))
        };
        for status in [401, 403, 408, 429] {
            assert!(matches!(refused(status), Obstacle::Later(_)), "{status}");
        }
        assert!(matches!(refused(404), Obstacle::Dead { reason: DeadReason::SchemaUnknown, .. }));
    }

    #[test]
    fn a_dead_letter_holds_what_is_needed_to_try_again() {
        let coordinates = Coordinates { topic: "hits.raw", partition: 3, offset: 77 };
        let burial = Burial {
            original: Some(b"not a hit"),
            key: Some(b"demo\0v1"),
            coordinates,
            reason: DeadReason::HeaderMissing,
            detail: "why",
            now: 5,
        };
        let mut out = Vec::new();
        enricher().bury(&burial, 1_000, &mut out);
        let reader = Reader::new::<DeadLetter>(None).unwrap();
        let body = reader.body(&out).unwrap();
        let letter: DeadLetter<'_> = decode_all(&body).unwrap();
        assert_eq!((&*letter.original, &*letter.site, &*letter.reason), (&b"not a hit"[..], "demo", "header_missing"));
        assert_eq!((&*letter.detail, letter.stage, letter.dead_at), ("why", Stage::Enricher, 5));
        assert_eq!(
            (&*letter.source_topic, letter.source_partition, letter.source_offset),
            ("hits.raw", Some(3), Some(77))
        );
        let mut cut = Vec::new();
        enricher().bury(&burial, 3, &mut cut);
        let body = reader.body(&cut).unwrap();
        let letter: DeadLetter<'_> = decode_all(&body).unwrap();
        assert_eq!(&*letter.original, b"not");
        assert_eq!(letter.detail, "why; only the first 3 of 9 bytes are kept");
    }
}
