//! Audiences: who is in since when, and what no condition can do.

use std::sync::Mutex;
use std::time::Duration;

use local::{ClickHouse, TestStack};
use schemas::{Contact, EnrichedHit, Kind, VisitorIdSource};
use sink::audiences::catalogue::definitions;
use sink::audiences::refresh::{Refreshed, SETTINGS, refresh};
use sink::error::SinkError;
use sink::options::{Command, Options, SERVICE};
use tokio_util::sync::CancellationToken;

use crate::arrival::{ARRIVALS, Arrival, DAY, arrived, lines, today};
use crate::support::{PATIENCE, Place, hit, page_view, until};

/// What `sink audiences ...` prints.
async fn audiences(place: &Place, words: &[&str]) -> Result<String, SinkError> {
    let database = ["--clickhouse-url", &place.clickhouse_url, "--clickhouse-database", &place.database];
    let words = [&["sink", "audiences"], words, &database].concat();
    let Command::Audiences(options) = SERVICE.parse_from::<Options>(&words).unwrap().command else {
        unreachable!("audiences were asked for")
    };
    let printed = Mutex::new(String::new());
    sink::audiences::run(options.action, CancellationToken::new(), |text| printed.lock().unwrap().push_str(text))
        .await?;
    Ok(printed.into_inner().unwrap())
}

async fn define(place: &Place, name: &str, condition: &str) -> Result<String, SinkError> {
    audiences(place, &["define", name, "--site=shop", "--condition", condition]).await
}

async fn refresh_once(place: &Place) -> String {
    audiences(place, &["refresh"]).await.unwrap()
}

fn members(place: &Place, audience: &str) -> String {
    place.query(&format!(
        "SELECT arraySort(groupArray(member)) FROM {{database}}.audience_members WHERE audience = '{audience}' AND is_member"
    ))
}

/// Anna was there on three days, Ben on two, Cleo on one. A robot, a visitor who objected and one of another site are none.
fn visits() -> Vec<EnrichedHit<'static>> {
    let mut robot = page_view(60, "robot", 0, "/");
    robot.is_bot = true;
    let mut objected = page_view(61, "a hash of the day", 0, "/");
    objected.hit.visitor_id_source = VisitorIdSource::DailyHash;
    let mut elsewhere = page_view(62, "fred", 0, "/");
    elsewhere.hit.site = "blog".into();
    vec![
        page_view(1, "anna", 0, "/"),
        page_view(2, "anna", DAY, "/"),
        page_view(3, "anna", 2 * DAY, "/prices"),
        page_view(11, "ben", 0, "/"),
        page_view(12, "ben", DAY, "/"),
        page_view(21, "cleo", 0, "/"),
        robot,
        objected,
        elsewhere,
    ]
}

#[tokio::test]
async fn members_come_in_and_go_out_as_they_fit() {
    let Some(stack) = local::database_or_skip("members_come_in_and_go_out_as_they_fit") else { return };
    for arrival in ARRIVALS {
        let place = arrived(stack, "members", arrival, visits()).await;
        let told = define(&place, "loyal", "sessions >= 2 AND visitor_id != 'x'").await.unwrap();
        assert!(told.contains("2 visitors fit now"), "{told}");
        assert_eq!(members(&place, "loyal"), "[]");
        assert_eq!(refresh_once(&place).await, "shop/loyal: 2 in, 0 out\n");
        assert_eq!(members(&place, "loyal"), "['anna','ben']", "{arrival:?}");
        assert_eq!(refresh_once(&place).await, "");

        define(&place, "loyal", "sessions BETWEEN 1 AND 2").await.unwrap();
        assert_eq!(refresh_once(&place).await, "shop/loyal: 1 in, 1 out\n");
        assert_eq!(members(&place, "loyal"), "['ben','cleo']", "{arrival:?}");
        define(&place, "loyal", "TRUE").await.unwrap();
        refresh_once(&place).await;
        let stays = "SELECT member, count(), countIf(is_member), countIf(left_at < entered_at), \
                     countIf(isNull(left_at) != is_member) FROM {database}.audience_members GROUP BY member ORDER BY member";
        // Anna has been in twice.
        assert_eq!(lines(&place, stays), ["anna\t2\t1\t0\t0", "ben\t1\t1\t0\t0", "cleo\t1\t1\t0\t0"], "{arrival:?}");
        assert_eq!(
            place.query("SELECT audience, members_are, condition, members FROM {database}.audiences"),
            "loyal\tvisitors\tTRUE\t3"
        );
    }
}

