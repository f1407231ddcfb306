//! Erase, forget, object, rectify, and what became of them.

use privacy::error::PrivacyError;
use privacy::holdings::HOLDINGS;
use privacy::topic::messages;
use schemas::topics::privacy_key;
use schemas::{MatchKind, PrivacyAction, PrivacyDirective, Stage, StageReport, StageState, SubjectKind};
use service::privacy::directives::{Directives, Person, Verdict};

use crate::support::{Place, Visit, email_hash};

const ADA: &str = "ada@steel.example";

async fn place(test: &str) -> Option<Place> {
    let place = Place::new(test).await?;
    place.query("INSERT INTO {database}.customer_sites VALUES ('steel', 'shop'), ('steel', 'blog')");
    let ada = |site, email| Visit { site, visitor: "v-ada", email, ..Visit::default() };
    place.visit(&[ada("shop", ADA), ada("shop", ""), ada("blog", "")]);
    place.visit(&[Visit { site: "shop", visitor: "v-ben", ..Visit::default() }]);
    place.partner_record(MatchKind::EmailHash, &email_hash(ADA)).await;
    place.partner_record(MatchKind::VisitorId, "v-ada").await;
    place.partner_record(MatchKind::VisitorId, "v-ben").await;
    place.partner_record(MatchKind::EmailDomain, "steel.example").await;
    Some(place)
}

fn id(receipt: &str) -> &str {
    receipt.lines().next().unwrap().strip_prefix("request: ").unwrap()
}

#[tokio::test]
async fn a_dry_run_shows_all_and_changes_nothing() {
    let Some(place) = place("a_dry_run").await else { return };
    let text = place.run(&["erase", "--site=shop", "--email", ADA, "--dry-run"]).await;
    for line in ["sites: shop, blog", "identifiers: 2", "  hits: 3", "  contact_cards: 1", "  contact_links: 1"] {
        assert!(text.lines().any(|each| each == line), "{line} is not in {text}");
    }
    assert!(text.contains("partner records: 2") && text.contains("nothing was published"), "{text}");
    assert!(!text.contains("ada"), "{text}");
    let shown = place.run(&["erase", "--site=shop", "--email", ADA, "--dry-run", "--show"]).await;
    assert!(shown.contains("e-mail ada@steel.example -> visitor v-ada: told by form"), "{shown}");
    assert!(place.directives("shop").await.is_empty());
    assert_eq!(place.partner_values().await.len(), 4);
    assert_eq!(place.query("SELECT count() FROM {database}.privacy_trail"), "0");
}

/// One that was killed while it published would else hide what comes after it for ten seconds and more.
#[tokio::test]
async fn a_command_that_was_killed_holds_up_nothing() {
    let Some(place) = place("was_killed").await else { return };
    let killed = place.begin_to_publish();
    place.run(&["erase", "--site=shop", "--email", ADA]).await;
    assert_eq!(place.directives("shop").await.len(), 2);
    drop(killed);
}

#[tokio::test]
async fn commands_that_publish_at_once_take_turns() {
    let Some(place) = place("take_turns").await else { return };
    let ask = async |visitor: &str| place.run(&["object", "--site=blog", "--visitor", visitor]).await;
    tokio::join!(ask("v-1"), ask("v-2"), ask("v-3"), ask("v-4"), ask("v-5"), ask("v-6"), ask("v-7"), ask("v-8"));
    assert_eq!(place.directives("blog").await.len(), 8);
}

