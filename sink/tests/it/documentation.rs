//! The README against the code.

use clap::CommandFactory;
use local::clickhouse::query;
use sink::options::Options;

use crate::support::{Place, page_view};

const README: &str = include_str!("../../README.md");
const COOKBOOK: &str = include_str!("../../../docs/README.md");

#[test]
fn the_readme_lists_every_option() {
    service::documentation::check_options(README, &Options::command()).unwrap();
}

/// The blocks of SQL of a document.
fn queries(document: &'static str) -> Vec<&'static str> {
    document.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// As an analyst, on a database with something in it.
#[tokio::test]
async fn every_query_of_the_readme_and_of_the_cookbook_runs() {
    let Some(stack) = local::stack_or_skip("every_query_of_the_readme_and_of_the_cookbook_runs") else { return };
    let place = Place::migrated(stack, "queries").await;
    let mut hit = page_view(1, "anna", 0, "/");
    hit.hit.site = "demo".into();
    place.insert(&[hit]).await;
    let (first, cookbook) = (queries(README), queries(COOKBOOK));
    assert_eq!((first.len(), cookbook.len()), (10, 25));
    for sql in first.into_iter().chain(cookbook) {
        let sql = sql.replace("hitmeter.", &format!("{}.", place.database));
        query(stack.clickhouse_url(), "analyst", &sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Every view is in the README, and every table and view of the README exists.
#[tokio::test]
async fn the_readme_names_every_view() {
    let Some(stack) = local::stack_or_skip("the_readme_names_every_view") else { return };
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
    let Some(stack) = local::stack_or_skip("an_analyst_reads_and_changes_nothing") else { return };
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
