//! What goes wrong in a schedule, and when: everything is drawn from its seed.

use crate::fleet::{Kind, SESSION};
use crate::proxy::Cable;
use crate::world::Link;
use crate::{FIRST, SCHEDULES};
use std::fmt;
use std::time::Duration;

/// Who can be killed or frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The first member of a service.
    Service(Kind),
    /// The broker.
    Kafka,
    /// The database.
    ClickHouse,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; started again at the end.
    Kill(Target),
    /// SIGSTOP; SIGCONT at the end. A member of a group is away for longer than its session, and another one joins
    /// that takes its partitions: it wakes up as a zombie.
    Pause(Target),
    /// SIGTERM, and started again at once.
    Restart(Kind),
    /// A cable is cut, slow or stalled.
    Cable(Link, Cable),
    /// ClickHouse refuses inserts: its merges stand still, and parts are many.
    TooManyParts,
    /// ClickHouse refuses inserts: the table is read-only.
    ReadOnly,
    /// ClickHouse stores inserts, and then what a view makes of them can't be stored: its table is read-only.
    ViewReadOnly,
    /// ClickHouse lets each insert wait.
    SlowInserts,
    /// A further member joins, and leaves again at the end: killed, or in order.
    Join(Kind, Leaving),
    /// Kafka is away, and the disk of the spool is small.
    FullSpool,
}

/// How a further member leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// SIGKILL.
    Killed,
    /// SIGTERM.
    InOrder,
}

/// A fault with its times, counted from the first hit.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// What.
    pub fault: Fault,
    /// From when.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
}

/// All that happens to a fleet.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// What everything was drawn from.
    pub seed: u64,
    /// Whether members keep their names over restarts (static membership).
    pub named: bool,
    /// What goes wrong.
    pub faults: Vec<Planned>,
    /// When undecodable messages are put on the topics.
    pub poison: Vec<Duration>,
}

/// Cards that a schedule is dealt from the deck, in order; more are drawn.
const DEALT: usize = 3;

/// Every kind of fault. Schedules with consecutive seeds go through it three by three; a number that three does not divide,
/// so that they change from round to round.
const DECK: [Fault; 34] = [
    Fault::Kill(Target::Service(Kind::Sink)),
    Fault::Cable(Link::SinkClickHouse, Cable::Cut),
    Fault::Kill(Target::Service(Kind::Enricher)),
    Fault::Cable(Link::CollectorKafka, Cable::Cut),
    Fault::Kill(Target::Kafka),
    Fault::Pause(Target::Service(Kind::Sink)),
    Fault::Kill(Target::ClickHouse),
    Fault::Kill(Target::Service(Kind::Collector)),
    Fault::Pause(Target::Service(Kind::Enricher)),
    Fault::TooManyParts,
    Fault::FullSpool,
    Fault::Join(Kind::Sink, Leaving::Killed),
    Fault::ReadOnly,
    Fault::Join(Kind::Enricher, Leaving::InOrder),
    Fault::Cable(Link::SinkClickHouse, Cable::Stalled),
    Fault::Restart(Kind::Collector),
    Fault::SlowInserts,
    Fault::Cable(Link::EnricherKafka, Cable::Cut),
    Fault::Pause(Target::Kafka),
    Fault::Restart(Kind::Sink),
    Fault::Cable(Link::SinkKafka, Cable::Cut),
    Fault::Join(Kind::Enricher, Leaving::Killed),
    Fault::Pause(Target::ClickHouse),
    Fault::Restart(Kind::Enricher),
    Fault::Cable(Link::CollectorKafka, Cable::Slow(120)),
    Fault::Pause(Target::Service(Kind::Collector)),
    Fault::Join(Kind::Sink, Leaving::InOrder),
    Fault::Cable(Link::EnricherKafka, Cable::Stalled),
    Fault::ViewReadOnly,
    Fault::Cable(Link::SinkKafka, Cable::Slow(120)),
    Fault::Cable(Link::EnricherKafka, Cable::Slow(120)),
    Fault::Cable(Link::SinkKafka, Cable::Stalled),
    Fault::Cable(Link::CollectorKafka, Cable::Deaf),
    Fault::Cable(Link::SinkClickHouse, Cable::Deaf),
];

impl Schedule {
    /// The schedule of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let card = |number: u64| DECK[usize::try_from(number % DECK.len() as u64).unwrap_or(0)];
        let first = seed.wrapping_mul(DEALT as u64);
        let mut faults: Vec<Fault> = (0..DEALT as u64).map(|number| card(first.wrapping_add(number))).collect();
        for _ in 0..random.u32(..2) {
            faults.push(DECK[random.usize(..DECK.len())]);
        }
        if let Some(number) = std::env::var("ONLY").ok().and_then(|text| text.parse::<usize>().ok()) {
            // For one fault on its own, while something is looked for.
            faults = vec![DECK[number % DECK.len()]];
        }
        let faults = faults.into_iter().map(|fault| Planned {
            fault,
            at: Duration::from_millis(random.u64(400..3000)),
            lasts: Duration::from_millis(lasts(fault, &mut random)),
        });
        let faults = faults.collect();
        let poison = (0..random.u32(2..5)).map(|_| Duration::from_millis(random.u64(..4000))).collect();
        Self { seed, named: random.bool(), faults, poison }
    }

    /// When the last fault is over.
    pub fn end(&self) -> Duration {
        self.faults.iter().map(|planned| planned.at + planned.lasts).max().unwrap_or_default()
    }

    /// Whether the spool lies on a small disk.
    pub fn small_spool(&self) -> bool {
        self.faults.iter().any(|planned| planned.fault == Fault::FullSpool)
    }
}

/// Milliseconds.
fn lasts(fault: Fault, random: &mut fastrand::Rng) -> u64 {
    let session = u64::try_from(SESSION.as_millis()).unwrap_or(0);
    match fault {
        Fault::Kill(_) => random.u64(..1500),
        Fault::Pause(Target::Service(Kind::Enricher | Kind::Sink)) => session + random.u64(1000..3000),
        Fault::Pause(_) => random.u64(500..4000),
        Fault::Restart(_) => 0,
        Fault::Cable(_, Cable::Stalled) => random.u64(4000..6500),
        Fault::Cable(..) => random.u64(300..4000),
        Fault::TooManyParts | Fault::ReadOnly | Fault::ViewReadOnly | Fault::SlowInserts => random.u64(1500..4000),
        Fault::Join(..) => random.u64(1000..4000),
        Fault::FullSpool => random.u64(3000..5000),
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = if self.named { "named members" } else { "members without names" };
        write!(formatter, "seed {}, {named}", self.seed)?;
        for planned in &self.faults {
            let (from, to) = (planned.at, planned.at + planned.lasts);
            write!(formatter, "; {:.1}-{:.1} s {:?}", from.as_secs_f64(), to.as_secs_f64(), planned.fault)?;
        }
        Ok(())
    }
}

#[test]
fn a_seed_is_a_schedule_and_a_short_run_deals_every_fault() {
    assert_eq!(Schedule::draw(7).to_string(), Schedule::draw(7).to_string());
    assert_ne!(Schedule::draw(7).to_string(), Schedule::draw(34).to_string());
    let dealt: Vec<Fault> =
        (FIRST..FIRST + SCHEDULES).flat_map(|seed| Schedule::draw(seed).faults).map(|each| each.fault).collect();
    let missing: Vec<_> = DECK.iter().filter(|fault| !dealt.contains(fault)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
