//! State tables made anew, while loading goes on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use schemas::{EnrichedHit, Kind};
use sink::clickhouse::ClickHouse;
use sink::views::{ViewsError, rebuild::rebuild};
use tokio::runtime::Handle;

use crate::once::once;
use crate::states::{DAY, HOUR, MINUTE, form, in_session};
use crate::support::{Place, hit, page_view, unnamed};

const TABLES: [&str; 6] =
    ["contact_cards", "contact_links", "mail_opens", "page_titles", "settled_sessions", "unnamed_views"];

/// A page view, a form and an opened mail of a visitor of their own, and a page view of nobody.
fn hits(number: u128) -> [EnrichedHit<'static>; 4] {
    let visitor: &'static str = format!("visitor-{number}").leak();
    let email: &'static str = format!("{visitor}@x.example").leak();
    let mut view = in_session(page_view(4 * number, visitor, 0, "/"), number);
    let form = in_session(form(4 * number + 1, visitor, MINUTE, ["Ada", email, "1"]), number);
    let mail = hit(Kind::MailOpen, 4 * number + 2, visitor, HOUR, "/");
    view.hit.page_title = "Home".into();
    [view, form, mail, unnamed(page_view(4 * number + 3, "", 0, "/unnamed"))]
}

/// How many visitors each table, or what stands on it, knows; and how many page views of nobody.
fn known(place: &Place) -> [String; 6] {
    [
        "SELECT uniqExact(visitor_id) FROM {database}.contact_cards WHERE source = 'form'",
        "SELECT uniqExact(visitor_id) FROM {database}.contact_visitors",
        "SELECT uniqExact(visitor_id) FROM {database}.mail_opens",
        "SELECT uniqExactIf(visitor_id, page_views = 1 AND forms = 1) FROM {database}.sessions",
        "SELECT concat(any(page_title), ' ', toString(sum(views))) FROM {database}.pages WHERE page_path = '/'",
        "SELECT views FROM {database}.pages WHERE page_path = '/unnamed'",
    ]
    .map(|question| place.query(question))
}

/// Whatever is inserted while tables are made anew is in them; what people wrote stays.
#[tokio::test]
async fn nothing_is_lost_while_loading_goes_on() {
    let Some(stack) = local::database_or_skip("nothing_is_lost_while_loading_goes_on") else { return };
    let place = Place::migrated(stack, "rebuilding").await;
    place.load(&hits(1)).await;
    place.query("INSERT INTO {database}.contact_cards (site, contact, email, name) VALUES ('shop', 'i@x.example', 'i@x.example', 'Ines')");
    place.query("INSERT INTO {database}.contact_links (site, contact, visitor_id, is_linked, linked_at) VALUES ('shop', 'visitor-1@x.example', 'visitor-1', false, now64(3) + 1)");
    // What was lost or is wrong is made good.
    place.query("ALTER TABLE {database}.contact_cards DELETE WHERE source = 'form' SETTINGS mutations_sync = 1");
    place.query("ALTER TABLE {database}.settled_sessions DELETE WHERE site != '' SETTINGS mutations_sync = 1");
    ["page_titles", "mail_opens", "unnamed_views"]
        .iter()
        .for_each(|table| drop(place.query(&format!("TRUNCATE TABLE {{database}}.{table}"))));

    let ended = AtomicBool::new(false);
    let load = async {
        let mut number = 1;
        while !ended.load(Ordering::Relaxed) {
            number += 1;
            place.insert(&hits(number)).await;
        }
        number
    };
    let make = async {
        for table in TABLES {
            rebuild(place.clickhouse(), None, table, |_| ()).await.unwrap();
        }
        ended.store(true, Ordering::Relaxed);
    };
    let (loaded, ()) = tokio::join!(load, make);
    assert!(loaded > 4, "only {loaded} visitors came meanwhile");
    // The link of the first was undone.
    place.settle();
    let all = loaded.to_string();
    let expected = [all.clone(), (loaded - 1).to_string(), all.clone(), all.clone(), format!("Home {loaded}"), all];
    assert_eq!(known(&place), expected);
    assert_eq!(place.query("SELECT name FROM {database}.contact_cards WHERE source = 'import'"), "Ines");
    assert_eq!(
        place.query("SELECT count() FROM system.tables WHERE database = '{database}' AND name LIKE '%_next%'"),
        "0"
    );
    place.migrator().check().await.unwrap();
}