#[tokio::test]
async fn an_audience_of_a_purpose_has_only_who_permits_it() {
    let Some(stack) = local::database_or_skip("an_audience_of_a_purpose_has_only_who_permits_it") else { return };
    let answer = |number, visitor, at, advertising| {
        let mut hit = page_view(number, visitor, at, "/");
        hit.hit.consent = Some(schemas::Consent { advertising, ..schemas::Consent::default() });
        hit
    };
    let place = Place::migrated(stack, "purposes").await;
    let hits = [
        answer(1, "anna", 0, Some(false)),
        answer(2, "anna", DAY, Some(true)),
        answer(3, "anna", 2 * DAY, None),
        answer(4, "ben", 0, Some(true)),
        answer(5, "ben", DAY, Some(false)),
        answer(6, "cleo", 0, None),
    ];
    place.load(&hits).await;
    let words = ["define", "shown", "--site=shop", "--condition=TRUE OR FALSE", "--purpose=advertising"];
    let told = audiences(&place, &words).await.unwrap();
    assert!(told.contains("1 visitors fit now"), "{told}");
    refresh_once(&place).await;
    assert_eq!(members(&place, "shown"), "['anna']");
    place.load(&[answer(7, "anna", 3 * DAY, Some(false))]).await;
    assert_eq!(refresh_once(&place).await, "shop/shown: 0 in, 1 out\n");
    let companies = [&words[..], &["--members=companies"]].concat();
    let refused = audiences(&place, &companies).await.unwrap_err().to_string();
    assert!(refused.contains("--purpose is for visitors"), "{refused}");
}

/// What is written down is read as it was meant: equal changes in a row are one, days are counted to today.
#[tokio::test]
async fn days_count_who_was_in_at_their_end() {
    let Some(stack) = local::database_or_skip("days_count_who_was_in_at_their_end") else { return };
    let place = Place::migrated(stack, "days").await;
    place.query(
        "INSERT INTO {database}.audience_changes VALUES \
         ('shop', 'hot', 'anna', now64(3) - INTERVAL 3 DAY, true), ('shop', 'hot', 'anna', now64(3) - INTERVAL 71 HOUR, true), \
         ('shop', 'hot', 'ben', now64(3) - INTERVAL 3 DAY, true), ('shop', 'hot', 'ben', now64(3) - INTERVAL 2 DAY, false), \
         ('shop', 'hot', 'ben', now64(3) - INTERVAL 1 DAY, true), ('shop', 'hot', 'cleo', now64(3) - INTERVAL 1 DAY, false), \
         ('blog', 'hot', 'dora', now64(3) - INTERVAL 1 DAY, true)",
    );
    let days = "SELECT dateDiff('day', day, today()), members, entered, left FROM {database}.audience_days \
                WHERE site = 'shop' AND audience = 'hot' ORDER BY day";
    assert_eq!(lines(&place, days), ["3\t2\t2\t0", "2\t1\t0\t1", "1\t2\t1\t0", "0\t2\t0\t0"]);
    let anna = "SELECT count(), countIf(is_member) FROM {database}.audience_members WHERE member = 'anna'";
    assert_eq!(place.query(anna), "1\t1");
    assert_eq!(place.query("SELECT count() FROM {database}.audience_members WHERE member = 'cleo'"), "0");
    // Erasing a person.
    place.query("DELETE FROM {database}.audience_changes WHERE site = 'shop' AND member = 'anna'");
    assert_eq!(place.query("SELECT count() FROM {database}.audience_members WHERE member = 'anna'"), "0");
}