#[tokio::test]
async fn an_erasure_is_published_for_each_identifier_at_each_site_under_one_id() {
    let Some(place) = place("an_erasure").await else { return };
    let receipt = place.run(&["erase", "--site=shop", "--email", ADA, "--due=7"]).await;
    assert!(receipt.contains("directives published: 4\n") && receipt.contains("  hits: 3\n"), "{receipt}");
    assert!(!receipt.contains("ada"), "{receipt}");
    let keys = place.keys();
    for site in ["shop", "blog"] {
        let directives = place.directives(site).await;
        assert_eq!(directives.len(), 2);
        for (kind, value) in [(SubjectKind::Email, ADA), (SubjectKind::VisitorId, "v-ada")] {
            let hash = hex::encode(keys.newest().hash(site, kind, value));
            let found = directives.iter().find(|each| each.subject_kind == kind && each.subject == hash).unwrap();
            assert_eq!((found.action, found.key_name.as_ref()), (PrivacyAction::Erase, "one"));
            assert_eq!((found.directive_id.to_string().as_str(), found.operator.as_ref()), (id(&receipt), "olga"));
            let made_at = privacy::topic::issued_at(found.directive_id);
            // It takes effect when all stages know of it.
            assert_eq!((found.issued_at, found.due_at), (made_at + 10_000, Some(made_at + 7 * 86_400_000)));
        }
    }
    assert_eq!(place.partner_values().await, ["steel.example", "v-ben"]);
    let trail =
        place.query("SELECT operator, action, site, rows, toString(directive_id) FROM {database}.privacy_trail");
    // Sessions are among them where they were settled meanwhile, as they are each minute.
    let held = receipt.lines().skip_while(|line| *line != "rows held:").skip(1);
    let held: u64 = held.map_while(|line| line.strip_prefix("  ")?.split_once(": ")?.1.parse::<u64>().ok()).sum();
    assert!(held >= 5, "{receipt}");
    assert_eq!(trail, format!("olga\terase\tshop\t{held}\t{}", id(&receipt)));
}

#[tokio::test]
async fn whoever_objects_keeps_what_is_held_and_nobody_is_asked_of_without_a_name() {
    let Some(place) = place("whoever_objects").await else { return };
    place.run(&["object", "--site=shop", "--visitor=v-ada"]).await;
    let directives = place.directives("shop").await;
    assert_eq!(directives.len(), 2);
    assert!(directives.iter().all(|each| each.action == PrivacyAction::Object));
    assert_eq!(place.partner_values().await.len(), 4);
    let nobody = place.try_run(&["erase", "--site=shop"]).await;
    assert!(matches!(nobody, Err(PrivacyError::NoSubject)));
}

#[tokio::test]
async fn a_correction_goes_to_all_sites_and_only_fields_of_a_contact_are_taken() {
    let Some(place) = place("a_correction").await else { return };
    let unknown = place.try_run(&["rectify", "--site=shop", "--email", ADA, "--set", "shoe_size=38"]).await;
    assert!(matches!(unknown, Err(PrivacyError::UnknownField(_))));
    assert!(place.directives("shop").await.is_empty());
    let receipt = place.run(&["rectify", "--site=shop", "--email", ADA, "--set", "name=Ada L", "--set=phone=1"]).await;
    assert!(receipt.contains("fields: name, phone\n") && !receipt.contains("Ada"), "{receipt}");
    for site in ["shop", "blog"] {
        let directives = place.directives(site).await;
        assert_eq!(directives.len(), 1);
        assert_eq!(directives[0].fields.get("name"), Some("Ada L"));
        assert_eq!(directives[0].action, PrivacyAction::Rectify);
    }
}

/// As the sink counts them in its report.
#[tokio::test]
async fn a_session_counts_once_however_often_it_was_settled() {
    let Some(place) = place("counts_once").await else { return };
    place.query("SYSTEM STOP MERGES {database}.settled_sessions");
    place.settle().await;
    place.visit(&[Visit { site: "shop", visitor: "v-ada", ..Visit::default() }]);
    place.settle().await;
    let rows = place.query("SELECT count() FROM {database}.settled_sessions WHERE visitor_id = 'v-ada'");
    assert!(rows.parse::<u64>().unwrap() > 2, "{rows}");
    let receipt = place.run(&["erase", "--site=shop", "--email", ADA, "--dry-run"]).await;
    assert!(receipt.contains("  settled_sessions: 2\n"), "{receipt}");
}

