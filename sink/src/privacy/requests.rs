//! The directives that the sink carries out on its tables, and its reports on them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use schemas::codec::decode_all;
use schemas::topics::{PRIVACY as TOPIC, privacy_key};
use schemas::{
    PrivacyAction, PrivacyDirective, Reader, Stage, StageReport, StageState, SubjectKind, Text, WireError, Writer,
};
use service::compacted::TopicReader;
use service::options::KafkaOptions;
use service::privacy::directives::{Directives, Unusable};
use service::privacy::keys::{Keys, Subject};
use service::producer::{Parcel, Producer, Receipts};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ExecuteError;

const WAIT: Duration = Duration::from_millis(100);
/// How long a report may take to be delivered.
const DELIVERY: Duration = Duration::from_secs(30);

/// A directive that is not carried out.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the topic says.
    pub directive: PrivacyDirective<'static>,
    /// The hash of whom it is about.
    pub subject: Subject,
    /// Whether its first pass was done.
    pub is_hidden: bool,
}

impl Request {
    /// Names the request.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.directive.directive_id
    }

    /// What names the person.
    #[must_use]
    pub fn kind(&self) -> SubjectKind {
        self.directive.subject_kind
    }

    /// Whether rows go; what else is asked is noted beside the rows.
    #[must_use]
    pub fn is_erasure(&self) -> bool {
        is_erasure(self.directive.action)
    }

    /// Key of the site.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.directive.site
    }
}

/// The topic.
pub struct Requests {
    topic: TopicReader,
    name: String,
    reader: Reader,
    writer: Writer,
    producer: Producer<Receipts>,
    register: Register,
    directives: Directives,
}

/// What the topic holds, as far as it is the sink's.
#[derive(Debug, Default)]
struct Register {
    directives: BTreeMap<Vec<u8>, PrivacyDirective<'static>>,
    /// The sink's own, by the key of the directive that they are about. A request has a directive for each name of the
    /// person, and one of them being done says nothing of the others.
    reports: BTreeMap<Vec<u8>, (Uuid, StageState)>,
}

impl Register {
    fn take_in(&mut self, key: &[u8], directive: Option<&PrivacyDirective<'_>>) {
        let directive = directive.filter(|directive| is_of_the_sink(directive));
        match directive.map(|directive| (directive, &directive.report)) {
            Some((directive, None)) => {
                self.directives.insert(key.to_vec(), owned(directive));
            }
            Some((directive, Some(report))) => {
                let about = privacy_key(&PrivacyDirective { report: None, ..directive.clone() });
                self.reports.insert(about, (directive.directive_id, report.state));
            }
            None => {
                self.directives.remove(key);
            }
        }
    }

    /// All requests, and whether each is done.
    fn all(&self) -> impl Iterator<Item = (Request, bool)> {
        self.directives.iter().filter_map(|(key, directive)| {
            let mut subject = Subject::default();
            // One that is no hash keeps the sink from being ready, see the follower.
            hex::decode_to_slice(directive.subject.as_bytes(), &mut subject).ok()?;
            // An older request about the same name may have been done.
            let report = self.reports.get(key).filter(|(id, _)| *id == directive.directive_id);
            let state = report.map(|(_, state)| *state);
            let is_hidden = state == Some(StageState::Hidden);
            Some((Request { directive: directive.clone(), subject, is_hidden }, state == Some(StageState::Done)))
        })
    }

    fn open_ones(&self) -> Vec<Request> {
        self.all().filter(|(_, is_done)| !is_done).map(|(request, _)| request).collect()
    }

    fn done_erasures(&self) -> Vec<Request> {
        let is_wanted = |(request, is_done): &(Request, bool)| *is_done && request.is_erasure();
        self.all().filter(is_wanted).map(|(request, _)| request).collect()
    }
}

impl Requests {
    /// Goes to the beginning of the topic. Blocks.
    ///
    /// # Errors
    /// Where the brokers or the registry do not answer.
    pub fn open(kafka: &KafkaOptions, keys: &Keys) -> Result<Self, ExecuteError> {
        let name = kafka.topic(&TOPIC);
        Ok(Self {
            topic: TopicReader::open(kafka, "sink", &TOPIC, None)?,
            reader: Reader::new::<PrivacyDirective<'_>>(kafka.registry())?,
            writer: Writer::for_topic::<PrivacyDirective<'_>>(&name, kafka.registry().as_ref())?,
            producer: crate::dead_letters::producer(kafka)?,
            name,
            register: Register::default(),
            directives: Directives::new(Some(keys.clone())).with_corrections(),
        })
    }

