//! Holds what is there against what was done and asked for. Each judgement gives what is wrong, in words for a report.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::ledger::{Fate, Ledger};
use crate::partners;
use crate::people::{Right, SITES, Subject};
use crate::scan::{Found, Needles, What};
use crate::topics;
use crate::traffic::REFUSED_PAGE;
use crate::world::{DATABASE, PREFIX, World};

/// How long after a request a message may still hold what it is about, milliseconds: until every stage has learned of it,
/// also from behind the transaction of a command that was killed.
const LEARNED: i64 = 45_000;
/// The audience that everybody is in.
pub const AUDIENCE: &str = "everybody";
/// So many findings of one kind tell enough.
const ENOUGH: usize = 8;

/// Who was there, what they did, and how they are found.
pub struct Judge<'a> {
    /// The servers.
    pub world: &'a World,
    /// Everybody.
    pub subjects: &'a [Subject],
    /// What was sent and asked.
    pub ledger: &'a Ledger,
    /// All that names anybody.
    pub needles: &'a Needles,
}

impl Judge<'_> {
    /// All of it.
    pub fn judge(&self) -> Vec<String> {
        let mut findings = self.rows();
        findings.extend(self.pages());
        findings.extend(self.tables());
        findings.extend(self.queries());
        findings.extend(self.audience());
        findings.extend(self.topics());
        findings.extend(self.partners());
        findings.extend(self.corrections());
        findings.extend(self.receipts());
        findings.extend(self.trail());
        findings
    }

    /// Each hit is there once, or not at all, as it has to be; and nothing else is.
    fn rows(&self) -> Vec<String> {
        let text = self.world.query("SELECT toString(hit_id), count() FROM {db}.hits GROUP BY hit_id");
        let mut there: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('\t')).collect();
        let mut findings = Vec::new();
        let mut fates: BTreeMap<String, u32> = BTreeMap::new();
        for hit in &self.ledger.hits {
            let fate = self.ledger.fate(self.subjects, hit);
            *fates.entry(format!("{fate:?}")).or_default() += 1;
            let rows = there.remove(hit.id.to_string().as_str()).unwrap_or("0");
            let is_right = match fate {
                Fate::Whole | Fate::Renamed => rows == "1",
                // A collector that has not learned of an objection yet lets the hit pass, and the next stage takes off what names.
                Fate::Nameless => rows == "1",
                Fate::Gone if self.subjects[hit.subject].right == Right::Object => rows == "0" || !hit.is_opted_out,
                Fate::Gone => rows == "0",
                Fate::Unclear => rows == "0" || rows == "1",
            };
            if !is_right {
                let right = self.subjects[hit.subject].right;
                findings.push(format!("{rows} rows of {hit:?}, which is {fate:?} under {right:?}"));
            }
        }
        crate::tell(&format!("hits by what is to become of them: {fates:?}"));
        findings.extend(there.keys().map(|id| format!("nobody sent the hit {id}")));
        findings.truncate(ENOUGH);
        findings
    }

    /// What is counted for each page of each day, of people and of nobody, is what was done there.
    fn pages(&self) -> Vec<String> {
        let there = self.world.query("SELECT toString(hit_id) FROM {db}.hits");
        let there: std::collections::HashSet<&str> = there.lines().collect();
        let mut done: BTreeMap<(String, String), usize> = BTreeMap::new();
        for hit in self.ledger.hits.iter().filter(|hit| hit.kind == "page_view") {
            let is_kept = match self.ledger.fate(self.subjects, hit) {
                Fate::Whole | Fate::Renamed | Fate::Nameless => true,
                Fate::Gone | Fate::Unclear => there.contains(hit.id.to_string().as_str()),
            };
            *done.entry((hit.site.key.to_owned(), hit.path.clone())).or_default() += usize::from(is_kept);
        }
        let told = self.world.query("SELECT site, page_path, sum(views) FROM {db}.pages GROUP BY site, page_path");
        let mut findings = Vec::new();
        let mut told: HashMap<(String, String), usize> = told
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split('\t').collect();
                ((words[0].to_owned(), words[1].to_owned()), words[2].parse().unwrap())
            })
            .collect();
        for (page, count) in done {
            let told = told.remove(&page).unwrap_or_default();
            if told != count {
                findings.push(format!("{page:?} was viewed {count} times, {told} are told"));
            }
        }
        findings
    }

    /// Every column of every table: who was erased is in none of them.
    fn tables(&self) -> Vec<String> {
        let columns = self.world.query(&format!(
            "SELECT table, groupArray(if(type LIKE 'AggregateFunction%', concat('hex(`', name, '`)'), concat('`', name, '`'))), \
             has(groupArray(name), 'site') FROM system.columns WHERE database = '{DATABASE}' AND table IN \
             (SELECT name FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE '%MergeTree') GROUP BY table"
        ));
        assert!(columns.lines().count() > 15, "{columns}");
        let mut findings = Vec::new();
        for line in columns.lines() {
            let words: Vec<&str> = line.split('\t').collect();
            let columns = words[1].trim_matches(['[', ']']).replace('\'', "");
            let site = if words[2] == "1" || words[2] == "true" { "toString(site)" } else { "''" };
            let sql = format!("SELECT {site}, toString(tuple({columns})) FROM {{db}}.`{}` FORMAT TSVRaw", words[0]);
            let rows = self.world.query(&sql);
            for row in rows.lines() {
                let (site, row) = row.split_once('\t').unwrap();
                findings.extend(self.row(words[0], site, &self.needles.find(&with_states(row))));
            }
        }
        findings.truncate(ENOUGH);
        findings
    }

    /// What ClickHouse remembers of what the programs asked and changed names nobody.
    fn queries(&self) -> Vec<String> {
        self.world.query("SYSTEM FLUSH LOGS");
        let asked = self.world.query("SELECT * FROM system.query_log FORMAT TSVRaw");
        assert!(asked.contains("INSERT INTO"), "nothing is remembered");
        let changed = self.world.query("SELECT command, latest_fail_reason FROM system.mutations FORMAT TSVRaw");
        let mut findings = Vec::new();
        for line in asked.lines().chain(changed.lines()) {
            if let Some((subject, what)) = self.needles.find(line.as_bytes()).first() {
                findings.push(format!("{what:?} of {subject} in what ClickHouse was asked: {line}"));
            }
        }
        findings.truncate(ENOUGH);
        findings
    }

    /// Those who asked for nothing are in the audience, those who objected are not.
    fn audience(&self) -> Vec<String> {
        let members = self.world.query(&format!(
            "SELECT DISTINCT member FROM {{db}}.audience_members WHERE audience = '{AUDIENCE}' AND is_member"
        ));
        let members: BTreeSet<&str> = members.lines().collect();
        let is_in = |subject: &Subject| subject.devices.iter().any(|device| members.contains(device.visitor.as_str()));
        let is_wrong = |subject: &&Subject| match subject.right {
            Right::None => !is_in(subject),
            Right::Object | Right::Erase => is_in(subject),
            _ => false,
        };
        let wrong = self.subjects.iter().filter(is_wrong).take(ENOUGH);
        wrong
            .map(|subject| format!("{} ({:?}) is wrongly in the audience or not", subject.number, subject.right))
            .collect()
    }

    /// What is wrong with what was found in a row.
    fn row(&self, table: &str, site: &str, found: &[Found]) -> Vec<String> {
        let customer = SITES.iter().find(|each| each.key == site).map(|site| site.customer);
        let is_known = |subject: usize| customer.is_none_or(|customer| self.subjects[subject].customer == customer);
        let mut fates = found.iter().filter_map(|(_, what)| match what {
            What::Hit(place) => Some(self.ledger.fate(self.subjects, &self.ledger.hits[*place])),
            _ => None,
        });
        let fate = fates.next_back();
        let mut findings = Vec::new();
        for (subject, what) in found.iter().filter(|(subject, _)| is_known(*subject)) {
            let right = self.subjects[*subject].right;
            let is_hit = matches!(what, What::Hit(_));
            let is_wrong = match right {
                Right::Erase => true,
                Right::EraseAndReturn => fate == Some(Fate::Gone),
                Right::Forget => {
                    fate == Some(Fate::Gone)
                        || matches!(what, What::Visitor | What::Session) && fate != Some(Fate::Unclear)
                }
                Right::Object => fate == Some(Fate::Nameless) && (!is_hit || table != "hits"),
                _ => false,
            };
            if is_wrong {
                findings.push(format!("{what:?} of {subject} ({right:?}), hit {fate:?}, in {table} at {site:?}"));
            }
        }
        findings
    }

    /// Every message that is still there.
    fn topics(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for topic in ["hits.raw", "hits.enriched", "hits.dead", "privacy", "visitor.keys"] {
            let messages = topics::all(&self.world.brokers(), &format!("{PREFIX}{topic}"));
            assert!(!messages.is_empty(), "nothing is on {topic}");
            for message in messages {
                use rdkafka::Message as _;
                let bytes = [message.key().unwrap_or_default(), message.payload().unwrap_or_default()].join(&0);
                let at = message.timestamp().to_millis().unwrap_or_default();
                let found = self.needles.find(&bytes);
                findings.extend(self.message(topic, at, &found));
            }
        }
        findings.truncate(ENOUGH);
        findings
    }

    /// What is wrong with what was found in a message.
    fn message(&self, topic: &str, at: i64, found: &[Found]) -> Vec<String> {
        let hit = found.iter().find_map(|(_, what)| match what {
            What::Hit(place) => Some(&self.ledger.hits[*place]),
            _ => None,
        });
        let fate = hit.map(|hit| self.ledger.fate(self.subjects, hit));
        let mut findings = Vec::new();
        for (subject, what) in found {
            // Of two customers' who know a person, the hit says whose it is.
            if hit.is_some_and(|hit| self.subjects[*subject].customer != hit.site.customer) {
                continue;
            }
            let right = self.subjects[*subject].right;
            let is_learned = self.ledger.request(*subject).is_some_and(|asked| at > asked.to + LEARNED);
            let is_hit = matches!(what, What::Hit(_));
            // A dead letter that is replayed is the message of before once more, and nobody who reads it brings it back.
            let is_replayed = hit.is_some_and(|hit| hit.path == REFUSED_PAGE);
            let is_wrong = match topic {
                // A correction is there in plain text, as its README says.
                "privacy" => *what != What::Correction,
                "visitor.keys" => true,
                "hits.raw" => fate == Some(Fate::Nameless) && hit.is_some_and(|hit| hit.is_opted_out) && !is_hit,
                _ if !is_learned || is_replayed => false,
                _ => match fate {
                    Some(Fate::Gone) => true,
                    Some(Fate::Nameless) => !is_hit,
                    Some(Fate::Renamed) => matches!(what, What::Visitor | What::Session),
                    _ => right == Right::Erase,
                },
            };
            if is_wrong {
                findings.push(format!("{what:?} of {subject} ({right:?}), hit {fate:?}, on {topic} at {at}"));
            }
        }
        findings
    }

    /// What partners know of who was erased is removed, and of nobody else.
    fn partners(&self) -> Vec<String> {
        use rdkafka::Message as _;
        let messages = topics::all(&self.world.brokers(), &format!("{PREFIX}partners"));
        let last: HashMap<Vec<u8>, bool> = messages
            .iter()
            .map(|message| (message.key().unwrap_or_default().to_vec(), message.payload().is_some()))
            .collect();
        let mut findings = Vec::new();
        for subject in self.subjects.iter().filter(|subject| subject.attribute.is_some()) {
            let is_there = last.get(&partners::key(subject)) == Some(&true);
            let is_to_be = !matches!(subject.right, Right::Erase | Right::EraseAndReturn | Right::Forget);
            if is_there != is_to_be {
                findings.push(format!(
                    "what a partner knows of {} ({:?}): there {is_there}",
                    subject.number, subject.right
                ));
            }
        }
        findings
    }

    /// Of whoever had their name corrected and then said nothing newer, the correction is what contacts and visitors tell, although
    /// something older came later; of whoever said something newer, that.
    fn corrections(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for asked in self.ledger.asked.iter().filter(|asked| asked.right == Right::Rectify) {
            let subject = &self.subjects[asked.subject];
            for site in SITES.iter().filter(|site| site.customer == subject.customer) {
                let here = self.ledger.of(asked.subject).filter(|hit| hit.site == site && hit.form.is_some());
                let is_newer = { here }.any(|hit| hit.is_before(asked.from, asked.to) == Some(false));
                let right = if is_newer { &subject.name } else { &subject.corrected };
                let told = self.world.query(&format!(
                    "SELECT name FROM {{db}}.contacts WHERE site = '{}' AND contact = '{}'",
                    site.key, subject.email
                ));
                if told != *right {
                    findings.push(format!("contacts tell {told:?} at {}, right is {right:?} ({is_newer})", site.key));
                }
            }
        }
        findings
    }

    /// What a receipt says is held, and what the sink reports as erased, is what was sent.
    fn receipts(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let counted = |asked: &&crate::ledger::Asked| {
            asked.right != Right::Rectify && self.subjects[asked.subject].keeps_still && !asked.was_killed
        };
        for asked in self.ledger.asked.iter().filter(counted) {
            let subject = &self.subjects[asked.subject];
            let hits =
                self.ledger.of(asked.subject).filter(|hit| hit.path != REFUSED_PAGE && hit.answered <= asked.from);
            let hits: Vec<_> = hits.collect();
            let forms = hits.iter().filter(|hit| hit.form.is_some()).count();
            let devices = subject.devices.len();
            let sites = SITES.iter().filter(|site| site.customer == subject.customer).count();
            let mut hold = |what: &str, told: Option<usize>, done: usize| {
                if told != Some(done) {
                    findings
                        .push(format!("{what} of {} ({:?}): told {told:?}, done {done}", asked.subject, asked.right));
                }
            };
            let told = |word: &str| {
                let line = asked.receipt.lines().find_map(|line| line.trim().strip_prefix(word))?;
                line.trim_start_matches(':').trim().parse().ok()
            };
            hold("hits", told("hits"), hits.len());
            hold("cards", told("contact_cards"), forms);
            hold("links", told("contact_links"), forms);
            hold("identifiers", told("identifiers"), devices + 2);
            hold("directives", told("directives published"), (devices + 2) * sites);
            if asked.right != Right::Object {
                hold("partner records", told("partner records"), usize::from(subject.attribute.is_some()));
                // A row counts for each identifier in it: a hit for its visitor, a form's for address and number, too; a card
                // for visitor, address twice, number; a link for visitor and address.
                let rows = hits.len() + 2 * forms + 4 * forms + 2 * forms;
                let erased = self.world.number(&format!(
                    "SELECT max(rows) FROM {{db}}.privacy_trail WHERE directive_id = '{}' AND stage = 'done'",
                    asked.id
                ));
                // On top come, at each site for each device and for the address, a session where it was settled before the request,
                // and having come into an audience.
                let (settled, gathered) = (2 * devices * sites, 2 * devices * sites);
                if erased < rows || erased > rows + settled + gathered {
                    hold("rows erased", Some(erased), rows);
                }
            }
        }
        findings.truncate(ENOUGH);
        findings
    }

    /// Whatever was published is in the trail, with who and what.
    fn trail(&self) -> Vec<String> {
        let asked = self
            .world
            .query("SELECT toString(directive_id), action, operator FROM {db}.privacy_trail WHERE stage = 'privacy'");
        let noted: HashMap<&str, &str> = asked.lines().filter_map(|line| line.split_once('\t')).collect();
        let mut findings = Vec::new();
        for asked in &self.ledger.asked {
            let name = match asked.right {
                Right::Object => "object\tolga",
                Right::Forget => "forget\tolga",
                Right::Rectify => "rectify\tolga",
                _ => "erase\tolga",
            };
            if noted.get(asked.id.to_string().as_str()) != Some(&name) {
                findings.push(format!("the trail does not tell of {} ({:?})", asked.id, asked.right));
            }
        }
        findings
    }
}

/// A row with what stands in it as hexadecimal digits written out, too: states of aggregate functions hold texts.
fn with_states(row: &str) -> Vec<u8> {
    let mut bytes = row.as_bytes().to_vec();
    for word in row.split('\'').filter(|word| word.len() > 24 && word.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        bytes.push(0);
        bytes.extend(hex::decode(word).unwrap_or_default());
    }
    bytes
}

/// Nobody is named in any file: those in these folders, and in the folders in them.
pub fn files(needles: &Needles, folders: &[&Path]) -> Vec<String> {
    let mut findings = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                findings.extend(files(needles, &[&path]));
            } else if let Some((subject, what)) = needles.find(&std::fs::read(&path).unwrap()).first() {
                findings.push(format!("{what:?} of {subject} in {}", path.display()));
            }
        }
    }
    findings
}
