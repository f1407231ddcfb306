//! The operator: exercises people's rights with the real `privacy`, kills it now and then, and runs it again.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use uuid::Uuid;

use crate::ledger::{Asked, now};
use crate::people::{Right, Subject, sites_of};
use crate::scan::quoted;
use crate::traffic::{Crowd, REFUSED_PAGE};
use crate::world::{DATABASE, PREFIX, World, until};
use crate::{access, tell};

/// Operators at the same time.
const OPERATORS: u64 = 3;
/// One in so many commands is killed first, at some moment of what it takes, milliseconds.
const KILLED: u32 = 5;
const KILLED_WITHIN: std::ops::Range<u64> = 0..1_500;
/// What a request changes takes effect so long after it was entered, milliseconds.
const EFFECT: i64 = 10_000;
/// Who is given cards, and what for.
pub const PARTNER: [&str; 2] = ["--partner=acme", "--purpose=fair"];

/// An operator's desk.
pub struct Desk<'a> {
    world: &'a World,
    crowd: &'a Crowd,
    random: Rng,
}

/// When a command that came through was begun first, and what it printed.
pub struct Done {
    /// The first run began then, Unix milliseconds.
    pub begun: i64,
    /// Whether it was killed.
    pub was_killed: bool,
    /// What the last run printed.
    pub text: String,
}

impl<'a> Desk<'a> {
    /// With choices of its own.
    pub fn new(world: &'a World, crowd: &'a Crowd, random: Rng) -> Self {
        Self { world, crowd, random }
    }

