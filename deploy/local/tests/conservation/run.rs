//! One schedule: services, traffic, faults, healing, and the wait until everything has flowed through.

use crate::bite::Waiting;
use crate::client::{Crowd, Ledger};
use crate::fleet::{Fleet, Kind, SESSION, Setup, signal_group};
use crate::judge::{Findings, judge};
use crate::poison::Poisoner;
use crate::proxy::Cable;
use crate::schedule::{Fault, Leaving, Planned, Schedule, Target};
use crate::topics;
use crate::world::{LINKS, World};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long services may take to be ready on idle servers.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long everything may take to flow through once all is well. A killed member's session and an open transaction
/// have to end meanwhile.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// How long a fault may take to be felt once nothing else is wrong.
const FELT_WITHIN: Duration = Duration::from_secs(30);
/// How often ended services are looked for.
const TICK: Duration = Duration::from_millis(20);
/// A disk that a few seconds of traffic fill.
const SMALL_DISK_KIB: u64 = 128;

/// What a schedule left behind, for the judge.
pub struct Aftermath {
    /// What clients sent and were promised.
    pub ledger: Ledger,
    /// The undecodable messages, each once, by topic.
    pub poison: Vec<(&'static str, Vec<u8>)>,
    /// Why it did not settle, if it did not.
    pub unsettled: Option<String>,
    /// Faults that nobody felt, and what could not be healed.
    pub unfelt: Vec<String>,
}

/// A schedule at work.
pub struct Run<'a> {
    world: &'a mut World,
    schedule: &'a Schedule,
    /// The services.
    pub fleet: Fleet,
    /// How many further members have joined, for their names.
    joined: u32,
    small_disk: Option<SmallDisk>,
    /// Whether ClickHouse stands still: then it is not asked for anything.
    frozen: bool,
    /// Faults that were not felt yet.
    waiting: Vec<Waiting>,
    unfelt: Vec<String>,
    /// Changes of tables that ClickHouse did not make.
    refused: Vec<String>,
}

/// A disk in memory, unmounted in the end.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

impl SmallDisk {
    /// Nothing where only root may do that.
    fn mount(path: &Path) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            return None;
        }
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={SMALL_DISK_KIB}k"), "tmpfs"]).arg(path);
        command.status().is_ok_and(|status| status.success()).then(|| Self(path.to_owned()))
    }
}

