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
    place.unreadable_partner_record(MatchKind::VisitorId, "v-ada").await;
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
        ("partner_records", 2),
        ("shared", 1),
        ("requests", 1),
        ("identifiers", 3),
    ] {
        assert_eq!(json(&folder.join(format!("{file}.json"))).len(), rows, "{file}");
    }
    let card = &json(&folder.join("contact_cards.json"))[0];
    assert_eq!((card["contact"].as_str(), card["phone"].as_str()), (Some(ADA), Some("+49 30 4711")));
    assert_eq!(json(&folder.join("shared.json"))[0]["partner"], "acme");
    let unreadable = &json(&folder.join("partner_records.json"))[1];
    assert!(unreadable["partner"] == "later" && unreadable["unreadable"].is_string(), "{unreadable}");
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

/// Who used the same computer, and is known to be somebody else.
#[tokio::test]
async fn what_tells_the_address_of_somebody_else_is_left_out() {
    let Some(place) = Place::new("somebody_else").await else { return };
    let at_kiosk = |email, name| Visit { site: "shop", visitor: "kiosk", email, name, ..Visit::default() };
    place.visit(&[
        at_kiosk("", ""),
        at_kiosk(ADA, "Ada"),
        at_kiosk("Ben@steel.example", "Ben Other"),
        at_kiosk("eve@steel.example", "Eve Other"),
    ]);
    place.query(
        "INSERT INTO {database}.contact_links (site, contact, visitor_id, is_linked, linked_at) \
         VALUES ('shop', 'eve@steel.example', 'kiosk', false, now64(3) + INTERVAL 1 HOUR)",
    );
    place.settle().await;
    let who = ["--site=shop", "--email", ADA, "--without=ben@steel.example"];
    let folder = place.path("ada");
    place.run(&[&["access", "--output", folder.to_str().unwrap()][..], &who].concat()).await;
    assert_eq!(json(&folder.join("hits.json")).len(), 2);
    assert_eq!(json(&folder.join("contact_cards.json")).len(), 1);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("Other") && !text.to_lowercase().contains("ben@"), "{}: {text}", path.display());
        assert!(!text.contains("eve@"), "{}: {text}", path.display());
    }
    let receipt = place.run(&[&["erase", "--dry-run", "--show"][..], &who].concat()).await;
    for (address, why) in [("ben", "cut by --without"), ("eve", "undone by hand")] {
        let line = receipt.lines().find(|line| line.contains(&format!("-> e-mail {address}@"))).unwrap_or_default();
        assert!(line.contains(&format!("{why}, but all that this visitor did counts")), "{receipt}");
    }
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