    /// Exercises the rights of people, several at a time, in their order. Gives what was wrong.
    pub fn exercise_all(&mut self, asking: Vec<(Right, &'a Subject)>) -> Vec<String> {
        let queue: Mutex<VecDeque<_>> = Mutex::new(asking.into());
        let findings: Mutex<Vec<String>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..OPERATORS {
                let mut desk = Desk::new(self.world, self.crowd, self.random.fork());
                let (queue, findings) = (&queue, &findings);
                scope.spawn(move || {
                    loop {
                        let Some((right, subject)) = queue.lock().unwrap().pop_front() else { return };
                        let found = desk.exercise(right, subject);
                        findings.lock().unwrap().extend(found);
                    }
                });
            }
        });
        findings.into_inner().unwrap()
    }

    fn exercise(&mut self, right: Right, subject: &Subject) -> Vec<String> {
        let site = sites_of(subject.customer).next().map(|site| format!("--site={}", site.key)).unwrap_or_default();
        let email = format!("--email={}", subject.email);
        let permission = [&site, &email, PARTNER[0], PARTNER[1]].map(String::from);
        match right {
            Right::Access => return self.access(subject),
            Right::Permit => drop(self.run("permit", &[&permission[..], &["--wording=3".into()]].concat())),
            Right::Withdraw => drop(self.run("withdraw", &permission)),
            Right::None => {}
            Right::Rectify | Right::Erase | Right::EraseAndReturn | Right::Forget | Right::Object => {
                self.change(right, subject)
            }
        }
        Vec::new()
    }

    /// One of those rights that change what is kept.
    fn change(&mut self, right: Right, subject: &Subject) {
        let mut turn = subject.keeps_still.then(|| self.crowd.hold(subject.number));
        if turn.is_some() {
            self.wait_until_loaded(subject);
        }
        let name = match right {
            Right::Object => "object",
            Right::Forget => "forget",
            Right::Rectify => "rectify",
            _ => "erase",
        };
        let words = match right {
            Right::Rectify => {
                let site = sites_of(subject.customer).next().map(|site| format!("--site={}", site.key));
                vec![
                    site.unwrap_or_default(),
                    format!("--email={}", subject.written_email(&mut self.random)),
                    format!("--set=name={}", subject.corrected),
                ]
            }
            _ => self.who(subject),
        };
        let Done { begun, was_killed, text } = self.run(name, &words);
        let id = request_of(&text);
        let made = made_at(id);
        let from = if was_killed { begun } else { made };
        let to = if right == Right::Rectify { made } else { made + EFFECT };
        let asked = Asked { subject: subject.number, right, id, from, to, receipt: text, was_killed };
        self.crowd.ledger.lock().unwrap().asked.push(asked);
        // Who had their name corrected says no more of it until the end, see there.
        if let (Right::Erase | Right::Rectify, Some(mood)) = (right, &mut turn) {
            mood.is_gone = true;
        }
    }

    /// At which site they ask, and what they say of themselves.
    fn who(&mut self, subject: &Subject) -> Vec<String> {
        let sites: Vec<_> = sites_of(subject.customer).collect();
        let site = sites[self.random.usize(..sites.len())].key;
        let device = &subject.devices[self.random.usize(..subject.devices.len())];
        let said = [
            format!("--email={}", subject.written_email(&mut self.random)),
            format!("--phone={}", subject.written_phone(&mut self.random)),
            format!("--visitor={}", device.visitor),
        ];
        vec![format!("--site={site}"), said[self.random.usize(..said.len())].clone()]
    }

    /// Waits until all of theirs that was sent is in the table, and they keep still.
    fn wait_until_loaded(&self, subject: &Subject) {
        let ledger = self.crowd.ledger.lock().unwrap();
        let sent = ledger.of(subject.number).filter(|hit| hit.path != REFUSED_PAGE).count();
        drop(ledger);
        let visitors = quoted(subject.devices.iter().map(|device| device.visitor.as_str()));
        let sites = quoted(sites_of(subject.customer).map(|site| site.key));
        until("what somebody did is loaded", || {
            let sql = format!("SELECT count() FROM {{db}}.hits WHERE site IN ({sites}) AND visitor_id IN ({visitors})");
            let loaded = self.world.number(&sql);
            if loaded == sent { Ok(()) } else { Err(format!("{loaded} of {sent} hits of {visitors}")) }
        });
    }

    fn access(&mut self, subject: &Subject) -> Vec<String> {
        let _turn = self.crowd.hold(subject.number);
        self.wait_until_loaded(subject);
        self.world.sink(DATABASE, &["views", "settle"]);
        let mut words = self.who(subject);
        let folder = self.world.directory.join(format!("exports/{}", subject.number));
        std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
        words.push(format!("--output={}", folder.display()));
        if self.is_to_be_killed() {
            self.kill("access", &words);
            // Whoever runs it again puts away what is there of it.
            let _ = std::fs::remove_dir_all(&folder);
        }
        self.must("access", &words);
        access::judge(&folder, subject, &self.crowd.ledger.lock().unwrap())
    }

    fn is_to_be_killed(&mut self) -> bool {
        self.random.u32(..KILLED) == 0
    }

    /// Runs a command, which is killed first, or not.
    fn run(&mut self, name: &str, words: &[String]) -> Done {
        let begun = now();
        let was_killed = self.is_to_be_killed() && self.kill(name, words);
        Done { begun, was_killed, text: self.must(name, words) }
    }

    /// Runs a command to its end.
    pub fn must(&self, name: &str, words: &[String]) -> String {
        let words = self.words(name, words);
        self.world.must("privacy", &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Kills a command (SIGKILL) at some moment; false when it had ended before.
    fn kill(&mut self, name: &str, words: &[String]) -> bool {
        let words = self.words(name, words);
        let (mut child, _) = self.world.spawn("privacy", &words.iter().map(String::as_str).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(self.random.u64(KILLED_WITHIN)));
        let has_ended = child.try_wait().unwrap().is_some();
        let _ = child.kill();
        child.wait().unwrap();
        // What is published is published: a request of its own, before the next.
        tell(&format!("{name} killed{}", if has_ended { ", but it had ended" } else { "" }));
        true
    }

    fn words(&self, name: &str, words: &[String]) -> Vec<String> {
        let world = self.world;
        let mut all = vec![name.to_owned(), format!("--kafka-brokers={}", world.brokers())];
        all.push(format!("--topic-prefix={PREFIX}"));
        if !matches!(name, "status" | "list") {
            all.push(format!("--clickhouse-url={}", world.clickhouse_url()));
            all.push(format!("--clickhouse-database={DATABASE}"));
        }
        if !matches!(name, "status" | "list" | "notices") {
            all.extend([format!("--privacy-keys={}", world.keys()), "--operator=olga".to_owned()]);
        }
        all.extend_from_slice(words);
        all
    }

    /// Waits until no request is open; gives the lines that tell of them.
    pub fn wait_until_done(&self) -> String {
        until("the end of all requests", || {
            let status = |site: &crate::people::Site| self.must("status", &[format!("--site={}", site.key)]);
            let text: String = crate::people::SITES.iter().map(status).collect();
            let open = text.lines().filter(|line| line.contains("  open  ") || line.contains("OVERDUE"));
            match open.collect::<Vec<_>>() {
                open if open.is_empty() => Ok(text),
                open => Err(open.join("\n")),
            }
        })
    }
}

/// The request that a receipt names.
fn request_of(receipt: &str) -> Uuid {
    let line = receipt.lines().find_map(|line| line.strip_prefix("request: "));
    line.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no request in {receipt}"))
}

/// When a request was made, Unix milliseconds, as its id tells.
fn made_at(id: Uuid) -> i64 {
    let (seconds, nanoseconds) = id.get_timestamp().map(|time| time.to_unix()).unwrap();
    i64::try_from(seconds).unwrap() * 1_000 + i64::from(nanoseconds) / 1_000_000
}