impl<'a> Run<'a> {
    /// Starts the services of a schedule, with files in `directory`, and waits until they are ready.
    pub fn start(world: &'a mut World, schedule: &'a Schedule, directory: &Path) -> Self {
        let spool = directory.join("spool");
        std::fs::create_dir_all(&spool).unwrap();
        let small_disk = schedule.small_spool().then(|| SmallDisk::mount(&spool)).flatten();
        let limited = schedule.small_spool() && small_disk.is_none();
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let setup = Setup {
            directory: directory.to_owned(),
            spool,
            spool_bytes: if limited { SMALL_DISK_KIB * 1024 } else { 1 << 30 },
            prefix: format!("c{}.", &unique[..12]),
            database: format!("c{}", &unique[..12]),
            named: schedule.named,
            collector_port: local::free_port().unwrap(),
        };
        world.create_topics(&setup.prefix);
        let mut fleet = Fleet::new(setup);
        fleet.migrate(world);
        for kind in [Kind::Sink, Kind::Enricher, Kind::Collector] {
            fleet.add(world, kind, first(kind));
        }
        fleet.wait_ready(READY_WITHIN).unwrap_or_else(|problem| panic!("not ready before any fault: {problem}"));
        Self {
            world,
            schedule,
            fleet,
            joined: 0,
            small_disk,
            frozen: false,
            waiting: Vec::new(),
            unfelt: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Lets hits and faults come, heals everything, and waits until all has flowed through.
    pub fn play(&mut self) -> Aftermath {
        let crowd = Crowd::start(self.fleet.setup.collector_port, self.schedule.seed);
        let mut poisoner = Poisoner::new(&self.world.brokers(), &self.fleet.setup.prefix, self.schedule.seed);
        self.follow(&mut poisoner);
        self.heal();
        let ledger = crowd.finish();
        self.fleet.note(format!("the last hit of {}", ledger.sent.len()));
        let poison = poisoner.finish();
        let unsettled = self.settle().err();
        self.fleet.note("settled");
        Aftermath { ledger, poison, unsettled, unfelt: std::mem::take(&mut self.unfelt) }
    }

    /// Begins and ends the faults at their times, or as soon after as those before are done.
    fn follow(&mut self, poisoner: &mut Poisoner) {
        let begun = Instant::now();
        let mut steps: Vec<(Duration, Step)> = Vec::new();
        for (number, planned) in self.schedule.faults.iter().enumerate() {
            steps.push((planned.at, Step::Begin(number)));
            steps.push((planned.at + planned.lasts, Step::End(number)));
        }
        steps.extend(self.schedule.poison.iter().map(|at| (*at, Step::Poison)));
        steps.push((self.schedule.end().max(Duration::from_secs(4)) + Duration::from_millis(700), Step::Last));
        steps.sort_by_key(|(at, _)| *at);
        for (at, step) in steps {
            while begun.elapsed() < at {
                self.fleet.supervise(self.world);
                std::thread::sleep(TICK);
            }
            match step {
                Step::Begin(number) => self.begin(self.schedule.faults[number]),
                Step::End(number) => self.end(self.schedule.faults[number]),
                Step::Poison => poisoner.poison(),
                Step::Last => {}
            }
        }
    }

    fn begin(&mut self, planned: Planned) {
        self.fleet.note(format!("begins: {:?}", planned.fault));
        self.waiting.extend(Waiting::for_it(planned.fault, self.world, &self.fleet, self.frozen));
        match planned.fault {
            Fault::Kill(Target::Kafka) => self.world.kill_kafka(),
            Fault::Kill(Target::ClickHouse) => {
                self.world.kill_clickhouse();
                self.frozen = false;
            }
            Fault::Kill(Target::Service(kind)) => self.fleet.kill(first(kind)),
            Fault::Pause(target) => {
                self.signal(target, Signal::STOP);
                if let (Target::Service(kind @ (Kind::Enricher | Kind::Sink)), true) = (target, planned.lasts > SESSION)
                {
                    self.join(kind);
                }
            }
            Fault::Restart(kind) => {
                // A frozen one would not hear that it is to end.
                self.fleet.signal(first(kind), Signal::CONT);
                self.fleet.stop(first(kind));
                self.fleet.start(self.world, first(kind));
            }
            Fault::Cable(link, cable) => self.world.set(link, cable),
            Fault::TooManyParts => {
                self.alter("SYSTEM STOP MERGES {hits}");
                self.alter("ALTER TABLE {hits} MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 2");
            }
            Fault::ReadOnly => self.alter("ALTER TABLE {hits} MODIFY SETTING table_readonly = 1"),
            Fault::ViewReadOnly => self.alter("ALTER TABLE {page_titles} MODIFY SETTING table_readonly = 1"),
            Fault::SlowInserts => self.alter(
                "ALTER TABLE {hits} MODIFY SETTING parts_to_delay_insert = 1, min_delay_to_insert_ms = 900, max_delay_to_insert = 1",
            ),
            Fault::Join(kind, _) => self.join(kind),
            Fault::FullSpool => self.world.set(crate::world::Link::CollectorKafka, Cable::Cut),
        }
    }

    fn end(&mut self, planned: Planned) {
        self.fleet.note(format!("ends: {:?}", planned.fault));
        self.forget_what_was_felt();
        match planned.fault {
            Fault::Kill(Target::Kafka) => self.world.start_kafka(),
            Fault::Kill(Target::ClickHouse) => self.world.start_clickhouse(),
            Fault::Kill(Target::Service(kind)) => self.fleet.start(self.world, first(kind)),
            Fault::Pause(target) => self.signal(target, Signal::CONT),
            Fault::Restart(_) => {}
            Fault::Cable(link, _) => self.world.set(link, Cable::Whole),
            Fault::FullSpool => self.world.set(crate::world::Link::CollectorKafka, Cable::Whole),
            Fault::TooManyParts | Fault::ReadOnly | Fault::ViewReadOnly | Fault::SlowInserts => self.restore_table(),
            Fault::Join(kind, leaving) => self.leave(kind, leaving),
        }
    }

    /// A further member, which stays until [`Run::leave`] or until the schedule ends.
    fn join(&mut self, kind: Kind) {
        self.joined += 1;
        let name = format!("{}-{}", kind.program(), self.joined + 1);
        self.fleet.add(self.world, kind, &name);
    }

    /// The member that joined last goes.
    fn leave(&mut self, kind: Kind, leaving: Leaving) {
        let name = |member: &crate::fleet::Member| (member.kind == kind).then(|| member.name.clone());
        let Some(name) = self.fleet.members.iter().rev().find_map(name).filter(|name| name != first(kind)) else {
            return;
        };
        match leaving {
            Leaving::Killed => self.fleet.kill(&name),
            Leaving::InOrder => self.fleet.stop(&name),
        }
        self.fleet.remove(&name);
    }

    fn signal(&mut self, target: Target, signal: Signal) {
        if target == Target::ClickHouse {
            self.frozen = signal == Signal::STOP;
        }
        match target {
            Target::Service(kind) => self.fleet.signal(first(kind), signal),
            Target::Kafka => self.world.kafka_process().into_iter().for_each(|id| signal_group(id, signal)),
            Target::ClickHouse => self.world.clickhouse_process().into_iter().for_each(|id| signal_group(id, signal)),
        }
    }

    /// Tries to change the table; ClickHouse may be away.
    fn alter(&mut self, sql: &str) {
        if self.frozen || self.world.clickhouse_process().is_none() {
            return;
        }
        let table = |name| format!("{}.{name}", self.fleet.setup.database);
        let sql = sql.replace("{hits}", &table("hits")).replace("{page_titles}", &table("page_titles"));
        if let Err(problem) = self.world.try_query(&sql) {
            let problem = format!("{sql}: {problem}");
            self.fleet.note(&problem);
            self.refused.push(problem);
        }
    }

    fn restore_table(&mut self) {
        for setting in ["table_readonly", "parts_to_delay_insert", "parts_to_throw_insert"] {
            self.alter(&format!("ALTER TABLE {{hits}} RESET SETTING {setting}"));
        }
        self.alter("ALTER TABLE {page_titles} RESET SETTING table_readonly");
        self.alter("ALTER TABLE {hits} RESET SETTING min_delay_to_insert_ms, max_delay_to_insert");
        self.alter("SYSTEM START MERGES {hits}");
    }

    /// Ends whatever goes wrong.
    fn heal(&mut self) {
        for link in LINKS {
            self.world.set(link, Cable::Whole);
        }
        for target in [Target::Kafka, Target::ClickHouse] {
            self.signal(target, Signal::CONT);
        }
        self.world.start_kafka();
        self.world.start_clickhouse();
        for kind in [Kind::Collector, Kind::Enricher, Kind::Sink] {
            self.fleet.signal(first(kind), Signal::CONT);
            self.fleet.start(self.world, first(kind));
        }
        self.feel();
        if self.schedule.faults.iter().any(|planned| touches_table(planned.fault)) {
            // One change may be refused because of another while both are made; a whole table takes any.
            self.refused.clear();
            self.restore_table();
            self.unfelt.append(&mut self.refused);
        }
    }

    /// Faults that others hid come again, one by one, until they are felt.
    fn feel(&mut self) {
        self.forget_what_was_felt();
        for mut waiting in std::mem::take(&mut self.waiting) {
            let planned = Planned { fault: waiting.fault, at: Duration::ZERO, lasts: Duration::ZERO };
            self.restore_table();
            self.begin(planned);
            let deadline = Instant::now() + FELT_WITHIN;
            while !waiting.is_felt(self.world, &self.fleet) {
                if Instant::now() > deadline {
                    self.unfelt.push(format!("nobody felt {:?}", waiting.fault));
                    break;
                }
                self.fleet.supervise(self.world);
                std::thread::sleep(TICK);
            }
            self.end(planned);
        }
        self.waiting.clear();
    }

    fn forget_what_was_felt(&mut self) {
        if !self.frozen {
            let Self { world, fleet, waiting, .. } = self;
            waiting.retain_mut(|waiting| !waiting.is_felt(world, fleet));
        }
    }

    /// Waits until nothing is on its way any more.
    fn settle(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            self.fleet.supervise(self.world);
            let waiting = self.on_the_way();
            match waiting {
                Ok(()) => return Ok(()),
                Err(what) if Instant::now() > deadline => {
                    return Err(format!("not settled within {} s: {what}", SETTLED_WITHIN.as_secs()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn on_the_way(&mut self) -> Result<(), String> {
        match unpublished(&self.fleet.setup.spool) {
            0 => {}
            bytes => return Err(format!("{bytes} bytes in the spool are not published")),
        }
        let prefix = &self.fleet.setup.prefix;
        let brokers = self.world.brokers();
        topics::read_by(&brokers, &format!("{prefix}enricher"), &format!("{prefix}hits.raw"))?;
        topics::read_by(&brokers, &format!("{prefix}sink"), &format!("{prefix}hits.enriched"))
    }

    /// Holds what is there against what was promised.
    pub fn judge(&self, aftermath: &Aftermath) -> Findings {
        judge(self.world, &self.fleet, aftermath)
    }

    /// Ends the services in order.
    pub fn finish(mut self) -> Vec<String> {
        self.fleet.stop_all();
        drop(self.small_disk.take());
        std::mem::take(&mut self.fleet.notes)
    }
}

/// Bytes of the spool after the position up to which it was published. The metric tells what lies there, and the last
/// segment stays for a while.
fn unpublished(spool: &Path) -> u64 {
    let position = std::fs::read_to_string(spool.join("position")).unwrap_or_default();
    let mut words = position.split_whitespace().map(|word| word.parse::<u64>().unwrap());
    let (number, offset) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
    let entries = std::fs::read_dir(spool).unwrap().flatten();
    let segments = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        // A segment may be removed while the folder is listed.
        Some((name.strip_suffix(".spool")?.parse::<u64>().unwrap(), entry.metadata().ok()?.len()))
    });
    segments
        .map(|(segment, bytes)| match segment.cmp(&number) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => bytes.saturating_sub(offset),
            std::cmp::Ordering::Greater => bytes,
        })
        .sum()
}

enum Step {
    Begin(usize),
    End(usize),
    Poison,
    Last,
}

fn touches_table(fault: Fault) -> bool {
    matches!(fault, Fault::TooManyParts | Fault::ReadOnly | Fault::ViewReadOnly | Fault::SlowInserts)
}

fn first(kind: Kind) -> &'static str {
    match kind {
        Kind::Collector => "collector-1",
        Kind::Enricher => "enricher-1",
        Kind::Sink => "sink-1",
    }
}