#[tokio::test]
async fn audiences_are_made_of_audiences() {
    let Some(stack) = local::database_or_skip("audiences_are_made_of_audiences") else { return };
    for arrival in ARRIVALS {
        let place = arrived(stack, "algebra", arrival, visits()).await;
        // By name, both come before the one that they need.
        define(&place, "z often", "sessions >= 2").await.unwrap();
        define(&place, "y prices", "visitor_id IN ('anna', 'cleo')").await.unwrap();
        define(&place, "a both", "audience('z often') AND audience('y prices')").await.unwrap();
        define(&place, "b either", "audience('z often') OR audience('y prices')").await.unwrap();
        define(&place, "c only", "audience('z often') AND NOT audience('y prices')").await.unwrap();
        assert_eq!(refresh_once(&place).await.lines().count(), 5);
        assert_eq!(members(&place, "a both"), "['anna']");
        assert_eq!(members(&place, "b either"), "['anna','ben','cleo']");
        assert_eq!(members(&place, "c only"), "['ben']");

        let refused = |result: Result<String, SinkError>, part: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(define(&place, "d", "audience('nowhere')").await, "no audience of the same site");
        refused(define(&place, "d", "audience('d')").await, "asks for itself");
        refused(define(&place, "z often", "NOT audience('c only')").await, "asks for itself, by way of c only");
        refused(audiences(&place, &["drop", "z often", "--site=shop"]).await, "asks for it");
        refused(audiences(&place, &["drop", "e", "--site=shop"]).await, "no audience e");
        let companies =
            audiences(&place, &["define", "c only", "--site=shop", "--members=companies", "--condition=TRUE"]).await;
        refused(companies, "has visitors as members");
        let elsewhere = audiences(&place, &["define", "d", "--site=blog", "--condition=audience('z often')"]).await;
        refused(elsewhere, "no audience of the same site");

        let dropped = audiences(&place, &["drop", "a both", "--site=shop"]).await.unwrap();
        assert!(dropped.contains("1 left it"), "{dropped}");
        assert_eq!(members(&place, "a both"), "[]");
        let listed = audiences(&place, &["list"]).await.unwrap();
        assert!(!listed.contains("a both") && listed.contains("shop/c only: 1 visitors\n"), "{listed}");
    }
}

#[tokio::test]
async fn scores_interests_and_companies_make_audiences() {
    let Some(stack) = local::database_or_skip("scores_interests_and_companies_make_audiences") else { return };
    let mut hits = visits();
    for hit in &mut hits {
        hit.network.organisation = "Steel Ltd".into();
        hit.network.domain = "steel.example".into();
    }
    for arrival in ARRIVALS {
        let place = arrived(stack, "made", arrival, hits.clone()).await;
        place.query(
            "INSERT INTO {database}.score_rules (site, rule, kind, points) VALUES ('shop', 'views', 'page_view', 5)",
        );
        place.query("INSERT INTO {database}.content_groups (site, content_group, url_patterns, half_life_days) VALUES ('shop', 'Prices', ['/prices'], 0)");
        define(&place, "hot", "lead_score_at_least(10)").await.unwrap();
        define(&place, "buyers", "interest_at_least('Prices', 1)").await.unwrap();
        let companies = "sessions > 3 AND has(evidence, 'network') AND partner_attributes['industry'] = ''";
        audiences(&place, &["define", "busy", "--site=shop", "--members=companies", "--condition", companies])
            .await
            .unwrap();
        refresh_once(&place).await;
        assert_eq!(members(&place, "hot"), "['anna','ben']");
        assert_eq!(members(&place, "buyers"), "['anna']");
        assert_eq!(members(&place, "busy"), "['steel.example']");
    }
}