/// An insert may find the table of the first view before the exchange and that of the second one after it, and so fill the old
/// one twice. The new one has its rows in the end.
#[tokio::test]
async fn what_is_inserted_while_the_tables_are_exchanged_is_kept() {
    let name = "what_is_inserted_while_the_tables_are_exchanged_is_kept";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "exchanging").await;
    place.load(&hits(1)).await;
    let lose = |table: &str| drop(place.query(&format!("TRUNCATE TABLE {{database}}.{table}")));
    for table in TABLES.iter().filter(|table| **table != "settled_sessions") {
        let tell = |text: &str| {
            if text == "exchanged\n" {
                lose(table)
            }
        };
        rebuild(place.clickhouse(), None, table, tell).await.unwrap();
    }
    assert_eq!(known(&place), ["1", "1", "1", "1", "Home 1", "1"]);
}

/// A view that was changed by hand, and with it its table, become what this version defines; so does what an attempt that
/// was killed left.
#[tokio::test]
async fn a_table_becomes_what_this_version_defines() {
    let Some(stack) = local::database_or_skip("a_table_becomes_what_this_version_defines") else { return };
    let place = Place::migrated(stack, "redefined").await;
    place.query("ALTER TABLE {database}.contact_cards DROP COLUMN phone");
    let select = "SELECT site, 'wrong' AS contact, visitor_id, hit_id, occurred_at AS submitted_at, 'form' AS source FROM {database}.hits";
    place.query(&format!("ALTER TABLE {{database}}.write_contact_cards MODIFY QUERY {select}"));
    place.query("CREATE TABLE {database}.contact_cards_next (old Int8) ENGINE = MergeTree ORDER BY old");
    place.insert(&hits(1)).await;
    assert_eq!(place.query("SELECT contact FROM {database}.contact_cards LIMIT 1"), "wrong");
    rebuild(place.clickhouse(), None, "contact_cards", |_| ()).await.unwrap();
    place.insert(&hits(2)).await;
    let found = place.query("SELECT DISTINCT contact, phone FROM {database}.contact_cards ORDER BY contact");
    assert_eq!(found, "visitor-1@x.example\t1\nvisitor-2@x.example\t1");
    let windows = sink::window::windows(&place.clickhouse()).await.unwrap();
    assert!(windows.iter().all(|window| window.width == sink::window::WIDE), "{windows:?}");
}

#[tokio::test]
async fn what_is_not_made_from_hits_is_not_made_anew() {
    let Some(stack) = local::database_or_skip("what_is_not_made_from_hits_is_not_made_anew") else { return };
    let place = Place::migrated(stack, "not_rebuilt").await;
    place.insert(&[page_view(1, "ben", HOUR, "/")]).await;
    for table in ["hits", "goals", "sessions"] {
        let answer = rebuild(place.clickhouse(), None, table, |_| ()).await;
        assert!(matches!(answer, Err(ViewsError::Unknown(_))), "{table}");
    }
    assert_eq!(place.query("SELECT count() FROM {database}.hits"), "1");
}

/// What people write into the two tables that they write into, by hand or in bulk.
const BY_HAND: [(&str, &str); 2] = [
    ("contact_cards", "(site, contact, email, name) SELECT 'shop', 'i@x.example', 'i@x.example', 'Ines'"),
    ("contact_links", "(site, contact, visitor_id) SELECT 'shop', 'i@x.example', 'ines'"),
];

fn by_hand(place: &Place, table: &str) -> String {
    place.query(&format!("SELECT uniqExact(contact) FROM {{database}}.{table} WHERE contact = 'i@x.example'"))
}

/// Gives the command, and kills it when it tells this.
async fn killed_at(told: &'static str, place: &Place, table: &'static str) {
    let kill = move |text: &str| assert_ne!(text, told, "killed");
    let clickhouse = place.clickhouse();
    let task = tokio::spawn(async move { rebuild(clickhouse, None, table, kill).await });
    assert!(task.await.unwrap_err().is_panic(), "{table}");
}

/// Killed at the moment of the exchange and given again, it has lost nothing that people wrote: neither before nor at that moment.
#[tokio::test]
async fn what_people_wrote_outlives_a_command_that_is_killed() {
    let name = "what_people_wrote_outlives_a_command_that_is_killed";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "killed").await;
    place.insert(&hits(1)).await;
    for (table, row) in BY_HAND {
        place.query(&format!("INSERT INTO {{database}}.{table} {row}"));
        killed_at("exchanged\n", &place, table).await;
        // As an import does that began before the exchange.
        place.query(&format!("INSERT INTO {{database}}.{table}_next {}", row.replace("i@", "late@")));
        rebuild(place.clickhouse(), None, table, |_| ()).await.unwrap();
        let late =
            || place.query(&format!("SELECT count() FROM {{database}}.{table} WHERE contact = 'late@x.example'"));
        assert_eq!((by_hand(&place, table), late()), ("1".to_owned(), "1".to_owned()), "{table}");
        // What was taken back before the exchange stays so.
        killed_at("2026-03-10\n", &place, table).await;
        place.query(&format!("INSERT INTO {{database}}.{table}_next SELECT * FROM {{database}}.{table}"));
        place.query(&format!("DELETE FROM {{database}}.{table} WHERE contact = 'late@x.example'"));
        rebuild(place.clickhouse(), None, table, |_| ()).await.unwrap();
        assert_eq!(late(), "0", "{table}");
    }
}

