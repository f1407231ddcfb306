//! What a person is told of themselves.

use privacy::holdings::HOLDINGS;
use schemas::MatchKind;

use crate::support::{Place, Visit, email_hash, json};

const ADA: &str = "ada@steel.example";

#[tokio::test]
async fn access_tells_everything_that_was_inserted_on_a_person_and_nothing_on_others() {
    let Some(place) = Place::new("access_tells").await else { return };
    let ada = || Visit { site: "shop", visitor: "v-ada", ..Visit::default() };
    place.visit(&[
        ada(),
        ada(),
        Visit { email: ADA, phone: "+49 30 4711", name: "<b>Ada</b>", ..ada() },
        Visit { site: "shop", visitor: "v-ben", email: "ben@steel.example", name: "Ben Other", ..Visit::default() },
    ]);
    place.settle().await;
    place.query("INSERT INTO {database}.audience_changes VALUES ('shop', 'hot', 'v-ada', now64(3), true), ('shop', 'hot', 'v-ben', now64(3), true)");
    place.partner_record(MatchKind::EmailHash, &email_hash(ADA)).await;
    place.run(&["permit", "--site=shop", "--email", ADA, "--partner=acme", "--purpose=fair", "--wording=3"]).await;
    let csv = place.path("acme.csv");
    let share = ["share", "acme", "--purpose=fair", "--site=shop", "--fields=name", "--output", csv.to_str().unwrap()];
    place.run(&share).await;
    let folder = place.path("ada");
    let words = ["access", "--site=shop", "--email", ADA, "--output", folder.to_str().unwrap()];
    place.run(&words).await;

    let ids = place.query("SELECT toString(hit_id) FROM {database}.hits WHERE visitor_id = 'v-ada' ORDER BY hit_id");
    let mut told: Vec<_> =
        json(&folder.join("hits.json")).iter().map(|row| row["hit_id"].as_str().unwrap().to_owned()).collect();
    told.sort();
    let mut inserted: Vec<_> = ids.lines().map(str::to_owned).collect();
    inserted.sort();
    assert_eq!((told.len(), told), (3, inserted));
    for (file, rows) in [
        ("sessions", 1),
        ("contact_cards", 1),
        ("contact_history", 3),
        ("contact_links", 1),
        ("contacts", 1),
        ("audience_members", 1),
        ("audience_changes", 1),
        ("places", 1),
        ("partner_records", 1),
        ("shared", 1),
        ("requests", 1),
        ("identifiers", 3),
    ] {
        assert_eq!(json(&folder.join(format!("{file}.json"))).len(), rows, "{file}");
    }
    let card = &json(&folder.join("contact_cards.json"))[0];
    assert_eq!((card["contact"].as_str(), card["phone"].as_str()), (Some(ADA), Some("+49 30 4711")));
    assert_eq!(json(&folder.join("shared.json"))[0]["partner"], "acme");
    assert_eq!(json(&folder.join("requests.json"))[0]["wording"], "3");
    let summary = json(&folder.join("summary.json"));
    let kept = |file: &str| summary.iter().find(|each| each["file"] == file).unwrap()["kept"].clone();
    assert_eq!(kept("hits.json"), "25 months after received_at");
    assert_eq!(kept("sessions.json"), "25 months after day");
    assert_eq!(kept("audience_changes.json"), "25 months after changed_at");

    let mut whole = String::new();
    for file in std::fs::read_dir(&folder).unwrap() {
        whole += &std::fs::read_to_string(file.unwrap().path()).unwrap();
    }
    assert!(!whole.contains("v-ben") && !whole.contains("Ben Other") && !whole.contains("ben@"));
    let page = std::fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("&lt;b&gt;Ada&lt;/b&gt;") && !page.contains("<b>"));
    assert!(page.contains("25 months after received_at") && page.contains("You may object"));
    // A folder is not written over.
    assert!(place.try_run(&words).await.is_err());
    assert_eq!(place.query("SELECT action FROM {database}.privacy_trail ORDER BY at LIMIT 3"), "permit\nshare\naccess");
}

/// Each view is there, and has the columns by which it is asked.
#[tokio::test]
async fn every_holding_can_be_asked() {
    let Some(place) = Place::new("every_holding").await else { return };
    for holding in HOLDINGS {
        for column in [holding.visitors, holding.emails, holding.phones].concat() {
            place.query(&format!("SELECT site, {column} FROM {{database}}.{} LIMIT 0", holding.name));
        }
    }
}
