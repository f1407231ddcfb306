//! Who somebody is.

use std::collections::BTreeSet;

use privacy::database::Database;
use privacy::options::{ClickHouseOptions, Command, Options, SERVICE};
use privacy::resolve::{Fate, Person, resolve};

use crate::support::{Place, Visit};

fn options(place: &Place, words: &[&str]) -> (ClickHouseOptions, privacy::options::SubjectOptions) {
    let url = place.url();
    let start = ["privacy", "erase", "--privacy-keys=k", "--operator=olga", "--site=shop"];
    let to = ["--clickhouse-url", &url, "--clickhouse-database", &place.database];
    match SERVICE.parse_from::<Options>(&[&start[..], &to, words].concat()).unwrap().command {
        Command::Erase(options) => (options.places.clickhouse, options.subject),
        _ => unreachable!("an erasure was asked for"),
    }
}

async fn person(place: &Place, words: &[&str]) -> Person {
    let (clickhouse, subject) = options(place, words);
    resolve(&Database::new(&clickhouse), &place.register().await, &place.keys(), &subject).await.unwrap()
}

fn values(person: &Person) -> BTreeSet<&str> {
    person.identifiers.iter().map(|each| each.value.as_str()).collect()
}

fn visit<'a>(site: &'a str, visitor: &'a str, email: &'a str) -> Visit<'a> {
    Visit { site, visitor, email, ..Visit::default() }
}

#[tokio::test]
async fn links_are_followed_across_the_sites_of_a_customer_and_no_further() {
    let Some(place) = Place::new("links_are_followed").await else { return };
    place.query("INSERT INTO {database}.customer_sites VALUES ('steel', 'shop'), ('steel', 'blog'), ('other', 'far')");
    place.visit(&[
        visit("shop", "v1", "Ada@steel.example"),
        visit("blog", "v1", "ada@home.example"),
        visit("blog", "v2", "ada@home.example"),
        // Another customer's site: the same address leads nowhere there.
        visit("far", "v3", "ada@home.example"),
        visit("shop", "v9", "ben@steel.example"),
    ]);
    place.query("INSERT INTO {database}.contact_merges (site, contact, merged_into) VALUES ('blog', 'ada@old.example', 'ada@home.example')");
    let found = person(&place, &["--email", "ADA@steel.example"]).await;
    assert_eq!(found.sites, ["shop", "blog"]);
    let all = BTreeSet::from(["ada@steel.example", "ada@home.example", "ada@old.example", "v1", "v2"]);
    assert_eq!(values(&found), all);
    assert_eq!(found.links.len(), 4, "{:?}", found.links);
    assert!(found.links[0].why.starts_with("told by form, 20"), "{:?}", found.links[0]);
    assert_eq!(values(&person(&place, &["--visitor", "v2"]).await), all);
    let far = person(&place, &["--email", "ada@home.example"]).await;
    assert!(!values(&far).contains("v3"));
}

#[tokio::test]
async fn a_link_that_was_undone_or_is_cut_is_not_followed() {
    let Some(place) = Place::new("a_link_that_was_undone").await else { return };
    place.visit(&[
        visit("shop", "kiosk", "ada@steel.example"),
        visit("shop", "kiosk", "ben@steel.example"),
        visit("shop", "v1", "ada@steel.example"),
    ]);
    let found = person(&place, &["--email=ada@steel.example"]).await;
    assert_eq!(values(&found), BTreeSet::from(["ada@steel.example", "ben@steel.example", "kiosk", "v1"]));
    let cut = person(&place, &["--email=ada@steel.example", "--without=kiosk"]).await;
    assert_eq!(values(&cut), BTreeSet::from(["ada@steel.example", "v1"]));
    assert!(cut.links.iter().any(|link| link.to.value == "kiosk" && link.fate == Fate::Cut));
    place.query(
        "INSERT INTO {database}.contact_links (site, contact, visitor_id, is_linked, evidence, linked_at) \
         VALUES ('shop', 'ben@steel.example', 'kiosk', false, 'by hand', now64(3) + INTERVAL 1 DAY)",
    );
    let found = person(&place, &["--email=ada@steel.example"]).await;
    assert_eq!(values(&found), BTreeSet::from(["ada@steel.example", "kiosk", "v1"]));
}