/// An import that begins before the exchange and ends after it writes into the old table.
#[tokio::test]
async fn what_people_write_while_the_tables_are_exchanged_is_kept() {
    let name = "what_people_write_while_the_tables_are_exchanged_is_kept";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "importing").await;
    place.insert(&hits(1)).await;
    for (table, row) in BY_HAND {
        let import = format!(
            "INSERT INTO {}.{table} {row} FROM numbers(10) WHERE sleepEachRow(0.5) = 0 SETTINGS max_block_size = 1",
            place.database
        );
        let running = format!(
            "SELECT count() FROM system.processes WHERE startsWith(query, 'INSERT INTO {}.{table} ') AND query LIKE '%sleepEachRow%'",
            place.database
        );
        let (url, importing) = (place.clickhouse_url.clone(), Mutex::new(None));
        let tell = |text: &str| match text {
            "exchanged\n" => assert_eq!(place.query(&running), "1", "it has ended"),
            _ if importing.lock().unwrap().is_some() => {}
            _ => {
                let (url, import) = (url.clone(), import.clone());
                let import = thread::spawn(move || local::clickhouse::query(&url, "default", &import).unwrap());
                *importing.lock().unwrap() = Some(import);
                while place.query(&running) == "0" {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        };
        rebuild(place.clickhouse(), None, table, tell).await.unwrap();
        let importing = importing.lock().unwrap().take().unwrap();
        importing.join().unwrap();
        assert_eq!(by_hand(&place, table), "1", "{table}");
    }
}

/// The second is told so, and harms nothing; once the first has ended, it may be given again.
#[tokio::test(flavor = "multi_thread")]
async fn one_command_at_a_time_makes_a_table_anew() {
    let Some(stack) = local::database_or_skip("one_command_at_a_time_makes_a_table_anew") else { return };
    let place = Place::migrated(stack, "at_once").await;
    place.insert(&hits(1)).await;
    let again = || {
        let (clickhouse, runtime) = (place.clickhouse(), Handle::current());
        thread::spawn(move || runtime.block_on(rebuild(clickhouse, None, "contact_cards", |_| ()))).join().unwrap()
    };
    let refused = once(|| {
        let told = again().unwrap_err().to_string();
        let expected = format!("contact_cards of database {} is being made anew by another command", place.database);
        assert!(told.starts_with(&expected) && told.contains("KILL QUERY"), "{told}");
    });
    rebuild(place.clickhouse(), None, "contact_cards", refused).await.unwrap();
    assert_eq!(known(&place)[0], "1");
    again().unwrap();
    assert_eq!(known(&place)[0], "1");
}

/// A command that stood still for so long that another one took it for killed does not put that one's half-filled table in place.
#[tokio::test]
async fn no_table_is_put_in_place_but_the_one_that_was_made() {
    let Some(stack) = local::database_or_skip("no_table_is_put_in_place_but_the_one_that_was_made") else { return };
    let place = Place::migrated(stack, "overtaken").await;
    place.load(&hits(1)).await;
    for (table, known_at) in [("contact_cards", 0), ("settled_sessions", 3)] {
        let overtaken = once(|| {
            place.query(&format!("DROP TABLE {{database}}.{table}_next SYNC"));
            place.query(&format!("CREATE TABLE {{database}}.{table}_next AS {{database}}.{table}"));
        });
        let told = rebuild(place.clickhouse(), None, table, overtaken).await.unwrap_err().to_string();
        assert!(told.contains(&format!("{table}_next")), "{told}");
        assert_eq!(known(&place)[known_at], "1", "{table}");
        rebuild(place.clickhouse(), None, table, |_| ()).await.unwrap();
        assert_eq!(known(&place)[known_at], "1", "{table}");
    }
}

/// One that was taken for killed, and wakes up, takes nothing from the one that came after it; and that one, where something is
/// taken from it all the same, puts no table in place that inserts did not fill.
#[tokio::test]
async fn of_two_commands_none_drops_the_view_of_the_other() {
    let Some(stack) = local::database_or_skip("of_two_commands_none_drops_the_view_of_the_other") else { return };
    let place = Place::migrated(stack, "awakened").await;
    place.load(&hits(1)).await;
    let dropped = once(|| drop(place.query("DROP VIEW {database}.write_contact_cards_next SYNC")));
    let told = rebuild(place.clickhouse(), None, "contact_cards", dropped).await.unwrap_err().to_string();
    assert!(told.starts_with("exchanging the tables") && told.contains("write_contact_cards_next"), "{told}");
    let begun_again = |text: &str| {
        if text == "exchanged\n" {
            place.query("DROP TABLE {database}.contact_cards_next SYNC");
            place.query("CREATE TABLE {database}.contact_cards_next AS {database}.contact_cards");
        }
    };
    let told = rebuild(place.clickhouse(), None, "contact_cards", begun_again).await.unwrap_err().to_string();
    assert!(told.starts_with("dropping the view") && told.contains("contact_cards_next"), "{told}");
    let views = "SELECT count() FROM system.tables WHERE database = '{database}' AND name = 'write_contact_cards_next'";
    assert_eq!((place.query(views), known(&place)[0].clone()), ("1".to_owned(), "1".to_owned()));
    rebuild(place.clickhouse(), None, "contact_cards", |_| ()).await.unwrap();
    assert_eq!(known(&place)[0], "1");
}

/// Sessions do not stand still for a table that could not be exchanged.
#[tokio::test]
async fn what_fails_at_the_exchange_does_not_leave_settling_stopped() {
    let name = "what_fails_at_the_exchange_does_not_leave_settling_stopped";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "standing").await;
    place.load(&hits(1)).await;
    // The mark can't be put back.
    place.query("ALTER TABLE {database}.settlements ADD CONSTRAINT none CHECK false");
    let told = rebuild(place.clickhouse(), None, "settled_sessions", |_| ()).await.unwrap_err().to_string();
    assert!(told.starts_with("putting back the mark"), "{told}");
    let stopped = "SELECT view FROM system.view_refreshes WHERE database = '{database}' AND status = 'Disabled'";
    assert_eq!(place.query(stopped), "");
    place.query("ALTER TABLE {database}.settlements DROP CONSTRAINT none");
    place.load(&hits(2)).await;
    assert_eq!(known(&place)[3], "2");
}