/// What a partner wrote by a later version is theirs all the same.
#[tokio::test]
async fn a_partner_record_that_can_not_be_read_is_removed_with_the_others() {
    let Some(place) = place("unreadable").await else { return };
    place.unreadable_partner_record(MatchKind::VisitorId, "v-ada").await;
    let receipt = place.run(&["erase", "--site=shop", "--email", ADA]).await;
    assert!(receipt.contains("partner records: 3"), "{receipt}");
    assert_eq!(place.partner_values().await, ["steel.example", "v-ben"]);
}

/// Their browser tells the id of before for as long as they keep its cookie, and they know no other.
#[tokio::test]
async fn who_was_forgotten_and_came_again_is_found_by_the_id_that_they_have() {
    let Some(place) = place("came_again").await else { return };
    place.run(&["forget", "--site=shop", "--visitor=v-ada"]).await;
    let mut directives = Directives::new(Some(place.keys()));
    for each in place.directives("shop").await {
        directives.apply(&privacy_key(&each), Some(&each)).unwrap();
    }
    let later = Person { site: "shop", visitor: "v-ada", contact: None, at: i64::MAX };
    let Verdict::Rename { visitor: id, .. } = directives.judge(&later) else { panic!("not renamed") };
    place.visit(&[Visit { site: "shop", visitor: &id, ..Visit::default() }]);
    let hash = hex::encode(place.keys().newest().hash("shop", SubjectKind::VisitorId, &id));
    for (right, action) in [("object", PrivacyAction::Object), ("erase", PrivacyAction::Erase)] {
        let receipt = place.run(&[right, "--site=shop", "--visitor=v-ada"]).await;
        assert!(receipt.contains(": forgotten, 20"), "{receipt}");
        let asked = place.directives("shop").await;
        assert!(asked.iter().any(|each| each.action == action && each.subject == hash), "{receipt}");
    }
}

/// Whoever reads the contact knows no other address of theirs.
#[tokio::test]
async fn who_was_corrected_to_another_address_is_found_by_it() {
    let Some(place) = place("another_address").await else { return };
    place.query(
        "INSERT INTO {database}.contact_cards (site, contact, email, source, source_name) \
         VALUES ('shop', 'ada@steel.example', 'Ada@right.example', 'correction', 'olga')",
    );
    assert_eq!(place.query("SELECT email FROM {database}.contacts"), "Ada@right.example");
    let hash = |value| hex::encode(place.keys().newest().hash("shop", SubjectKind::Email, value));
    place.run(&["rectify", "--site=shop", "--email=ada@right.example", "--set=name=Ada"]).await;
    let corrected = place.directives("shop").await;
    assert_eq!(corrected.iter().map(|each| each.subject.to_string()).collect::<Vec<_>>(), [hash(ADA)]);
    let receipt = place.run(&["erase", "--site=shop", "--email=ada@right.example", "--show"]).await;
    let link = "e-mail ada@right.example -> e-mail ada@steel.example: corrected, 20";
    assert!(receipt.contains("  hits: 3\n") && receipt.contains(link), "{receipt}");
    let erased = place.directives("shop").await;
    assert!(erased.iter().all(|each| each.action == PrivacyAction::Erase), "the correction is off the topic");
    assert!(["ada@right.example", ADA].iter().all(|value| erased.iter().any(|each| each.subject == hash(value))));
}

