//! What the views cost an insert: the same hits into the table alone and into the table with all that hangs off it.

use std::time::{Duration, Instant};

use benches::behaviour::{Database, Place, load};
use benches::traffic::{Settings, Traffic, World};
use tokio::runtime::Runtime;

use crate::options::Options;
use crate::server::{Server, rest};

/// What loading cost.
pub struct Cost {
    /// Hits.
    pub hits: u64,
    /// Into the table alone.
    pub alone: Load,
    /// With all views.
    pub with_views: Load,
}

/// One load.
#[derive(Default)]
pub struct Load {
    /// Time that the load took.
    pub loading: Duration,
    /// The server's processor time meanwhile.
    pub processor_loading: Duration,
    /// The server's processor time until it was at rest: merges and refreshes, too.
    pub processor: Duration,
}

/// Rounds of which the cheaper counts: the first is dearer, as everything is new to the server.
const ROUNDS: usize = 2;

/// Loads the same hits without and with views, by turns.
pub fn measure(options: &Options, runtime: &Runtime, server: &Server) -> anyhow::Result<Cost> {
    let world = World::new(Settings::new(options.seed + 2, options.cost_hits, crate::now()?));
    let mut cost = Cost { hits: options.cost_hits, alone: Load::default(), with_views: Load::default() };
    for round in 0..ROUNDS {
        let with_views = Database::new(&server.url(), &format!("cost_with_views_{round}"))?;
        runtime.block_on(with_views.migrate())?;
        let alone = Database::new(&server.url(), &format!("cost_alone_{round}"))?;
        alone.ask("CREATE DATABASE {database}")?;
        // Structure and settings are copied, what hangs off the table is not.
        alone.ask(&format!("CREATE TABLE {{database}}.hits AS {}.hits", with_views.name()))?;
        // All of it is settled at once, as if it had come in the same minute.
        with_views.stop_views()?;
        with_views.backdate()?;
        let without = load_into(runtime, server, &alone, &world, false)?;
        let with = load_into(runtime, server, &with_views, &world, true)?;
        cost.alone.keep_cheaper(without, round);
        cost.with_views.keep_cheaper(with, round);
        for database in [&alone, &with_views] {
            database.ask("DROP DATABASE {database} SYNC")?;
        }
    }
    Ok(cost)
}

impl Load {
    fn keep_cheaper(&mut self, other: Self, round: usize) {
        if round == 0 || other.processor < self.processor {
            *self = other;
        }
    }
}

fn load_into(
    runtime: &Runtime,
    server: &Server,
    database: &Database,
    world: &World,
    settles: bool,
) -> anyhow::Result<Load> {
    let (began, before) = (Instant::now(), server.processor_time()?);
    load(runtime.handle(), database, &Place { epoch: "cost", partition: 0 }, Traffic::new(world))?;
    let (loading, processor_loading) = (began.elapsed(), server.processor_time()? - before);
    if settles {
        database.end_backdating()?;
        database.settle()?;
    }
    rest(database)?;
    Ok(Load { loading, processor_loading, processor: server.processor_time()? - before })
}
