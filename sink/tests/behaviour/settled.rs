//! Settling at once, without waiting for the minutes that it leaves to inserts.

use crate::support::Place;

/// Lets time pass for what is inserted and for how far it is settled, and settles it.
pub async fn settled(place: &Place) {
    for job in ["settle_sessions", "confirm_settlements"] {
        place.query(&format!("SYSTEM STOP VIEW {{database}}.{job}"));
        place.query(&format!("SYSTEM WAIT VIEW {{database}}.{job}"));
    }
    let earlier = "inserted_at = inserted_at - INTERVAL 10 MINUTE WHERE true SETTINGS mutations_sync = 1";
    place.query(&format!("ALTER TABLE {{database}}.hits UPDATE {earlier}"));
    place.query(
        "INSERT INTO {database}.settlements SELECT argMax(until, confirmed_at) - INTERVAL 10 MINUTE, now64(3) \
         FROM {database}.settlements",
    );
    // A settling that is not confirmed yet would be of another time.
    place.query("ALTER TABLE {database}.settled_sessions DELETE WHERE site = '' SETTINGS mutations_sync = 1");
    sink::views::settle::settle(&place.clickhouse(), |_| ()).await.unwrap();
    assert_eq!(place.query("SELECT count() FROM {database}.unsettled_visitors"), "0");
}
