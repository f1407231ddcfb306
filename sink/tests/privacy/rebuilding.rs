//! Erasures while a table is made anew.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use local::TestStack;
use schemas::{Kind, PrivacyAction, PrivacyDirective, SubjectKind};
use service::privacy::keys::Keys;
use sink::privacy::Executor;
use sink::privacy::erase::Step;
use sink::views::rebuild::rebuild;
use tempfile::NamedTempFile;

use crate::once::once;
use crate::people::{directive, executor, form, found, keys, publish, rounds};
use crate::support::{Place, hit, page_view, until};

const TABLES: [&str; 4] = ["contact_cards", "contact_links", "mail_opens", "settled_sessions"];

/// Two days of Anna, who also wrote from Ben's device; all of it was inserted long ago.
async fn load(place: &Place) {
    let day = 24 * 3600 * 1000;
    let mut hits = Vec::new();
    for (number, at) in [(10, 0), (20, day)] {
        hits.extend([
            form(number, "anna-visitor", at, "anna@steel.example", "+49304711"),
            hit(Kind::MailOpen, number + 1, "anna-visitor", at + 10, "/"),
            page_view(number + 2, "ben-visitor", at, "/"),
            form(number + 3, "ben-visitor", at + 20, "anna@steel.example", ""),
        ]);
    }
    place.insert(&hits).await;
    let earlier = "inserted_at = inserted_at - INTERVAL 10 MINUTE WHERE true SETTINGS mutations_sync = 1";
    place.query(&format!("ALTER TABLE {{database}}.hits UPDATE {earlier}"));
    place.settle();
    place.stop_settling();
    // What hits do not tell of her.
    place.query(
        "INSERT INTO {database}.contact_cards (site, contact, email, source) VALUES \
         ('shop', 'anna@steel.example', 'anna@steel.example', 'import')",
    );
}

fn erasure(keys: &Keys) -> [PrivacyDirective<'static>; 3] {
    [
        (SubjectKind::VisitorId, "anna-visitor"),
        (SubjectKind::Email, "anna@steel.example"),
        (SubjectKind::Phone, "+49304711"),
    ]
    .map(|(kind, value)| directive(keys, PrivacyAction::Erase, kind, value))
}

fn assert_erased(place: &Place, table: &str) {
    for needle in ["anna-visitor", "anna@", "4711"] {
        assert_eq!(found(place, needle), "", "{needle} in {table}");
    }
    // What is left of Ben's visits is told, without her.
    let ben = "SELECT page_views, forms FROM {database}.sessions WHERE visitor_id = 'ben-visitor'";
    assert_eq!(place.query(ben), "1\t0\n1\t0", "{table}");
}

/// A database with Anna in it, who asks to be erased.
struct Case {
    place: Place,
    keys: Keys,
    _file: NamedTempFile,
}

impl Case {
    async fn new(stack: &'static TestStack, name: &str) -> Self {
        let (place, file) = (Place::migrated(stack, name).await, keys());
        let keys = Keys::open(file.path()).unwrap();
        load(&place).await;
        publish(&place, &erasure(&keys)).await;
        Self { place, keys, _file: file }
    }