#[tokio::test]
async fn a_phone_belongs_to_a_person_unless_others_told_it_too() {
    let Some(place) = Place::new("a_phone_belongs").await else { return };
    place.visit(&[
        Visit { phone: "0049 30 4711", ..visit("shop", "v1", "ada@steel.example") },
        Visit { phone: "+49 (30) 1000", ..visit("shop", "v1", "ada@steel.example") },
        Visit { phone: "0049 30 1000", ..visit("shop", "v2", "ben@steel.example") },
    ]);
    let found = person(&place, &["--email=ada@steel.example"]).await;
    assert_eq!(values(&found), BTreeSet::from(["ada@steel.example", "v1", "+49304711"]));
    assert!(found.links.iter().any(|link| link.to.value == "+49301000" && link.fate == Fate::Shared));
    let found = person(&place, &["--phone", "+49 30 4711"]).await;
    assert_eq!(values(&found), BTreeSet::from(["ada@steel.example", "v1", "+49304711"]));
    // Who gives the shared one gets both, and reads so.
    let found = person(&place, &["--phone", "+49 30 1000"]).await;
    assert!(values(&found).contains("ben@steel.example") && values(&found).contains("+49301000"));
}

/// What people paste into a field has more around it than spaces.
#[tokio::test]
async fn white_space_around_a_name_hides_nobody() {
    let Some(place) = Place::new("white_space").await else { return };
    place.visit(&[
        visit("shop", "v1", "ada@steel.example\\t"),
        visit("shop", "v1", ""),
        visit("shop", "v2", "\u{a0}Ada@steel.example"),
        Visit { phone: "\u{2009}+49 30 4711", ..visit("shop", "v3", "") },
    ]);
    let found = person(&place, &["--email=ada@steel.example", "--phone=+49 30 4711"]).await;
    assert_eq!(values(&found), BTreeSet::from(["ada@steel.example", "+49304711", "v1", "v2", "v3"]));
    let receipt = place
        .run(&["erase", "--site=shop", "--email=ada@steel.example", "--without=v1", "--without=v2", "--dry-run"])
        .await;
    assert!(receipt.contains("  hits: 2\n"), "{receipt}");
}

/// An address such as that of a school, or one that a shop fills in for all its guests.
#[tokio::test]
async fn somebody_may_be_as_many_visitors_as_there_are() {
    let Some(place) = Place::new("as_many_visitors").await else { return };
    place.query(
        "INSERT INTO {database}.hits (hit_id, site, kind, received_at, occurred_at, visitor_id, contact_email) \
         SELECT generateUUIDv7(), 'shop', 'form', now64(3), now64(3), toString(generateUUIDv4()), 'ada@steel.example' FROM numbers(20000)",
    );
    let words = ["erase", "--site=shop", "--email=ada@steel.example", "--dry-run"];
    let receipt = place.run(&words).await;
    assert!(receipt.contains("identifiers: 20001\n") && receipt.contains("  hits: 20000\n"), "{}", &receipt[..200]);
}

/// They name the person, and an erasure would not reach where ClickHouse keeps what it was asked.
#[tokio::test]
async fn questions_are_not_kept() {
    let Some(place) = Place::new("questions_are_not_kept").await else { return };
    let database = Database::new(&options(&place, &["--visitor=v1"]).0);
    let rows = database.rows("asking for a setting", "SELECT toString(getSetting('log_queries')) AS is_kept").await;
    assert_eq!(rows.unwrap()[0]["is_kept"], "false");
    let error = database.rows("asking for nothing", "SELECT 'ada@steel.example' FROM {database}.nothing").await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("Code: 60 (UNKNOWN_TABLE)") && !error.contains("ada"), "{error}");
}

/// What a person writes into a field is never part of a statement.
#[tokio::test]
async fn quotes_and_braces_in_a_value_find_nothing_and_break_nothing() {
    let Some(place) = Place::new("quotes_and_braces").await else { return };
    place.visit(&[visit("shop", "v1", "ada@steel.example")]);
    for odd in ["' OR 1 = 1 --", r"\' OR 1 = 1 --", "{database}", "{x:String}", "a\nb", "?"] {
        assert_eq!(person(&place, &["--visitor", odd]).await.identifiers.len(), 1, "{odd}");
    }
}
