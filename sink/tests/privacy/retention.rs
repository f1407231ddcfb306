//! Tables that keep what they hold on people for longer than a site declares.

use sink::error::{ExitCode, SinkError};
use sink::retention::check;

use crate::support::Place;

async fn refused(place: &Place, sites: &str) -> String {
    let sites = service::sites::Sites::parse(sites).unwrap();
    check(&place.clickhouse(), &sites).await.map_or_else(|error| error.to_string(), |()| String::new())
}

#[tokio::test]
async fn a_table_that_keeps_rows_for_longer_than_a_site_declares_is_refused() {
    let Some(stack) = local::stack_or_skip("a_table_that_keeps_rows_for_longer") else { return };
    let place = Place::migrated(stack, "kept").await;
    let sites = "[sites.blog]\n[sites.shop]\nretention_months = 6\n";
    // The hits of the tests are kept for good.
    assert!(
        refused(&place, "[sites.blog]\n").await.starts_with("table hits keeps rows of site \"blog\" for more than 25")
    );
    let keep = |table: &str, rule: &str| place.query(&format!("ALTER TABLE {{database}}.{table} MODIFY TTL {rule}"));
    keep("hits", "toDate(received_at) + INTERVAL 25 MONTH");
    assert_eq!(refused(&place, "[sites.blog]\n").await, "");
    assert!(refused(&place, sites).await.starts_with("table hits keeps rows of site \"shop\" for more than 6 months"));
    keep("hits", "toDate(received_at) + INTERVAL if(site = 'shop', 6, 25) MONTH");
    // A part has rows of all sites, and goes when the last of them may.
    assert!(refused(&place, sites).await.starts_with("the TTL of table hits names a site, but deletes whole parts"));
    let delete_rows = |table: &str| {
        place.query(&format!("ALTER TABLE {{database}}.{table} MODIFY SETTING ttl_only_drop_parts = 0"));
    };
    delete_rows("hits");
    assert!(refused(&place, sites).await.starts_with("table settled_sessions keeps rows of site \"shop\""));
    for (table, column) in [
        ("settled_sessions", "day"),
        ("contact_cards", "toDate(submitted_at)"),
        ("contact_links", "toDate(linked_at)"),
        ("mail_opens", "toDate(received_at)"),
        ("unnamed_views", "received_on"),
        ("audience_changes", "toDate(changed_at)"),
    ] {
        keep(table, &format!("{column} + INTERVAL if(site = 'shop', 6, 25) MONTH"));
        delete_rows(table);
    }
    assert!(
        refused(&place, sites).await.starts_with("table objections keeps rows of site \"shop\" for more than 7 months")
    );
    keep("objections", "toDate(objected_at) + INTERVAL if(site = 'shop', 7, 26) MONTH");
    assert_eq!(refused(&place, sites).await, "");
    place.query("ALTER TABLE {database}.objections MODIFY SETTING ttl_only_drop_parts = true");
    assert!(refused(&place, sites).await.contains("ALTER TABLE objections MODIFY SETTING ttl_only_drop_parts = 0"));
    delete_rows("objections");
    // One rule for all sites may delete whole parts.
    place.query("ALTER TABLE {database}.hits MODIFY SETTING ttl_only_drop_parts = 1");
    keep("hits", "toDate(received_at) + INTERVAL 6 MONTH");
    assert_eq!(refused(&place, sites).await, "");
    // A column that the check knows nothing of.
    keep("hits", "toDate(enriched_at) + INTERVAL 1 MONTH");
    assert!(refused(&place, sites).await.starts_with("the TTL of table hits can't be evaluated"));
}

#[tokio::test]
async fn a_sink_does_not_start_then() {
    let Some(stack) = local::stack_or_skip("a_sink_does_not_start_then") else { return };
    let place = Place::migrated(stack, "unkept").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[sites.shop]\n").unwrap();
    let error = place.start(&[&format!("--sites={}", file.path().display())]).end().await;
    assert!(
        matches!(&error, SinkError::Halt { code: ExitCode::Unfit, message } if message.contains("retention_months")),
        "{error}"
    );
}