    async fn executor(&self, end_after: Option<Step>) -> Executor {
        executor(&self.place, &self.keys, end_after).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_while_a_table_is_made_anew_stays_erased() {
    let name = "whoever_is_erased_while_a_table_is_made_anew_stays_erased";
    let Some(stack) = local::stack_or_skip(name) else { return };
    for table in TABLES {
        let case = Case::new(stack, "between").await;
        let executor = case.executor(None).await;
        let erase = once(|| thread::spawn(|| rounds(executor)).join().unwrap().unwrap());
        rebuild(case.place.clickhouse(), None, table, erase).await.unwrap();
        assert_erased(&case.place, table);
    }
}

/// A pass that was killed half-way is gone on with by another sink; until then, nothing is written into the new table.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_anew_waits_for_an_erasure_that_is_half_done() {
    let name = "a_table_that_is_made_anew_waits_for_an_erasure_that_is_half_done";
    let Some(stack) = local::stack_or_skip(name) else { return };
    for (table, step) in [("contact_cards", Step::Hits), ("settled_sessions", Step::Sessions)] {
        let case = Case::new(stack, "half").await;
        let (killed, next) = (case.executor(Some(step)).await, case.executor(None).await);
        let (is_made, thread) = (AtomicBool::new(false), Mutex::new(None));
        let is_made: &'static AtomicBool = Box::leak(Box::new(is_made));
        let erase = once(|| {
            thread::spawn(|| rounds(killed)).join().unwrap().unwrap_err();
            let go_on = move || {
                thread::sleep(Duration::from_secs(3));
                assert!(!is_made.load(Ordering::Relaxed), "it did not wait");
                rounds(next)
            };
            *thread.lock().unwrap() = Some(thread::spawn(go_on));
        });
        rebuild(case.place.clickhouse(), None, table, erase).await.unwrap();
        is_made.store(true, Ordering::Relaxed);
        let erasing = thread.lock().unwrap().take().unwrap();
        erasing.join().unwrap().unwrap();
        assert_erased(&case.place, table);
    }
}

/// The day was read before the hits were deleted, and is written after.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_what_fills_a_table_at_that_moment() {
    let name = "an_erasure_waits_for_what_fills_a_table_at_that_moment";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let case = Case::new(stack, "filling").await;
    let (place, executor, thread) = (&case.place, case.executor(None).await, Mutex::new(None));
    let (url, database) = (place.clickhouse_url.clone(), place.database.clone());
    let query =
        move |sql: &str| local::clickhouse::query(&url, "default", &sql.replace("{database}", &database)).unwrap();
    let erase = once(|| {
        for number in 0..4 {
            // Of a row each; the second day has two.
            query(&format!(
                "ALTER TABLE {{database}}.contact_cards_next ADD CONSTRAINT slow_{number} CHECK sleepEachRow(1.4{number}) = 0"
            ));
        }
        let fills = "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND elapsed > 0.5 \
                     AND startsWith(query, 'INSERT INTO {database}.contact_cards_next')";
        let erase = move || {
            while query(fills) == "0" {
                thread::sleep(Duration::from_millis(20));
            }
            rounds(executor)
        };
        *thread.lock().unwrap() = Some(thread::spawn(erase));
    });
    rebuild(place.clickhouse(), None, "contact_cards", erase).await.unwrap();
    let erasing = thread.lock().unwrap().take().unwrap();
    erasing.join().unwrap().unwrap();
    assert_erased(place, "contact_cards");
}

/// The tables are exchanged after the one was seen to and before the other is; one pass is enough all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_sees_to_both_tables_also_where_they_are_exchanged() {
    let name = "an_erasure_sees_to_both_tables_also_where_they_are_exchanged";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let case = Case::new(stack, "exchanged").await;
    let place = &case.place;
    place.query("CREATE TABLE {database}.contact_cards_next AS {database}.contact_cards");
    place.query("INSERT INTO {database}.contact_cards_next SELECT * FROM {database}.contact_cards");
    // The erasure waits for the end of this.
    place.query("SYSTEM STOP MERGES {database}.contact_cards_next");
    place.query("ALTER TABLE {database}.contact_cards_next UPDATE name = 'x' WHERE true SETTINGS mutations_sync = 0");
    let executor = case.executor(Some(Step::Others)).await;
    let erasing = thread::spawn(|| rounds(executor));
    let left = "SELECT count() FROM {database}.contact_cards WHERE contact = 'anna@steel.example'";
    until("the first of the tables is seen to", || place.query(left) == "0").await;
    place.query("EXCHANGE TABLES {database}.contact_cards AND {database}.contact_cards_next");
    ["contact_cards", "contact_cards_next"]
        .iter()
        .for_each(|table| drop(place.query(&format!("SYSTEM START MERGES {{database}}.{table}"))));
    erasing.join().unwrap().unwrap_err();
    // Whom it was about, for the next pass.
    place.query("TRUNCATE TABLE {database}.erasing");
    assert_erased(place, "both");
}