/// Kim is of the provider that connects Anna: the provider has two lines in companies, and is one member.
#[tokio::test]
async fn a_provider_with_people_of_its_own_is_one_member() {
    let Some(stack) = local::database_or_skip("a_provider_with_people_of_its_own_is_one_member") else { return };
    let mut hits = vec![page_view(1, "anna", 0, "/"), hit(Kind::Form, 2, "kim", 0, "/contact")];
    hits[1].hit.contact = Some(Contact { email: "kim@telecom.example".into(), ..Contact::default() });
    for hit in &mut hits {
        hit.network.organisation = "Example Telecom".into();
        hit.network.domain = "telecom.example".into();
    }
    let place = arrived(stack, "provider", Arrival::Plain, hits).await;
    assert_eq!(place.query("SELECT count() FROM {database}.companies"), "2");
    let all = ["define", "all", "--site=shop", "--members=companies", "--condition", "sessions > 0"];
    let told = audiences(&place, &all).await.unwrap();
    assert!(told.contains("1 companies fit now"), "{told}");
    assert_eq!(refresh_once(&place).await, "shop/all: 1 in, 0 out\n");
    assert_eq!(members(&place, "all"), "['telecom.example']");
}

/// A zone in which it is another day now than in UTC.
fn another_day(stack: &TestStack) -> &'static str {
    let hour: u8 = stack.query("SELECT toHour(now('UTC'))").unwrap().parse().unwrap();
    if hour < 11 { "Etc/GMT+12" } else { "Pacific/Kiritimati" }
}

/// What a day is does not hang on where the server stands: visits are of days in UTC.
#[tokio::test]
async fn days_of_conditions_and_of_analysts_are_those_of_visits() {
    let Some(stack) = local::database_or_skip("days_of_conditions_and_of_analysts_are_those_of_visits") else { return };
    let directory = tempfile::tempdir().unwrap();
    let [http, tcp] = [local::free_port().unwrap(), local::free_port().unwrap()];
    let server = ClickHouse::start_in_time_zone(directory.path(), http, tcp, another_day(stack)).unwrap();
    let place = Place::elsewhere(stack, "zones", &server.url());
    assert_eq!(place.query("SELECT today() = toDate(now('UTC'))"), "0");
    place.migrator().apply().await.unwrap();
    let noon = today(stack);
    let visits = [(1, "anna", 0), (2, "ben", DAY), (3, "cleo", 2 * DAY)];
    place.load(&visits.map(|(number, visitor, ago)| page_view(number, visitor, noon - ago, "/"))).await;
    for (condition, expected) in [
        ("toDate(last_seen) = today()", "anna"),
        ("toDate(last_seen) = yesterday()", "ben"),
        ("toDate(last_seen) = toDate(now()) - INTERVAL 2 DAY", "cleo"),
        ("last_seen >= today() AND last_seen < today() + INTERVAL 1 DAY", "anna"),
        ("dateDiff('day', toDate(last_seen), today()) = 1", "ben"),
    ] {
        let told = define(&place, "some", condition).await.unwrap();
        refresh_once(&place).await;
        let asked = format!(
            "SELECT arrayStringConcat(groupArray(visitor_id)) FROM {}.visitors WHERE {condition}",
            place.database
        );
        let analyst = local::clickhouse::query(&place.clickhouse_url, "analyst", &asked).unwrap();
        let found = (members(&place, "some"), analyst);
        if today(stack) != noon {
            return; // It is midnight.
        }
        assert!(told.contains(": 1 visitors fit now"), "{condition}: {told}");
        assert_eq!(found, (format!("['{expected}']"), expected.to_owned()), "{condition}");
    }
}

