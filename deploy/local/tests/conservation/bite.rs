//! Whether a fault was felt: one that met nobody proves nothing.

use crate::fleet::{Fleet, Kind};
use crate::schedule::Fault;
use crate::world::World;

/// Where it shows that a fault was felt.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// A counter of ClickHouse.
    Event(&'static str),
    /// An error that ClickHouse answered with.
    Error(&'static str),
    /// What the collector counts under this outcome.
    Outcome(&'static str),
}

fn sign(fault: Fault) -> Option<Sign> {
    match fault {
        Fault::TooManyParts => Some(Sign::Event("RejectedInserts")),
        Fault::SlowInserts => Some(Sign::Event("DelayedInserts")),
        Fault::ReadOnly | Fault::ViewReadOnly => Some(Sign::Error("TABLE_IS_PERMANENTLY_READ_ONLY")),
        Fault::FullSpool => Some(Sign::Outcome("failed_spool")),
        // The others are felt by whom they meet: a process that is gone, a connection that carries all there is.
        Fault::Kill(_) | Fault::Pause(_) | Fault::Restart(_) | Fault::Cable(..) | Fault::Join(..) => None,
    }
}

impl Sign {
    /// How often it shows since whoever counts it was started; nothing where that one is away.
    fn count(self, world: &World, fleet: &Fleet) -> Option<u64> {
        let asked = |table: &str, column: &str, name: &str| {
            world.try_query(&format!("SELECT sum(value) FROM system.{table} WHERE {column} = '{name}'")).ok()
        };
        match self {
            Self::Event(name) => asked("events", "event", name)?.trim().parse().ok(),
            Self::Error(name) => asked("errors", "name", name)?.trim().parse().ok(),
            Self::Outcome(name) => {
                let collector = fleet.members.iter().find(|member| member.kind == Kind::Collector)?;
                let is_it = |metric: &str| metric.starts_with("collector_hits_total{") && metric.contains(name);
                let metrics = collector.metrics();
                Some(metrics.iter().filter(|(metric, _)| is_it(metric)).map(|(_, value)| *value as u64).sum())
            }
        }
    }
}

/// A fault that was not felt yet.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Which.
    pub fault: Fault,
    sign: Sign,
    before: u64,
}

impl Waiting {
    /// A fault that is about to begin; nothing for one that can't but be felt. Nobody is asked how often it shows where
    /// `is_frozen`: then it is felt when it shows once more than at the first question.
    pub fn for_it(fault: Fault, world: &World, fleet: &Fleet, is_frozen: bool) -> Option<Self> {
        let sign = sign(fault)?;
        let before = if is_frozen { None } else { sign.count(world, fleet) };
        Some(Self { fault, sign, before: before.unwrap_or(u64::MAX) })
    }

    /// Whether it was felt by now. Who counts may have been started again meanwhile, and then counts from nothing.
    pub fn is_felt(&mut self, world: &World, fleet: &Fleet) -> bool {
        let Some(count) = self.sign.count(world, fleet) else { return false };
        let is_felt = count > self.before;
        self.before = self.before.min(count);
        is_felt
    }
}
