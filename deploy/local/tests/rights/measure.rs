//! How long an erasure takes in a table of many hits, while loading goes on: `HITS=10000000` asks for this instead of the
//! proof.
//!
//! The table is filled by ClickHouse itself: ten hits a visitor over 30 days at one site, every twentieth visitor with a
//! form. Then one subject is erased, and a thousand in one request; people come and go all the while. Told is the time from
//! the start of the command until `privacy status` says that it is done: the parts were written anew, too.

use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::commands::Desk;
use crate::traffic::Crowd;
use crate::world::{DATABASE, World};
use crate::{people, tell};

/// Rows of one insert.
const AT_ONCE: u64 = 1_000_000;
const ONE_WITHIN: Duration = Duration::from_secs(60);
const THOUSAND_WITHIN: Duration = Duration::from_secs(600);

/// Fills a table with so many hits, and erases from it.
pub fn measure(directory: &Path, seed: u64, hits: u64) {
    let world = World::start(directory);
    let filling = Instant::now();
    fill(&world, hits);
    tell(&format!("{hits} hits in {:.0} s", filling.elapsed().as_secs_f64()));
    // As where hits came one after the other: their sessions are kept, and are to be erased, too.
    world.sink(DATABASE, &["views", "rebuild", "settled_sessions"]);
    assert_eq!(
        world.number("SELECT uniqExact(visitor_id) FROM {db}.settled_sessions FINAL WHERE site != ''"),
        usize::try_from(hits / 10).unwrap()
    );
    tell(&format!("their sessions after {:.0} s", filling.elapsed().as_secs_f64()));
    world.run_all();
    let crowd = Crowd::new(people::draw(seed, 50), &world.collector);
    let clients = crowd.start(seed);
    let desk = Desk::new(&world, &crowd, Rng::with_seed(seed));
    for (first, people, within) in [(0, 1, ONE_WITHIN), (20, 1_000, THOUSAND_WITHIN)] {
        let before = world.number("SELECT count() FROM {db}.hits");
        let begun = Instant::now();
        // Each with an address of their own.
        let emails = (0..people).map(|number| format!("--email=person-{}@steel.example", first + number * 20));
        desk.must("erase", &[vec!["--site=shop".to_owned()], emails.collect()].concat());
        desk.wait_until_done();
        let took = begun.elapsed();
        let after = world.number("SELECT count() FROM {db}.hits");
        tell(&format!("erasing {people} of {before} hits took {:.1} s; {after} hits then", took.as_secs_f64()));
        let left = "SELECT count() FROM {db}.hits WHERE contact_email != '' AND contact_email IN \
                    (SELECT concat('person-', toString(20 * number), '@steel.example') FROM numbers(1 + {people}))";
        let left = world.number(&left.replace("{people}", &people.to_string()));
        assert_eq!(left, if people == 1 { 1 } else { 0 }, "rows of who was erased");
        assert!(took <= within, "{took:?}");
    }
    crowd.finish(clients);
    world.stop_all();
}

fn fill(world: &World, hits: u64) {
    for from in (0..hits).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let rows = AT_ONCE.min(hits - from);
        world.query(&format!(
            "INSERT INTO {{db}}.hits (hit_id, site, protocol, kind, received_at, occurred_at, visitor_id, visitor_id_source, \
             session_id, page_url, page_host, page_path, page_title, user_agent, ip, country, contact_email, kafka_partition, \
             kafka_offset) WITH number + {from} AS n, intDiv(n, 10) AS visitor, n % 10 = 0 AND visitor % 20 = 0 AS is_form, \
             now64(3, 'UTC') - toIntervalSecond(3600 + visitor * 7919 % 2592000 - n % 10) AS at \
             SELECT generateUUIDv7(n), 'shop', 'tag', if(is_form, 'form', 'page_view'), at, at, \
             concat('visitor-', toString(visitor)), 'client', toUUID(concat('00000000-0000-4000-8000-', lower(leftPad(hex(visitor), 12, '0')))), \
             concat('https://shop.example.com/page-', toString(cityHash64(n) % 400)), 'shop.example.com', \
             concat('/page-', toString(cityHash64(n) % 400)), concat('Page ', toString(cityHash64(n) % 400)), 'Mozilla/5.0', \
             toIPv6(concat('::ffff:198.51.100.', toString(visitor % 250))), 'DE', \
             if(is_form, concat('person-', toString(visitor), '@steel.example'), ''), 1000, n \
             FROM numbers({rows}) SETTINGS max_partitions_per_insert_block = 0"
        ));
    }
}