/// Their fields are in plain text there, and nobody has them any more.
#[tokio::test]
async fn an_erasure_takes_corrections_off_the_topic_and_only_those_of_the_person() {
    let Some(place) = place("takes_corrections").await else { return };
    place.run(&["rectify", "--site=shop", "--email", ADA, "--set", "name=Ada L"]).await;
    place.run(&["rectify", "--site=shop", "--email=ben@steel.example", "--set", "name=Ben L"]).await;
    let reports: Vec<PrivacyDirective<'static>> = place
        .directives("blog")
        .await
        .into_iter()
        .map(|each| PrivacyDirective { report: Some(StageReport::default()), ..each })
        .collect();
    place.publish(messages(&place.kafka(), &reports).unwrap()).await;
    place.run(&["object", "--site=shop", "--email", ADA]).await;
    assert_eq!(names(&place).await, ["Ada L", "Ben L"]);
    place.run(&["erase", "--site=shop", "--email", ADA, "--dry-run"]).await;
    assert_eq!(names(&place).await, ["Ada L", "Ben L"]);
    place.run(&["erase", "--site=shop", "--email", ADA]).await;
    assert_eq!(names(&place).await, ["Ben L"]);
    assert_eq!(
        place.register().await.all().filter(|each| each.report.is_some()).count(),
        1,
        "what was reported on Ada's is gone, too"
    );
}

async fn names(place: &Place) -> Vec<String> {
    let directives = place.directives("blog").await;
    let mut names: Vec<_> = directives.iter().filter_map(|each| each.fields.get("name")).map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn status_tells_what_stages_report_and_what_is_late() {
    let Some(place) = place("status_tells").await else { return };
    let late = place.run(&["erase", "--site=shop", "--email", ADA, "--due=0"]).await;
    let open = place.run(&["forget", "--site=shop", "--visitor=v-ben"]).await;
    let listed = place.run(&["list", "--site=shop"]).await;
    let line = |text: &str, of: &str| text.lines().find(|line| line.starts_with(of)).unwrap().to_owned();
    assert!(line(&listed, id(&late)).contains("OVERDUE") && line(&listed, id(&open)).contains("open"), "{listed}");
    assert!(listed.ends_with("2 requests, 1 overdue\n"), "{listed}");
    let status = place.run(&["status", id(&late), "--site=shop"]).await;
    assert!(status.contains("no stage has reported") && !status.contains(id(&open)), "{status}");
    let asked = [place.directives("shop").await, place.directives("blog").await].concat();
    let reports: Vec<PrivacyDirective<'static>> = asked
        .into_iter()
        .filter(|each| each.action == PrivacyAction::Erase)
        .map(|each| {
            let report = StageReport {
                stage: Stage::Sink,
                state: StageState::Done,
                instance: "sink-1".into(),
                rows: 4,
                reported_at: each.issued_at,
            };
            PrivacyDirective { report: Some(report), ..each }
        })
        .collect();
    place.publish(messages(&place.kafka(), &reports).unwrap()).await;
    let status = place.run(&["status", id(&late), "--site=shop"]).await;
    assert!(
        status.contains("done") && status.contains("sink: hidden 4, done 4 of 4, 4 rows in its last step"),
        "{status}"
    );
    assert!(status.ends_with("1 requests, 0 overdue\n"), "{status}");
    let unknown = place.try_run(&["status", "00000000-0000-0000-0000-000000000001", "--site=shop"]).await;
    assert!(matches!(unknown, Err(PrivacyError::NoSuchRequest(..))));
}

/// A table that is added with people in it has to be added to the list, too.
#[tokio::test]
async fn no_table_with_people_in_it_is_overlooked() {
    let Some(place) = Place::new("no_table_is_overlooked").await else { return };
    let tables = place.query(
        "SELECT DISTINCT table FROM system.columns INNER JOIN system.tables AS t ON t.database = columns.database AND \
         t.name = table WHERE columns.database = '{database}' AND t.engine LIKE '%MergeTree' \
         AND columns.name IN ('visitor_id', 'contact', 'contact_email', 'email', 'phone', 'member')",
    );
    for table in tables.lines() {
        assert!(HOLDINGS.iter().any(|holding| holding.name == table), "{table} is not among the holdings");
    }
    assert!(tables.lines().count() >= 5, "{tables}");
}