/// Whatever stands in a name, a condition or a row that somebody wrote past the command: it stays a text.
#[tokio::test]
async fn nothing_gets_out_of_a_condition() {
    let Some(stack) = local::database_or_skip("nothing_gets_out_of_a_condition") else { return };
    let place = arrived(stack, "injection", Arrival::Plain, visits()).await;
    let before = place.query("SELECT count() FROM {database}.hits");
    for text in [
        "TRUE; DROP TABLE {database}.hits",
        "TRUE) UNION ALL (SELECT contact_email FROM {database}.hits",
        "visitor_id IN (SELECT visitor_id FROM {database}.hits)",
        "TRUE SETTINGS readonly = 0",
        "TRUE OR site = 'blog' --",
        "site = 'blog' OR TRUE) OR (TRUE",
        "url('http://127.0.0.1') = ''",
        "sleepEachRow(3) = 0",
    ] {
        let text = text.replace("{database}", &place.database);
        assert!(define(&place, "bad", &text).await.is_err(), "{text}");
        // Written past the command, it is read again before it is used.
        let row = format!(
            "INSERT INTO {{database}}.audience_definitions (site, audience, members_are, condition) VALUES ('shop', 'bad', 'visitors', '{}')",
            text.replace('\'', "''")
        );
        place.query(&row);
        assert!(audiences(&place, &["refresh"]).await.is_err(), "{text}");
        assert_eq!(members(&place, "bad"), "[]");
    }
    place.query("INSERT INTO {database}.audience_definitions (site, audience, members_are, condition) VALUES ('shop', 'bad', 'hits', 'TRUE')");
    assert!(audiences(&place, &["refresh"]).await.is_err());

    // Texts are texts, and whatever the condition, its site is the site.
    let name = "it's \\' OR 1 = 1; --";
    define(&place, name, "city != '\\' AND (site = 'blog' OR TRUE)").await.unwrap();
    assert!(define(&place, "open", "city = '\\''").await.is_err());
    audiences(&place, &["refresh"]).await.unwrap_err();
    let all = "SELECT audience, site, arraySort(groupArray(member)) FROM {database}.audience_members GROUP BY 1, 2";
    assert_eq!(place.query(all), "it\\'s \\\\\\' OR 1 = 1; --\tshop\t['anna','ben','cleo']");
    let told = audiences(&place, &["define", "d", "--site=shop' OR '1'='1", "--condition=TRUE"]).await.unwrap();
    assert!(told.contains(": 0 visitors fit now"), "{told}");
    assert_eq!(place.query("SELECT count() FROM {database}.hits"), before);
}

/// Should something get out of a condition after all: what runs it writes nothing and can't lift its limits.
#[tokio::test]
async fn conditions_are_evaluated_read_only_within_limits() {
    let Some(stack) = local::database_or_skip("conditions_are_evaluated_read_only_within_limits") else { return };
    let place = arrived(stack, "limits", Arrival::Plain, visits()).await;
    let clickhouse = place.clickhouse();
    for sql in [
        "INSERT INTO {database}.audience_changes (site) VALUES ('x')",
        "DROP TABLE {database}.hits",
        "SELECT 1 AS one SETTINGS readonly = 0",
        "SELECT 1 AS one SETTINGS max_memory_usage = 0",
        "CREATE TEMPORARY TABLE mine (a Int8)",
    ] {
        let sql = sql.replace("{database}", &place.database);
        assert!(clickhouse.rows_with::<u8>(&sql, &SETTINGS).await.is_err(), "{sql}");
    }
    assert_eq!(clickhouse.rows_with::<u64>("SELECT toUInt64(1) AS one", &SETTINGS).await.unwrap(), [1]);
    for wrong in ["sessions = 'many'", "city", "sessions > [1]", "last_seen LIKE 'x'", "length(sessions) = 1"] {
        assert!(define(&place, "wrong", wrong).await.is_err(), "{wrong}");
    }
    assert_eq!(place.query("SELECT count() FROM {database}.audiences"), "0");
}

