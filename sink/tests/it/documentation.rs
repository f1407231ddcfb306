//! The README against the code.

use clap::CommandFactory;
use local::clickhouse::query;
use schemas::{Contact, EnrichedHit, Kind, SourceKind};
use sink::options::Options;
use uuid::Uuid;

use crate::support::{NOON, Place, hit, page_view};

const README: &str = include_str!("../../README.md");
const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440 * MINUTE;
const COOKBOOK: &str = include_str!("../../../docs/README.md");

#[test]
fn the_readme_lists_every_option() {
    service::documentation::check_options(README, &Options::command()).unwrap();
}

/// The blocks of SQL of a document.
fn queries(document: &'static str) -> Vec<&'static str> {
    document.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Those of the cookbook that come first after the number of their question: some have a second one.
fn first_of_each_question() -> Vec<&'static str> {
    let questions = (1..).map_while(|number| COOKBOOK.split_once(&format!("\n{number}. ")));
    questions.map(|(_, rest)| queries(rest)[0]).collect()
}

fn of_demo(mut hit: EnrichedHit<'static>, session: u128) -> EnrichedHit<'static> {
    hit.hit.site = "demo".into();
    hit.hit.session_id = Some(Uuid::from_u128(session));
    hit.network.organisation = "Mill Works".into();
    hit
}

/// Ada of Steel came from a letter to the prices and a form a week ago, looked for pumps, and is here now. Zoe saw the prices
/// and left.
fn visits(now: i64) -> Vec<EnrichedHit<'static>> {
    let week_ago = now - 7 * DAY;
    let mut letter = of_demo(page_view(1, "ada", week_ago, "/"), 1);
    letter.source.kind = SourceKind::Campaign;
    letter.source.name = "Newsletter".into();
    letter.campaign.name = "spring".into();
    let mut visible = of_demo(hit(Kind::Heartbeat, 2, "ada", week_ago + MINUTE, "/"), 1);
    (visible.hit.page_view_id, visible.hit.duration_ms) = (Some(Uuid::from_u128(1)), Some(30_000));
    let mut form = of_demo(hit(Kind::Form, 4, "ada", week_ago + 3 * MINUTE, "/pricing"), 1);
    let [name, email, job_title] = ["Ada", "ada@steel.example", "Buyer"].map(Into::into);
    form.hit.contact = Some(Contact { name, email, job_title, ..Contact::default() });
    let mut file = of_demo(hit(Kind::Download, 5, "ada", week_ago + 4 * MINUTE, "/pricing"), 1);
    file.hit.target_url = "https://shop.example/pumps.pdf".into();
    let mut search = of_demo(hit(Kind::Search, 6, "ada", now - 2 * MINUTE, "/"), 2);
    search.hit.search_term = "Pumps".into();
    let mut again = search.clone();
    again.hit.hit_id = Uuid::from_u128(9);
    (again.occurred_at, again.hit.received_at) = (NOON + now - 500, NOON + now - 500);
    vec![
        letter,
        visible,
        of_demo(page_view(3, "ada", week_ago + 2 * MINUTE, "/pricing"), 1),
        form,
        file,
        search,
        of_demo(page_view(7, "ada", now - MINUTE, "/pumps"), 2),
        of_demo(page_view(8, "zoe", now - MINUTE, "/pricing"), 3),
        again,
    ]
}

/// As an analyst, on a database in which each has something to tell; rows that are there twice change no answer.
#[tokio::test]
async fn every_query_of_the_readme_and_of_the_cookbook_answers() {
    let Some(stack) = local::database_or_skip("every_query_of_the_readme_and_of_the_cookbook_answers") else { return };
    let place = Place::migrated(stack, "queries").await;
    let hits = visits(place.now());
    place.insert(&hits).await;
    place.load(&hits).await;
    for rule in [
        "goals (site, goal, kind, pattern) VALUES ('demo', 'quote', 'form', '/pricing%')",
        "content_groups (site, content_group, url_patterns) VALUES ('demo', 'Prices', ['/pricing%'])",
        "score_rules (site, rule, kind, points) VALUES ('demo', 'asked', 'form', 50)",
        "score_thresholds (site, threshold, score) VALUES ('demo', 'hot', 40)",
        "audience_changes VALUES ('demo', 'hot', 'ada', now64(3), true)",
    ] {
        place.query(&format!("INSERT INTO {{database}}.{rule}"));
    }
    let (first, cookbook) = (queries(README), queries(COOKBOOK));
    assert_eq!((first.len(), cookbook.len(), first_of_each_question().len()), (10, 27, 25));
    let answer = |sql: &str| {
        let sql = sql.replace("hitmeter.", &format!("{}.", place.database));
        query(stack.clickhouse_url(), "analyst", &sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    let answers: Vec<_> = cookbook.iter().map(|sql| answer(sql)).collect();
    for (sql, answer) in
        cookbook.iter().zip(&answers).chain(first.iter().zip(&first.iter().map(|sql| answer(sql)).collect::<Vec<_>>()))
    {
        assert_ne!(answer, "", "{sql}");
    }
    let nth = |number: usize| {
        let asked = first_of_each_question()[number - 1];
        answers[cookbook.iter().position(|sql| *sql == asked).unwrap()].as_str()
    };
    assert_eq!(
        nth(3).lines().map(|line| line.split('\t').nth(2).unwrap()).collect::<Vec<_>>().concat().replace('0', ""),
        "1"
    );
    assert!(nth(5).starts_with("steel.example\t"), "{}", nth(5));
    assert_eq!(nth(6).lines().count(), 2, "{}", nth(6));
    assert!(nth(7).starts_with("steel.example\t5") || nth(7).starts_with("steel.example\t4"), "{}", nth(7));
    assert_eq!(nth(10).lines().count(), 2);
    // The prices, once in each of two weeks at most.
    let views = nth(13).lines().map(|line| line.split('\t').nth(2).unwrap().parse::<u32>().unwrap());
    assert_eq!(views.sum::<u32>(), 2, "{}", nth(13));
    assert_eq!(nth(15), "pumps.pdf\t1\t1");
    // After the first of two searches a page was viewed.
    assert_eq!(nth(16), "pumps\t2\t1\t1");
    assert_eq!(nth(18), "spring\t\t\t1\t1");
    assert_eq!(nth(19), "quote\tcampaign\tNewsletter\t1\t1");
    assert_eq!(nth(20), "1\t/\t1\t100\n2\t/pricing%\t1\t100\n3\tform\t1\t100");
    assert!(nth(21).starts_with("zoe\t") && nth(21).lines().count() == 1, "{}", nth(21));
    assert_eq!(nth(23).lines().count(), 2, "{}", nth(23));
    assert!(nth(24).ends_with("\t1\t1\t0\t['ada']"), "{}", nth(24));
}

/// Every view is in the README, and every table and view of the README exists.
#[tokio::test]
async fn the_readme_names_every_view() {
    let Some(stack) = local::database_or_skip("the_readme_names_every_view") else { return };
    let place = Place::migrated(stack, "views").await;
    let views = place.query("SELECT name FROM system.tables WHERE database = '{database}' AND engine = 'View'");
    for view in views.lines() {
        assert!(README.contains(&format!("| `{view}` |")), "{view} is not in the README");
    }
    for column in ["visible_duration_ms", "is_bounce", "evidence", "average_visible_ms", "current_page", "contacts"] {
        let known =
            format!("SELECT count() > 0 FROM system.columns WHERE database = '{{database}}' AND name = '{column}'");
        assert_eq!(place.query(&known), "1", "{column}");
    }
}

#[tokio::test]
async fn an_analyst_reads_and_changes_nothing() {
    let Some(stack) = local::database_or_skip("an_analyst_reads_and_changes_nothing") else { return };
    let place = Place::migrated(stack, "analyst").await;
    let as_analyst = |sql: &str| query(stack.clickhouse_url(), "analyst", &sql.replace("{database}", &place.database));
    assert_eq!(as_analyst("SELECT count() FROM {database}.sessions").unwrap(), "0");
    for sql in [
        "TRUNCATE TABLE {database}.hits",
        "DROP VIEW {database}.sessions",
        "CREATE TABLE {database}.mine (a Int8) ENGINE = Memory",
    ] {
        assert!(as_analyst(sql).is_err(), "{sql}");
    }
}
