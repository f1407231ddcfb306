//! What is given to partners, and whom they are told of.

use std::time::{Duration, Instant};

use privacy::topic::{directive, messages};
use schemas::{PrivacyAction, PrivacyDirective, SubjectKind};
use uuid::Uuid;

use crate::support::{Place, Visit};

const ADA: &str = "ada@steel.example";
const BEN: &str = "ben@steel.example";
const EVE: &str = "eve@steel.example";

async fn place(test: &str) -> Option<Place> {
    let place = Place::new(test).await?;
    for (email, name) in [(ADA, "Ada"), (BEN, "Ben"), (EVE, "Eve, Dr."), ("no@steel.example", "No")] {
        place.visit(&[Visit { site: "shop", visitor: name, email, name, phone: "" }]);
    }
    Some(place)
}

async fn say(place: &Place, right: &str, email: &str) {
    place.run(&[right, "--site=shop", "--email", email, "--partner=acme", "--purpose=fair"]).await;
}

/// Shares, and gives the lines of the file without their ids, and the ids.
async fn share(place: &Place, file: &str) -> (Vec<String>, Vec<String>) {
    let path = place.path(file);
    let output = path.to_str().unwrap();
    place.run(&["share", "acme", "--purpose=fair", "--site=shop", "--fields=name,email", "--output", output]).await;
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| line.split_once(',').unwrap());
    lines.map(|(id, rest)| (rest.to_owned(), id.to_owned())).unzip()
}

async fn notices(place: &Place) -> String {
    place.run(&["notices", "acme", "--site=shop"]).await
}

#[tokio::test]
async fn only_who_permits_it_is_given_and_only_what_is_named() {
    let Some(place) = place("only_who_permits").await else { return };
    for email in [ADA, BEN, EVE] {
        say(&place, "permit", email).await;
    }
    say(&place, "withdraw", BEN).await;
    let (lines, _) = share(&place, "one.csv").await;
    assert_eq!(lines, ["name,email", "Ada,ada@steel.example", "\"Eve, Dr.\",eve@steel.example"]);
    let shares = "SELECT partner, purpose, fields, key_name, length(subject) FROM {database}.privacy_shares LIMIT 1";
    assert_eq!(place.query(shares), "acme\tfair\t['name','email']\tone\t64");
    assert_eq!(place.query("SELECT count() FROM {database}.privacy_shares"), "2");
    // An objection is about everything, and about all that names the person.
    place.run(&["object", "--site=shop", "--visitor=Eve, Dr."]).await;
    say(&place, "permit", EVE).await;
    say(&place, "permit", BEN).await;
    let (lines, _) = share(&place, "two.csv").await;
    assert_eq!(lines, ["name,email", "Ada,ada@steel.example", "Ben,ben@steel.example"]);
    // Neither another purpose nor another partner.
    let path = place.path("three.csv");
    let other = ["--purpose=letters", "--site=shop", "--fields=name", "--output", path.to_str().unwrap()];
    assert!(place.run(&[&["share", "acme"][..], &other].concat()).await.starts_with("0 of 4"));
}

