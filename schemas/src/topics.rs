//! The topic catalogue: the one place that says which topics there are and how they are kept.

use crate::record::{PrivacyAction, PrivacyDirective};

/// How a topic is cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Records are deleted when they are older than this, milliseconds.
    DeleteAfter(i64),
    /// The last record of each key is kept.
    Compact,
}

/// One topic of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Name, without the prefix of an installation.
    pub name: &'static str,
    /// What its keys are made of.
    pub key: &'static str,
    /// What its values are.
    pub value: &'static str,
    /// Partitions when it is created.
    pub partitions: i32,
    /// How it is cleaned up.
    pub cleanup: Cleanup,
}

/// Largest message that is sent, bytes: librdkafka's default of `message.max.bytes`. Brokers take 48,588 more by default.
pub const LARGEST_MESSAGE: u64 = 1_000_000;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// Partitions of the topics of hits, both alike: a hit stays in its partition, where an enricher that takes over looks for
/// what was written. Kafka's client sends a request for each, so that more than a rate needs make each hit dearer: at
/// 10,000 hits/s twelve instead of four cost the collector 15 % more and the broker 60 %, four instead of two 6 % and 45 %.
/// And each partition of hits.enriched is an insert a second, which costs ClickHouse some 45 ms for all the tables that are
/// written with it, however few rows it has. Two readers of one group take 60,000 hits/s and more; who needs more of them
/// creates the topics with more (`--topic-partitions`).
const PARTITIONS: i32 = 2;

/// Hits as received. They hold full addresses, hence the short life.
pub const HITS_RAW: Topic = Topic {
    name: "hits.raw",
    key: "site + visitor",
    value: "RawHit",
    partitions: PARTITIONS,
    cleanup: Cleanup::DeleteAfter(72 * HOUR),
};
/// Hits with all that was learned about them.
pub const HITS_ENRICHED: Topic = Topic {
    name: "hits.enriched",
    key: "site + visitor",
    value: "EnrichedHit",
    partitions: PARTITIONS,
    cleanup: Cleanup::DeleteAfter(7 * DAY),
};
/// What could not be read or stored.
pub const HITS_DEAD: Topic = Topic {
    name: "hits.dead",
    key: "as the source",
    value: "DeadLetter",
    partitions: 3,
    cleanup: Cleanup::DeleteAfter(30 * DAY),
};
/// What partners know.
pub const PARTNERS: Topic = Topic {
    name: "partners",
    key: "match kind + match value",
    value: "PartnerRecord (null = removed)",
    partitions: 3,
    cleanup: Cleanup::Compact,
};
/// What people asked of us about the data on them. In one partition, so that everybody learns of all that one request says at
/// once: the names of a person are erased together, and counted before the first of them is gone. With several, a command
/// that was killed in its transaction holds up one of them for as long as that is open, and not the others.
pub const PRIVACY: Topic = Topic {
    name: "privacy",
    key: "site + subject + action",
    value: "PrivacyDirective",
    partitions: 1,
    cleanup: Cleanup::Compact,
};
/// The keys of the daily visitor hashes: the first record of a day is that day's key, in every collector. Deleted soon
/// after the day, so that nobody can be recognised later.
pub const VISITOR_KEYS: Topic = Topic {
    name: "visitor.keys",
    key: "day",
    value: "32 random bytes",
    partitions: 1,
    cleanup: Cleanup::DeleteAfter(48 * HOUR),
};

/// Every topic.
pub const CATALOGUE: &[Topic] = &[HITS_RAW, HITS_ENRICHED, HITS_DEAD, PARTNERS, PRIVACY, VISITOR_KEYS];