    /// Reads what is there. Blocks.
    ///
    /// # Errors
    /// Where a directive can't be read, or its key is not there.
    pub fn catch_up(&mut self, ended: &CancellationToken) -> Result<(), ExecuteError> {
        let mut heard = Instant::now();
        while !ended.is_cancelled() && (!self.topic.has_reached_end() || heard.elapsed() < WAIT) {
            let Some(message) = self.topic.next(WAIT)? else { continue };
            heard = Instant::now();
            let key = message.key().unwrap_or_default().to_vec();
            let body = message.payload().map(|value| self.reader.body(value)).transpose()?;
            let directive =
                body.as_deref().map(decode_all::<PrivacyDirective<'_>>).transpose().map_err(WireError::from)?;
            self.register.take_in(&key, directive.as_ref());
            apply(&mut self.directives, &key, directive.as_ref())?;
        }
        Ok(())
    }

    /// What all directives together say of a name.
    #[must_use]
    pub fn directives(&self) -> &Directives {
        &self.directives
    }

    /// Erasures that are done.
    #[must_use]
    pub fn done_erasures(&self) -> Vec<Request> {
        self.register.done_erasures()
    }

    /// Those that are not done.
    #[must_use]
    pub fn open_ones(&self) -> Vec<Request> {
        self.register.open_ones()
    }

    /// Says how far the sink is with a request.
    ///
    /// # Errors
    /// Where it could not be delivered.
    pub async fn report(&self, on: &Request, state: StageState, rows: u64) -> Result<(), KafkaError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let report = StageReport {
            stage: Stage::Sink,
            state,
            // Whichever sink it is: a later report takes the place of an earlier one.
            instance: Text::default(),
            rows: i64::try_from(rows).unwrap_or(i64::MAX),
            reported_at: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        };
        let directive = PrivacyDirective { report: Some(report), ..on.directive.clone() };
        let (key, mut value) = (privacy_key(&directive), Vec::new());
        self.writer.write(&directive, &mut value);
        let parcel = Parcel { topic: (&self.name).into(), partition: None, key: key.into(), value: value.into() };
        self.producer.deliver(&parcel, DELIVERY).await
    }
}

/// With the keys that the file has now, where those of before do not suffice.
fn apply(
    directives: &mut Directives,
    key: &[u8],
    directive: Option<&PrivacyDirective<'_>>,
) -> Result<(), ExecuteError> {
    let applied = match directives.apply(key, directive) {
        Err(Unusable::UnknownKey(_) | Unusable::AnotherKey(_)) => {
            directives.renew_keys()?;
            directives.apply(key, directive)
        }
        applied => applied,
    };
    Ok(applied?)
}

fn is_erasure(action: PrivacyAction) -> bool {
    matches!(action, PrivacyAction::Erase | PrivacyAction::Forget)
}

fn is_of_the_sink(directive: &PrivacyDirective<'_>) -> bool {
    let is_noted = matches!(directive.action, PrivacyAction::Object | PrivacyAction::Rectify);
    (is_noted || is_erasure(directive.action))
        && directive.report.as_ref().is_none_or(|report| report.stage == Stage::Sink)
}

/// What is needed of it later.
fn owned(directive: &PrivacyDirective<'_>) -> PrivacyDirective<'static> {
    let text = |text: &Text<'_>| Text::Owned(text.clone().into_owned());
    PrivacyDirective {
        directive_id: directive.directive_id,
        site: text(&directive.site),
        subject_kind: directive.subject_kind,
        subject: text(&directive.subject),
        key_name: text(&directive.key_name),
        action: directive.action,
        issued_at: directive.issued_at,
        due_at: directive.due_at,
        purpose: text(&directive.purpose),
        partner: text(&directive.partner),
        wording: text(&directive.wording),
        evidence: text(&directive.evidence),
        operator: text(&directive.operator),
        ..PrivacyDirective::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directive(name: u8, id: u128) -> PrivacyDirective<'static> {
        PrivacyDirective {
            directive_id: Uuid::from_u128(id),
            site: "shop".into(),
            subject: hex::encode([name; 32]).into(),
            action: PrivacyAction::Erase,
            ..PrivacyDirective::default()
        }
    }

    fn reported(on: &PrivacyDirective<'static>, state: StageState) -> PrivacyDirective<'static> {
        let report = StageReport { stage: Stage::Sink, state, ..StageReport::default() };
        PrivacyDirective { report: Some(report), ..on.clone() }
    }

    fn open_of(messages: &[PrivacyDirective<'static>]) -> Vec<(u8, bool)> {
        let mut register = Register::default();
        messages.iter().for_each(|each| register.take_in(&privacy_key(each), Some(each)));
        register.open_ones().iter().map(|request| (request.subject[0], request.is_hidden)).collect()
    }

    #[test]
    fn one_name_being_done_says_nothing_of_the_other_names_of_the_person() {
        let (first, second) = (directive(1, 7), directive(2, 7));
        assert_eq!(open_of(&[first.clone(), second.clone()]), [(1, false), (2, false)]);
        let done = reported(&first, StageState::Done);
        assert_eq!(open_of(&[first.clone(), second.clone(), done.clone()]), [(2, false)]);
        assert_eq!(open_of(&[done, first, second.clone(), reported(&second, StageState::Hidden)]), [(2, true)]);
    }

    #[test]
    fn a_request_is_open_although_an_older_one_about_the_same_name_was_done() {
        let done = reported(&directive(1, 7), StageState::Done);
        assert_eq!(open_of(&[directive(1, 7), done, directive(1, 8)]), [(1, false)]);
    }
}