/// A partner that was given a whole list is told within the time that somebody waits for an answer.
#[tokio::test]
async fn a_partner_is_told_of_many() {
    const MANY: u128 = 20_000;
    let Some(place) = Place::new("told_of_many").await else { return };
    let withdrawn = |number: u128| PrivacyDirective {
        partner: "acme".into(),
        purpose: "fair".into(),
        ..directive(
            Uuid::from_u128(number),
            "shop",
            (SubjectKind::Email, "one", format!("{number:064x}")),
            PrivacyAction::Withdraw,
            "olga",
        )
    };
    let all: Vec<_> = (0..MANY).map(withdrawn).collect();
    place.publish(messages(&place.kafka(), &all).unwrap()).await;
    place.query(&format!(
        "INSERT INTO {{database}}.privacy_shares (site, partner, purpose, directive_id, subject, key_name, fields, shared_at) \
         SELECT 'shop', 'acme', 'fair', toUUID('00000000-0000-0000-0000-000000000001'), leftPad(lower(hex(number)), 64, '0'), \
         'one', ['name'], now64(3) FROM numbers({MANY})"
    ));
    let begun = Instant::now();
    assert_eq!(notices(&place).await.lines().count(), 1 + MANY as usize);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// They are one person, and the partner knows them by the permission of the other address.
#[tokio::test]
async fn a_withdrawal_is_about_all_addresses_of_the_contact() {
    let Some(place) = place("all_addresses").await else { return };
    say(&place, "permit", ADA).await;
    let (_, ids) = share(&place, "one.csv").await;
    place.query(
        "INSERT INTO {database}.contact_merges (site, contact, merged_into) \
         VALUES ('shop', 'ada@steel.example', 'ada@between.example'), ('shop', 'ada@between.example', 'ada@home.example')",
    );
    let withdraw = ["withdraw", "--site=shop", "--email=Ada@home.example", "--purpose=fair", "--partner"];
    let other = place.run(&[&withdraw[..], &["Acme"]].concat()).await;
    assert!(other.ends_with("permissions that this ends: 0\n"), "{other}");
    assert_eq!(notices(&place).await.lines().count(), 1);
    let receipt = place.run(&[&withdraw[..], &["acme"]].concat()).await;
    assert!(receipt.ends_with("permissions that this ends: 1\n") && !receipt.contains("home"), "{receipt}");
    let told = notices(&place).await;
    assert!(told.contains(&format!("{},\"fair\",withdraw,", ids[1])), "{told}");
}

#[tokio::test]
async fn who_objected_under_an_address_that_was_merged_since_is_not_given() {
    let Some(place) = place("merged_since").await else { return };
    place.run(&["object", "--site=shop", "--email=ada@old.example"]).await;
    for email in [ADA, BEN] {
        say(&place, "permit", email).await;
    }
    let merge = "('shop', 'ada@old.example', 'ada@steel.example'";
    place.query(&format!("INSERT INTO {{database}}.contact_merges (site, contact, merged_into) VALUES {merge})"));
    place.query(&format!("INSERT INTO {{database}}.settled_merges VALUES {merge}, now64(3))"));
    assert_eq!(share(&place, "one.csv").await.0, ["name,email", "Ben,ben@steel.example"]);
}

/// As it may be repeated, it leaves nothing that would be in its own way.
#[tokio::test]
async fn a_share_that_failed_may_be_repeated() {
    let Some(place) = place("may_be_repeated").await else { return };
    say(&place, "permit", ADA).await;
    let path = place.path("one.csv");
    let output = path.to_str().unwrap();
    let words = ["share", "acme", "--purpose=fair", "--site=shop", "--fields=name,email", "--output", output];
    for table in ["privacy_trail", "privacy_shares"] {
        place.query(&format!("RENAME TABLE {{database}}.{table} TO {{database}}.away"));
        assert!(place.try_run(&words).await.is_err());
        place.query(&format!("RENAME TABLE {{database}}.away TO {{database}}.{table}"));
    }
    assert_eq!(share(&place, "one.csv").await.0, ["name,email", "Ada,ada@steel.example"]);
}

/// Commands are run on several machines.
#[tokio::test]
async fn a_withdrawal_ends_a_permission_that_was_entered_where_the_clock_is_ahead() {
    let Some(place) = place("clock_is_ahead").await else { return };
    say(&place, "permit", ADA).await;
    let ahead = |each: PrivacyDirective<'static>| PrivacyDirective { issued_at: each.issued_at + 600_000, ..each };
    let permits: Vec<_> = place.directives("shop").await.into_iter().map(ahead).collect();
    place.publish(messages(&place.kafka(), &permits).unwrap()).await;
    say(&place, "withdraw", ADA).await;
    assert_eq!(share(&place, "one.csv").await.0, ["name,email"]);
}

/// Whoever objected or withdrew under a key that is missing would be taken for somebody who never did.
#[tokio::test]
async fn a_file_that_has_lost_a_key_is_not_taken() {
    let Some(place) = place("lost_a_key").await else { return };
    place.run(&["object", "--site=shop", "--email", ADA]).await;
    std::fs::write(place.keys_file(), format!("two {}\n", "cd".repeat(32))).unwrap();
    let path = place.path("one.csv");
    let output = path.to_str().unwrap();
    for words in [
        &["permit", "--email", ADA, "--partner=acme", "--purpose=fair"][..],
        &["share", "acme", "--purpose=fair", "--fields=name", "--output", output],
        &["access", "--email", ADA, "--output", output],
        &["erase", "--email", ADA, "--dry-run"],
        &["erase", "--email", ADA],
        &["rectify", "--email", ADA, "--set=name=Ada"],
    ] {
        let refused = place.try_run(&[words, &["--site=shop"]].concat()).await;
        let reason = refused.expect_err(words[0]).to_string();
        assert!(reason.contains("\"one\" is not in the privacy keys"), "{reason}");
    }
    assert!(!path.exists());
}

/// As where the file of another installation is given: nobody would be found by what is hashed with it, and all be told as done.
#[tokio::test]
async fn a_file_with_another_key_of_the_same_name_is_not_taken() {
    let Some(place) = place("another_key").await else { return };
    say(&place, "permit", ADA).await;
    std::fs::write(place.keys_file(), format!("one {}\n", "cd".repeat(32))).unwrap();
    let refused = place.try_run(&["erase", "--site=shop", "--email", ADA]).await.expect_err("refused").to_string();
    assert!(
        refused.contains("\"one\" is not in the privacy keys") && refused.contains("or is another one"),
        "{refused}"
    );
    assert_eq!(place.directives("shop").await.len(), 1);
}

/// What somebody answers on the site itself counts as what they say to us, where it is newer.
#[tokio::test]
async fn who_refused_on_the_site_since_is_not_given() {
    let Some(place) = place("refused_since").await else { return };
    let answer = |visitor: &str, is_permitted: bool| {
        place.query(&format!(
            "INSERT INTO {{database}}.hits (hit_id, site, kind, received_at, occurred_at, visitor_id, consent_partner_sharing) \
             VALUES (generateUUIDv7(), 'shop', 'page_view', now64(3), now64(3), '{visitor}', {is_permitted})"
        ));
    };
    answer("Ada", false);
    for email in [ADA, BEN, EVE] {
        say(&place, "permit", email).await;
    }
    answer("Ben", false);
    answer("Eve, Dr.", false);
    answer("Eve, Dr.", true);
    let (lines, _) = share(&place, "one.csv").await;
    assert_eq!(lines, ["name,email", "Ada,ada@steel.example", "\"Eve, Dr.\",eve@steel.example"]);
}

#[tokio::test]
async fn a_partner_is_told_of_who_withdrew_or_was_erased_by_the_ids_they_were_given_under() {
    let Some(place) = place("a_partner_is_told").await else { return };
    for email in [ADA, BEN, EVE] {
        say(&place, "permit", email).await;
    }
    let (_, ids) = share(&place, "one.csv").await;
    assert_eq!(notices(&place).await.lines().count(), 1);
    // A key that came meanwhile hides nobody.
    let old = std::fs::read_to_string(place.keys_file()).unwrap();
    std::fs::write(place.keys_file(), format!("two {}\n{old}", "cd".repeat(32))).unwrap();
    say(&place, "withdraw", ADA).await;
    place.run(&["erase", "--site=shop", "--email", BEN]).await;
    let told = notices(&place).await;
    let line = |id: &str| told.lines().find(|line| line.starts_with(id)).unwrap_or_default();
    assert!(line(&ids[1]).contains(",\"fair\",withdraw,"), "{told}");
    assert!(line(&ids[2]).contains(",\"fair\",erase,"), "{told}");
    assert_eq!(told.lines().count(), 3);
    assert!(!told.contains("steel"), "{told}");
    // Who permits it again is given under another id; the old one stays to be told.
    say(&place, "permit", ADA).await;
    let (lines, again) = share(&place, "two.csv").await;
    assert_eq!(lines, ["name,email", "Ada,ada@steel.example", "\"Eve, Dr.\",eve@steel.example"]);
    assert_ne!(again[1], ids[1]);
    assert_eq!(notices(&place).await, told);
}