impl Topic {
    /// Name in an installation whose topics start with `prefix`.
    #[must_use]
    pub fn full_name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.name)
    }

    /// Kafka's topic settings, as it names them.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        match self.cleanup {
            Cleanup::Compact => vec![
                ("cleanup.policy", "compact".to_owned()),
                // What was removed is in the log until the cleaner comes, which by itself may be never.
                ("max.compaction.lag.ms", DAY.to_string()),
            ],
            Cleanup::DeleteAfter(milliseconds) => vec![
                ("cleanup.policy", "delete".to_owned()),
                ("retention.ms", milliseconds.to_string()),
                ("segment.ms", longest_segment(milliseconds).to_string()),
            ],
        }
    }

    /// What contradicts the catalogue in the settings that a topic really has, if anything: another clean-up policy, a
    /// retention, a life of segments or, of what was removed, a wait for the cleaner that is longer than promised to the people
    /// whose data it holds (a shorter one is the operator's to choose), or messages that are smaller than those that are sent
    /// (one too large for its topic would be sent for ever).
    #[must_use]
    pub fn contradiction(&self, partitions: usize, setting: impl Fn(&str) -> Option<String>) -> Option<String> {
        let (policy, bound, longest) = match self.cleanup {
            Cleanup::Compact => ("compact", "max.compaction.lag.ms", DAY),
            Cleanup::DeleteAfter(milliseconds) => ("delete", "retention.ms", milliseconds),
        };
        if let Some(actual) = setting("cleanup.policy").filter(|actual| actual != policy) {
            return Some(format!("cleanup.policy is {actual}, must be {policy}"));
        }
        if let Some(actual) = setting(bound).and_then(|text| text.parse::<i64>().ok())
            && !(0..=longest).contains(&actual)
        {
            return Some(format!("{bound} is {actual}, must be {longest} or less"));
        }
        if let Cleanup::DeleteAfter(milliseconds) = self.cleanup
            && let Some(actual) = setting("segment.ms").and_then(|text| text.parse::<i64>().ok())
            && actual > longest_segment(milliseconds)
        {
            let longest = longest_segment(milliseconds);
            return Some(format!(
                "segment.ms is {actual}, must be {longest} or less, as a message stays for as long as its segment is open"
            ));
        }
        if let Some(actual) =
            setting("max.message.bytes").filter(|text| text.parse().is_ok_and(|bytes| LARGEST_MESSAGE > bytes))
        {
            return Some(format!("max.message.bytes is {actual}, must be {LARGEST_MESSAGE} or more"));
        }
        (self.partitions == 1 && partitions != 1).then(|| format!("it has {partitions} partitions, must have 1"))
    }
}

/// Only closed segments are deleted, so a segment must not live much longer than its records may.
fn longest_segment(milliseconds: i64) -> i64 {
    (milliseconds / 12).min(DAY)
}

/// Key of a hit's messages: all hits of a visitor go to one partition, in order.
pub fn visitor_key(site: &str, visitor: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(site.as_bytes());
    // No site key holds a zero byte.
    out.push(0);
    out.extend_from_slice(visitor.as_bytes());
}

/// Key of a directive: a newer one about the same right of the same subject takes its place, as does a newer report of the
/// same stage. Corrections stand side by side, as they may be about different fields.
#[must_use]
pub fn privacy_key(directive: &PrivacyDirective<'_>) -> Vec<u8> {
    let id = directive.directive_id.to_string();
    let one_of_many = if directive.action == PrivacyAction::Rectify { id.as_str() } else { "" };
    let mut parts = vec![
        directive.site.as_ref(),
        directive.subject_kind.as_str(),
        directive.subject.as_ref(),
        directive.action.as_str(),
        directive.partner.as_ref(),
        directive.purpose.as_ref(),
        one_of_many,
    ];
    if let Some(report) = &directive.report {
        parts.extend([report.stage.as_str(), report.instance.as_ref()]);
    }
    parts.join("\0").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_as_created_contradicts_nothing() {
        for topic in CATALOGUE {
            let settings = topic.settings();
            let find = |name: &str| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
            assert_eq!(topic.contradiction(usize::try_from(topic.partitions).unwrap(), find), None);
        }
    }

    #[test]
    fn contradictions_are_named() {
        let with =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        assert!(HITS_RAW.contradiction(12, with("retention.ms", "-1")).unwrap().contains("retention.ms is -1"));
        assert!(HITS_RAW.contradiction(12, with("retention.ms", "259200001")).is_some());
        assert_eq!(HITS_RAW.contradiction(12, with("retention.ms", "1000")), None);
        assert!(HITS_RAW.contradiction(12, with("cleanup.policy", "compact")).unwrap().contains("must be delete"));
        assert_eq!(HITS_RAW.contradiction(12, with("max.message.bytes", "1000000")), None);
        assert!(HITS_RAW.contradiction(12, with("max.message.bytes", "999999")).unwrap().contains("1000000 or more"));
        assert!(
            HITS_RAW.contradiction(12, with("segment.ms", "604800000")).unwrap().contains("must be 21600000 or less")
        );
        assert_eq!(HITS_RAW.contradiction(12, with("segment.ms", "1000")), None);
        assert_eq!(PARTNERS.contradiction(3, with("segment.ms", "604800000")), None);
        assert!(VISITOR_KEYS.contradiction(2, |_| None).unwrap().contains("2 partitions"));
    }
}
