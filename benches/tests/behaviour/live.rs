//! Who is live: traffic of the last hour, in a database of its own.

use std::collections::BTreeMap;

use benches::behaviour::{Database, Place, load};
use benches::traffic::visit::{Action, Visit};
use benches::traffic::{Settings, Traffic, World};
use schemas::Kind;
use tokio::runtime::Runtime;

use crate::stage::now;

const MINUTE: i64 = 60_000;

/// When an action was heard of last.
fn heard_at(action: &Action) -> i64 {
    action.repeated_at.unwrap_or(action.received_at)
}

/// Until so long after it an action makes its visitor live: it has to be heard of lately, and to have happened lately.
fn fresh_at(action: &Action) -> i64 {
    heard_at(action).min(action.occurred_at)
}

/// When the visitor was heard of last, and the page of the latest action, of those that are fresh since then.
fn last_of(actions: &[&Action], since: i64) -> Option<(i64, Option<usize>)> {
    let lately: Vec<_> = actions.iter().filter(|action| fresh_at(action) > since).collect();
    let heard = lately.iter().map(|action| heard_at(action)).max()?;
    Some((heard, lately.iter().max_by_key(|action| action.occurred_at).and_then(|action| action.page)))
}

#[test]
fn whoever_was_heard_of_lately_is_live_on_that_page() {
    let Some(stack) = local::database_or_skip("whoever_was_heard_of_lately_is_live_on_that_page") else { return };
    let runtime = Runtime::new().unwrap();
    let database = Database::new(stack.clickhouse_url(), &stack.database("live")).unwrap();
    runtime.block_on(database.migrate()).unwrap();
    let world = World::new(Settings::new(5, 6_000, now()).lasting(60 * MINUTE));
    let mut traffic = Traffic::new(&world).with_ledger();
    load(runtime.handle(), &database, &Place { epoch: "live", partition: 0 }, traffic.by_ref()).unwrap();
    let question =
        "SELECT site, visitor_id, toUnixTimestamp64Milli(last_seen), current_page FROM {database}.live_visitors";
    let lines = database.lines(question).unwrap();
    let asked = now();
    let found: BTreeMap<(&str, &str), &str> =
        lines.iter().map(|line| line.splitn(3, '\t').collect::<Vec<_>>()).map(|f| ((f[0], f[1]), f[2])).collect();

    let ledger = traffic.into_ledger();
    let (mut live, mut gone) = (0, 0);
    for ((site, id), visits) in ledger.visitors() {
        let actions = visits.iter().flat_map(|visit: &&Visit| &visit.actions);
        let heard: Vec<_> = actions.filter(|action| action.kind != Kind::MailOpen).collect();
        let Some(last) = heard.iter().map(|action| fresh_at(action)).max() else { continue };
        let seen = found.get(&(world.sites[site].key, id));
        if last < world.settings.end - 5 * MINUTE {
            gone += 1;
            assert_eq!(seen, None, "{id} was heard of {} ms ago", asked - last);
        } else if last > asked - 4 * MINUTE {
            let of = &world.sites[site];
            let [told, other] = [4, 6].map(|minutes| last_of(&heard, asked - minutes * MINUTE));
            if told != other {
                // It depends on the very moment of the question.
                continue;
            }
            live += 1;
            let (last_seen, page) = told.unwrap();
            let expected = format!("{last_seen}\t{}{}", of.host, of.pages[page.unwrap()].path);
            assert_eq!(seen, Some(&expected.as_str()), "{id} of {}", of.key);
        }
    }
    assert!(live > 10 && gone > 10, "{live} are live, {gone} are gone");
}
