//! The command line of `sink deadletters`, and the filter in it.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use jiff::tz::Offset;
use jiff::{Span, SpanRelativeTo, Timestamp, civil};
use schemas::{DeadLetter, Stage};
use service::options::KafkaOptions;
use uuid::Uuid;

/// Options of `sink deadletters`.
#[derive(Debug, Clone, Args)]
pub struct DeadLettersOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// List dead letters, oldest first, without what was in them
    List(ListOptions),
    /// Show one whole, with its original bytes, which may be a person's data
    Show(ShowOptions),
    /// Publish the original messages again to the topics that they came from
    Replay(ChangeOptions),
    /// Take dead letters off the list; the topic keeps their bytes until its retention ends
    Drop(ChangeOptions),
}

/// Options of `sink deadletters list`.
#[derive(Debug, Clone, Args)]
pub struct ListOptions {
    /// Where the topic is.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Which letters.
    #[command(flatten)]
    pub filter: Filter,
}

/// Options of `sink deadletters show`.
#[derive(Debug, Clone, Args)]
pub struct ShowOptions {
    /// Where the topic is.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Id of the dead letter, as `list` shows it
    #[arg(value_name = "ID")]
    pub dead_letter: Uuid,
    /// Print nothing but the original bytes, as they are
    #[arg(long)]
    pub original: bool,
}

/// Options of `sink deadletters replay` and `drop`.
#[derive(Debug, Clone, Args)]
pub struct ChangeOptions {
    /// Where the topics are.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Which letters.
    #[command(flatten)]
    pub filter: Filter,
    /// All dead letters, where no filter is given
    #[arg(long)]
    pub all: bool,
}

/// Which dead letters: those that fit all that is given.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Id of a dead letter; may be given more than once
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub id: Vec<Uuid>,
    /// Service that gave up: collector, enricher or sink
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    pub stage: Option<Stage>,
    /// Reason, as `list` shows it
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Key of the site
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// Dead at this time or later: `2026-03-10`, `2026-03-10T12:00`, both UTC, or as long ago as `2h` or `3 days`
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<i64>,
    /// Dead before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<i64>,
    /// Topic that the message came from, with or without the prefix
    #[arg(long, value_name = "TOPIC")]
    pub source_topic: Option<String>,
    /// So many at most, the oldest
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<usize>,
    /// Also those that were replayed or dropped before
    #[arg(long)]
    pub closed: bool,
}

impl Filter {
    /// Whether it names no property of a letter.
    #[must_use]
    pub fn lets_all_through(&self) -> bool {
        let texts = [&self.reason, &self.site, &self.source_topic];
        let times = [self.since, self.until];
        self.id.is_empty()
            && self.stage.is_none()
            && texts.iter().all(|text| text.is_none())
            && times.iter().all(Option::is_none)
    }

    /// Whether a letter fits. `topic_prefix` is that of the installation.
    #[must_use]
    pub fn lets_through(&self, letter: &DeadLetter<'_>, topic_prefix: &str) -> bool {
        let is = |wanted: &Option<String>, actual: &str| wanted.as_ref().is_none_or(|wanted| wanted == actual);
        let topic = letter.source_topic.as_ref();
        let short = topic.strip_prefix(topic_prefix).unwrap_or(topic);
        (self.id.is_empty() || self.id.contains(&letter.dead_letter_id))
            && self.stage.is_none_or(|stage| stage == letter.stage)
            && is(&self.reason, &letter.reason)
            && is(&self.site, &letter.site)
            && (is(&self.source_topic, topic) || is(&self.source_topic, short))
            && self.since.is_none_or(|since| letter.dead_at >= since)
            && self.until.is_none_or(|until| letter.dead_at < until)
    }
}

fn stage(text: &str) -> Result<Stage, String> {
    let known = || format!("{text:?} is no stage; there are collector, enricher and sink");
    Stage::from_symbol(text).filter(|stage| *stage != Stage::Unknown).ok_or_else(known)
}

/// Now, Unix milliseconds.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A point in time, Unix milliseconds: with an offset, without one in UTC, or as long ago as it says.
pub(crate) fn time(text: &str) -> Result<i64, String> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    if let Ok(timestamp) = text.parse::<civil::DateTime>().and_then(|time| Offset::UTC.to_timestamp(time)) {
        return Ok(timestamp.as_millisecond());
    }
    let long = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let ago = long.ok().and_then(|long| i64::try_from(long.as_millis()).ok()).filter(|ago| *ago >= 0);
    ago.map(|ago| now() - ago).ok_or_else(|| {
        format!(
            "{text:?} is neither a time such as 2026-03-10 or 2026-03-10T12:00 nor a time span such as 2h or 3 days"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_utc_with_an_offset_or_as_ago() {
        // 2026-03-10 12:00 UTC.
        let noon = 1_773_144_000_000;
        assert_eq!(time("2026-03-10T12:00"), Ok(noon));
        assert_eq!(time("2026-03-10T12:00:00.5Z"), Ok(noon + 500));
        assert_eq!(time("2026-03-10T13:00+01:00"), Ok(noon));
        assert_eq!(time("2026-03-10"), Ok(noon - 12 * 3_600_000));
        // Read first: the clock goes on in between.
        let ago = |text: &str| {
            let then = time(text).unwrap();
            now() - then
        };
        assert!((7_200_000..7_260_000).contains(&ago("2h")), "{}", ago("2h"));
        assert!((259_200_000..259_260_000).contains(&ago("3 days")), "{}", ago("3 days"));
        for wrong in ["", "yesterday", "2026-13-01", "-2h", "12"] {
            assert!(time(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_letter_fits_when_it_fits_all_that_is_given() {
        let letter = DeadLetter {
            dead_letter_id: Uuid::from_u128(7),
            stage: Stage::Sink,
            reason: "refused".into(),
            site: "shop".into(),
            dead_at: 1_000,
            source_topic: "eu.hits.enriched".into(),
            ..DeadLetter::default()
        };
        let fits = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            assert!(filter.lets_all_through());
            change(&mut filter);
            assert!(!filter.lets_all_through());
            filter.lets_through(&letter, "eu.")
        };
        assert!(fits(|filter| filter.id = vec![Uuid::from_u128(6), Uuid::from_u128(7)]));
        assert!(!fits(|filter| filter.id = vec![Uuid::from_u128(6)]));
        assert!(fits(|filter| filter.stage = Some(Stage::Sink)));
        assert!(!fits(|filter| filter.stage = Some(Stage::Enricher)));
        assert!(fits(|filter| filter.reason = Some("refused".to_owned())));
        assert!(!fits(|filter| filter.reason = Some("ref".to_owned())));
        assert!(!fits(|filter| filter.site = Some("other".to_owned())));
        assert!(fits(|filter| filter.since = Some(1_000)));
        assert!(!fits(|filter| filter.since = Some(1_001)));
        assert!(fits(|filter| filter.until = Some(1_001)));
        assert!(!fits(|filter| filter.until = Some(1_000)));
        assert!(fits(|filter| filter.source_topic = Some("hits.enriched".to_owned())));
        assert!(fits(|filter| filter.source_topic = Some("eu.hits.enriched".to_owned())));
        assert!(!fits(|filter| filter.source_topic = Some("us.hits.enriched".to_owned())));
        assert!(!fits(|filter| (filter.site, filter.stage) = (Some("shop".to_owned()), Some(Stage::Collector))));
    }

    #[test]
    fn only_services_are_stages() {
        assert_eq!(stage("enricher"), Ok(Stage::Enricher));
        assert!(stage("unknown").is_err() && stage("Sink").is_err());
    }
}