/// A form of each of two days. What fills a table with the second day takes ten seconds; afterwards it is quick again.
async fn with_a_slow_second_day(place: &Place) -> impl Fn(&str) {
    let forms = [form(1, "ada", 0, ["Ada", "ada@x.example", ""]), form(2, "bob", DAY, ["Bob", "bob@x.example", ""])];
    place.insert(&forms).await;
    let slow = once(|| {
        for number in 0..4 {
            let slow = format!("ADD CONSTRAINT slow_{number} CHECK sleepEachRow(2.5{number}) = 0");
            place.query(&format!("ALTER TABLE {{database}}.contact_cards_next {slow}"));
        }
    });
    let quick =
        |number| drop(place.query(&format!("ALTER TABLE {{database}}.contact_cards DROP CONSTRAINT slow_{number}")));
    move |text| if text == "exchanged\n" { (0..4).for_each(quick) } else { slow(text) }
}

fn with_options(place: &Place, timeout: u64, hosts: usize) -> ClickHouse {
    let mut options = place.options(&[]).clickhouse;
    options.clickhouse_timeout = Duration::from_secs(timeout);
    options.clickhouse_url = vec![options.clickhouse_url[0].clone(); hosts];
    ClickHouse::new(&options)
}

/// A share of a large table takes longer than a request may take otherwise.
#[tokio::test]
async fn what_fills_a_table_may_take_its_time() {
    let Some(stack) = local::database_or_skip("what_fills_a_table_may_take_its_time") else { return };
    let place = Place::migrated(stack, "slow").await;
    let slow = with_a_slow_second_day(&place).await;
    rebuild(with_options(&place, 5, 1), None, "contact_cards", slow).await.unwrap();
    assert_eq!(known(&place)[0], "2");
}

/// Another server would write the same once more, while the first may be at it still.
#[tokio::test]
async fn what_fills_a_table_is_not_begun_again_on_another_host() {
    let name = "what_fills_a_table_is_not_begun_again_on_another_host";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "hosts").await;
    let slow = with_a_slow_second_day(&place).await;
    let (url, fill) = (place.clickhouse_url.clone(), format!("INSERT INTO {}.contact_cards_next ", place.database));
    let query = move |sql: &str| local::clickhouse::query(&url, "default", sql).unwrap();
    let kill = thread::spawn(move || {
        let runs = format!("startsWith(query, '{fill}') AND elapsed > 1");
        while query(&format!("SELECT count() FROM system.processes WHERE {runs}")) == "0" {
            thread::sleep(Duration::from_millis(20));
        }
        query(&format!("KILL QUERY WHERE {runs} ASYNC"));
    });
    let told = rebuild(with_options(&place, 60, 2), None, "contact_cards", slow).await.unwrap_err().to_string();
    kill.join().unwrap();
    assert!(told.starts_with("filling the table") && told.contains("QUERY_WAS_CANCELLED"), "{told}");
}
