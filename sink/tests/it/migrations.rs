//! Migrations on a real ClickHouse.

use std::time::Duration;

use sink::error::ExitCode;
use sink::fault::Fault;
use sink::migrate::{MIGRATIONS, MigrateError};
use sink::window::Need;

use crate::support::Place;

const RECORDED: &str = "SELECT count() FROM {database}.schema_migrations";

#[tokio::test]
async fn migrations_are_applied_once_and_recorded() {
    let Some(stack) = local::database_or_skip("migrations_are_applied_once_and_recorded") else { return };
    let place = Place::new(stack, "migrations");
    let migrator = place.migrator();
    assert_eq!(migrator.plan().await.unwrap().pending, MIGRATIONS);
    assert!(matches!(migrator.check().await, Err(MigrateError::Pending(1, _))));
    assert_eq!(place.query("SELECT count() FROM system.databases WHERE name = '{database}'"), "0");

    assert_eq!(migrator.apply().await.unwrap(), MIGRATIONS);
    assert!(migrator.apply().await.unwrap().is_empty());
    migrator.check().await.unwrap();
    assert_eq!(place.query(RECORDED), MIGRATIONS.len().to_string());
}

#[tokio::test]
async fn two_migrators_at_once_do_it_once() {
    let Some(stack) = local::database_or_skip("two_migrators_at_once_do_it_once") else { return };
    let place = Place::new(stack, "migrators");
    let migrators: Vec<_> = (0..4).map(|_| place.migrator()).collect();
    let tasks: Vec<_> =
        migrators.into_iter().map(|migrator| tokio::spawn(async move { migrator.apply().await })).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(place.query(RECORDED), MIGRATIONS.len().to_string());
    place.migrator().check().await.unwrap();
}

#[tokio::test]
async fn an_edited_migration_is_refused_and_nothing_is_changed() {
    let Some(stack) = local::database_or_skip("an_edited_migration_is_refused_and_nothing_is_changed") else { return };
    let place = Place::migrated(stack, "edited").await;
    place.query("ALTER TABLE {database}.schema_migrations DELETE WHERE version = 1 SETTINGS mutations_sync = 1");
    place.query("INSERT INTO {database}.schema_migrations (version, name, checksum) VALUES (1, 'hits', 'another')");
    let error = place.migrator().apply().await.unwrap_err();
    assert!(matches!(error, MigrateError::Edited(1, _)), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Unfit);
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_named() {
    let Some(stack) = local::database_or_skip("a_table_that_does_not_fit_is_named") else { return };
    let place = Place::migrated(stack, "unfit").await;
    place.query("ALTER TABLE {database}.hits MODIFY COLUMN duration_ms UInt64");
    let error = place.migrator().check().await.unwrap_err().to_string();
    assert!(error.contains("duration_ms is UInt64, must be UInt32"), "{error}");
    place.query("ALTER TABLE {database}.hits DROP COLUMN bot_name");
    let error = place.migrator().check().await.unwrap_err().to_string();
    assert!(error.contains("duration_ms") || error.contains("bot_name is missing"), "{error}");
}

#[tokio::test]
async fn every_column_and_every_table_has_a_comment() {
    let Some(stack) = local::database_or_skip("every_column_and_every_table_has_a_comment") else { return };
    let place = Place::migrated(stack, "comments").await;
    // What a materialized view writes is described where it is written to.
    let columns = "SELECT table, name FROM system.columns WHERE database = '{database}' AND comment = '' AND table NOT IN \
                   (SELECT name FROM system.tables WHERE database = '{database}' AND engine = 'MaterializedView')";
    assert_eq!(place.query(columns), "");
    let tables = "SELECT name FROM system.tables WHERE database = '{database}' AND comment = ''";
    assert_eq!(place.query(tables), "");
}

/// The names in the lists of codes are ClickHouse's own.
#[tokio::test]
async fn every_code_has_the_name_that_clickhouse_gives_it() {
    let Some(stack) = local::database_or_skip("every_code_has_the_name_that_clickhouse_gives_it") else { return };
    for (code, name) in Fault::known_codes() {
        assert_eq!(stack.query(&format!("SELECT errorCodeToName({code})")).unwrap(), name);
    }
}

/// The local engine has no replicated tables: what is looked for on those is known to it all the same.
#[tokio::test]
async fn the_settings_of_windows_are_clickhouses_own() {
    let Some(stack) = local::database_or_skip("the_settings_of_windows_are_clickhouses_own") else { return };
    let place = Place::new(stack, "window_settings");
    for engine in ["MergeTree", "ReplicatedSummingMergeTree"] {
        let (settings, server) = sink::window::settings(engine);
        assert!(!settings.is_empty());
        for (setting, _) in settings {
            let found = place.query(&format!("SELECT count() FROM {server} WHERE name = '{setting}'"));
            assert_eq!(found, "1", "{setting} in {server}");
        }
    }
}

/// `hits`, and what hangs off it whichever way a view names its target; ordinary tables and views are none of it.
#[tokio::test]
async fn windows_are_found_widened_and_held_against_what_is_needed() {
    let name = "windows_are_found_widened_and_held_against_what_is_needed";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::new(stack, "windows");
    let migrator = place.migrator();
    migrator.apply().await.unwrap();
    place.query("CREATE TABLE {database}.counts (site String, hits UInt64) ENGINE = SummingMergeTree ORDER BY site SETTINGS non_replicated_deduplication_window = 5");
    place.query("CREATE MATERIALIZED VIEW {database}.counting TO {database}.counts AS SELECT site, toUInt64(1) AS hits FROM {database}.hits");
    place.query("CREATE MATERIALIZED VIEW {database}.inner_one ENGINE = MergeTree ORDER BY site AS SELECT site, hit_id FROM {database}.hits");
    let need = |seconds| Need {
        partitions: 2,
        batch_delay: Duration::from_secs(1),
        longest_recovery: Duration::from_secs(seconds),
    };
    // 2 x (60 + 32) is more than any has but hits.
    let error = migrator.check_windows(&need(60)).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unfit);
    assert!(matches!(&error, MigrateError::Forgetful { table, .. } if !table.contains("`hits`")), "{error}");
    assert!(error.to_string().contains("must be 184 or more"), "{error}");
    let widened = migrator.widen(184).await.unwrap();
    assert_eq!(widened.len(), 2, "{widened:?}");
    assert!(widened.iter().any(|statement| statement.contains("`counts`")), "{widened:?}");
    migrator.check_windows(&need(60)).await.unwrap();
    assert!(migrator.widen(184).await.unwrap().is_empty());
    // hits has 10,000 from its migration: 2 x (4,968 + 32).
    migrator.widen(20_000).await.unwrap();
    migrator.check_windows(&need(9_968)).await.unwrap();
    assert!(migrator.check_windows(&need(9_969)).await.is_err());
}