#[tokio::test]
async fn several_may_refresh_at_once() {
    let Some(stack) = local::database_or_skip("several_may_refresh_at_once") else { return };
    let place = arrived(stack, "several", Arrival::Plain, visits()).await;
    define(&place, "all", "TRUE").await.unwrap();
    tokio::join!(refresh_once(&place), refresh_once(&place), refresh_once(&place));
    assert_eq!(members(&place, "all"), "['anna','ben','cleo']");
    define(&place, "all", "sessions = 1").await.unwrap();
    tokio::join!(refresh_once(&place), refresh_once(&place), refresh_once(&place));
    assert_eq!(members(&place, "all"), "['cleo']");
    assert_eq!(refresh_once(&place).await, "");
}

/// A refresh knows definitions for as long as its round takes.
#[tokio::test]
async fn an_audience_that_is_dropped_or_changed_meanwhile_is_not_filled_again() {
    let test = "an_audience_that_is_dropped_or_changed_meanwhile_is_not_filled_again";
    let Some(stack) = local::database_or_skip(test) else { return };
    let place = arrived(stack, "dropped", Arrival::Plain, visits()).await;
    let clickhouse = place.clickhouse();
    define(&place, "all", "TRUE").await.unwrap();
    let known = definitions(&clickhouse, None).await.unwrap().remove(0);
    let condition = known.read(&clickhouse).await.unwrap();
    define(&place, "all", "sessions >= 2").await.unwrap();
    let nothing = Refreshed::default();
    assert_eq!(refresh(&clickhouse, &known, &condition).await.unwrap(), nothing);
    refresh_once(&place).await;
    assert_eq!(members(&place, "all"), "['anna','ben']");

    let known = definitions(&clickhouse, None).await.unwrap().remove(0);
    audiences(&place, &["drop", "all", "--site=shop"]).await.unwrap();
    assert_eq!(refresh(&clickhouse, &known, &condition).await.unwrap(), nothing);
    assert_eq!(members(&place, "all"), "[]");
    // One had asked before, and writes after.
    place.query("INSERT INTO {database}.audience_changes VALUES ('shop', 'all', 'anna', now64(3), true)");
    assert_eq!(audiences(&place, &["refresh", "--site=blog"]).await.unwrap(), "");
    assert_eq!(refresh_once(&place).await, "shop/all: 0 in, 1 out\n");
    assert_eq!(members(&place, "all"), "[]");
    assert_eq!(refresh_once(&place).await, "");

    // It may come back under its name.
    define(&place, "all", "TRUE").await.unwrap();
    assert_eq!(refresh_once(&place).await, "shop/all: 3 in, 0 out\n");
}

/// With `--every` it goes on over failures until it is told to stop.
#[tokio::test]
async fn a_loop_keeps_audiences_up_to_date() {
    let Some(stack) = local::database_or_skip("a_loop_keeps_audiences_up_to_date") else { return };
    let place = arrived(stack, "loop", Arrival::Plain, vec![page_view(1, "anna", 0, "/")]).await;
    define(&place, "all", "TRUE").await.unwrap();
    let words = ["sink", "audiences", "refresh", "--every=0.05", "--clickhouse-url", &place.clickhouse_url];
    let words = [&words[..], &["--clickhouse-database", &place.database]].concat();
    let Command::Audiences(options) = SERVICE.parse_from::<Options>(&words).unwrap().command else { unreachable!() };
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(sink::audiences::run(options.action, shutdown.clone(), |_| {}));
    until("anna is in", || members(&place, "all") == "['anna']").await;
    place.load(&[page_view(2, "ben", 0, "/")]).await;
    until("ben is in", || members(&place, "all") == "['anna','ben']").await;
    place.query("RENAME TABLE {database}.audience_changes TO {database}.elsewhere");
    tokio::time::sleep(Duration::from_millis(300)).await;
    place.query("RENAME TABLE {database}.elsewhere TO {database}.audience_changes");
    place.load(&[page_view(3, "cleo", 0, "/")]).await;
    until("cleo is in", || members(&place, "all") == "['anna','ben','cleo']").await;
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}
