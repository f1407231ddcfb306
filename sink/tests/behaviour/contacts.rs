//! People: cards, links, merges, and that each can be undone.

use crate::states::{HOUR, MINUTE, form, in_every_state, in_session, lines};
use crate::support::{Place, page_view};

/// Anna visits on a computer before she gives her address there, and later on her telephone, where she gives it again,
/// written otherwise and with another number.
fn anna() -> Vec<schemas::EnrichedHit<'static>> {
    vec![
        in_session(page_view(1, "desk", 0, "/"), 0xa1),
        in_session(form(2, "desk", HOUR, ["Anna Berg", "anna@steel.example", "1"]), 0xa2),
        in_session(page_view(3, "phone", 2 * HOUR, "/prices"), 0xb1),
        in_session(form(4, "phone", 2 * HOUR + MINUTE, ["", "Anna@Steel.Example", "2"]), 0xb1),
        // No address: it is hers, as the visitor is.
        in_session(form(5, "desk", 3 * HOUR, ["Anna Berg-Holm", "", ""]), 0xa3),
        in_session(page_view(6, "stranger", 0, "/"), 0xc1),
    ]
}

#[tokio::test]
async fn a_contact_is_all_visitors_who_gave_the_address() {
    let Some(stack) = local::database_or_skip("a_contact_is_all_visitors_who_gave_the_address") else { return };
    in_every_state(stack, "contacts", anna(), |place, state| {
        let columns = "contact, name, name_source, email, phone, phone_source, emails, first_told_at, last_told_at";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.contacts WHERE site = 'shop'"));
        let expected = "anna@steel.example\tAnna Berg-Holm\tform\tAnna@Steel.Example\t2\tform\t['anna@steel.example']\t\
                        2026-03-10 13:00:00.000\t2026-03-10 15:00:00.000";
        assert_eq!(found, expected, "{state}");
        // Also the visit before she was known.
        let activity = place.query("SELECT visitors, sessions, page_views, forms, first_seen FROM {database}.contact_activity");
        assert_eq!(activity, "['desk','phone']\t4\t2\t3\t2026-03-10 12:00:00.000", "{state}");
        let visits = "SELECT visitor_id, started_at FROM {database}.contact_sessions(site = 'shop', contact = 'anna@steel.example') ORDER BY started_at";
        let expected = [
            "desk\t2026-03-10 12:00:00.000",
            "desk\t2026-03-10 13:00:00.000",
            "phone\t2026-03-10 14:00:00.000",
            "desk\t2026-03-10 15:00:00.000",
        ];
        assert_eq!(lines(&place.query(visits)), expected, "{state}");
    })
    .await;
}

#[tokio::test]
async fn the_history_keeps_each_value_with_who_told_it() {
    let Some(stack) = local::database_or_skip("the_history_keeps_each_value_with_who_told_it") else { return };
    in_every_state(stack, "history", anna(), |place, state| {
        let question = "SELECT field, value, source, visitor_id, first_told_at, times_told FROM {database}.contact_history \
                        WHERE field != 'email' ORDER BY field, value";
        let expected = [
            "name\tAnna Berg\tform\tdesk\t2026-03-10 13:00:00.000\t1",
            "name\tAnna Berg-Holm\tform\tdesk\t2026-03-10 15:00:00.000\t1",
            "phone\t1\tform\tdesk\t2026-03-10 13:00:00.000\t1",
            "phone\t2\tform\tphone\t2026-03-10 14:01:00.000\t1",
        ];
        assert_eq!(lines(&place.query(question)), expected, "{state}");
    })
    .await;
}

fn visitors(place: &Place) -> String {
    place.query("SELECT contact, visitor_id, evidence FROM {database}.contact_visitors ORDER BY contact, visitor_id")
}

#[tokio::test]
async fn a_link_is_undone_by_a_newer_row_and_told_again_by_a_newer_hit() {
    let name = "a_link_is_undone_by_a_newer_row_and_told_again_by_a_newer_hit";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "unlinked").await;
    place.load(&anna()).await;
    assert_eq!(lines(&visitors(&place)), ["anna@steel.example\tdesk\tform", "anna@steel.example\tphone\tform"]);
    place.query(
        "INSERT INTO {database}.contact_links (site, contact, visitor_id, is_linked, evidence, linked_at) \
         VALUES ('shop', 'anna@steel.example', 'phone', false, 'borrowed', '2026-03-10 16:00:00')",
    );
    assert_eq!(visitors(&place), "anna@steel.example\tdesk\tform");
    // An older hit that comes late changes nothing.
    place.load(&[form(7, "phone", 3 * HOUR, ["", "anna@steel.example", ""])]).await;
    assert_eq!(visitors(&place), "anna@steel.example\tdesk\tform");
    place.load(&[form(8, "phone", 5 * HOUR, ["", "anna@steel.example", ""])]).await;
    assert_eq!(lines(&visitors(&place)), ["anna@steel.example\tdesk\tform", "anna@steel.example\tphone\tform"]);
}

/// What was undone stays so, however hits from before come: late, twice, or once more.
#[tokio::test]
async fn an_undone_link_stays_undone_however_older_hits_arrive() {
    let name = "an_undone_link_stays_undone_however_older_hits_arrive";
    let Some(stack) = local::database_or_skip(name) else { return };
    let mut hits = anna();
    hits.push(form(7, "phone", 3 * HOUR, ["", "anna@steel.example", ""]));
    in_every_state(stack, "undone", hits, |place, state| {
        place.query(
            "INSERT INTO {database}.contact_links (site, contact, visitor_id, is_linked, evidence, linked_at) \
             VALUES ('shop', 'anna@steel.example', 'phone', false, 'borrowed', '2026-03-10 16:00:00')",
        );
        assert_eq!(visitors(place), "anna@steel.example\tdesk\tform", "{state}");
        let done = "SELECT visitors FROM {database}.contact_activity WHERE contact = 'anna@steel.example'";
        assert_eq!(place.query(done), "['desk']", "{state}");
    })
    .await;
}

/// One merged into a second, which is merged into a third, is the third; taken back, each is themselves again.
#[tokio::test]
async fn contacts_are_merged_and_parted_again() {
    let Some(stack) = local::database_or_skip("contacts_are_merged_and_parted_again") else { return };
    let hits = vec![
        form(1, "one", 0, ["A", "a@x.example", "1"]),
        form(2, "two", HOUR, ["", "b@x.example", "2"]),
        form(3, "three", 2 * HOUR, ["C", "c@x.example", ""]),
    ];
    in_every_state(stack, "merged", hits, |place, state| {
    place.query("TRUNCATE TABLE {database}.contact_merges");
    place.query(
        "INSERT INTO {database}.contact_merges (site, contact, merged_into, decided_at) VALUES \
         ('shop', 'a@x.example', 'b@x.example', '2026-03-11 00:00:00'), ('shop', 'b@x.example', 'c@x.example', '2026-03-11 00:00:00')",
    );
    place.refresh("settle_merges");
    let contacts = || place.query("SELECT contact, name, phone, emails FROM {database}.contacts ORDER BY contact");
    assert_eq!(contacts(), "c@x.example\tC\t2\t['a@x.example','b@x.example','c@x.example']", "{state}");
    let visitors = place.query("SELECT DISTINCT contact, groupArray(visitor_id) FROM (SELECT * FROM {database}.contact_visitors ORDER BY visitor_id) GROUP BY contact");
    assert_eq!(visitors, "c@x.example\t['one','three','two']", "{state}");
    let visits = |contact: &str| {
        place.query(&format!(
            "SELECT arraySort(groupUniqArray(visitor_id)) FROM {{database}}.contact_sessions(site = 'shop', contact = '{contact}@x.example')"
        ))
    };
    assert_eq!(["a", "b", "c"].map(visits), ["[]", "[]", "['one','three','two']"], "{state}");
    place.query(
        "INSERT INTO {database}.contact_merges (site, contact, merged_into, is_merged, decided_at) VALUES \
         ('shop', 'b@x.example', 'c@x.example', false, '2026-03-12 00:00:00')",
    );
    place.refresh("settle_merges");
    let expected = ["b@x.example\tA\t2\t['a@x.example','b@x.example']", "c@x.example\tC\t\t['c@x.example']"];
    assert_eq!(lines(&contacts()), expected, "{state}");
    assert_eq!(["a", "b", "c"].map(visits), ["[]", "['one','two']", "['three']"], "{state}");
    })
    .await;
}

/// Two objects under her own address, and One is found to be her; Three objects under an address that is merged away into
/// that of Four. Five is somebody else.
#[tokio::test]
async fn an_objection_is_of_the_person_whatever_is_merged_later() {
    let name = "an_objection_is_of_the_person_whatever_is_merged_later";
    let Some(stack) = local::database_or_skip(name) else { return };
    let hits = vec![
        form(1, "one", 0, ["", "a@x.example", ""]),
        form(2, "two", 0, ["", "b@x.example", ""]),
        form(3, "three", 0, ["", "c@x.example", ""]),
        form(4, "four", 0, ["", "d@x.example", ""]),
        form(5, "five", 0, ["", "e@x.example", ""]),
    ];
    in_every_state(stack, "objecting", hits, |place, state| {
        place.query("TRUNCATE TABLE {database}.contact_merges");
        place.refresh("settle_merges");
        place.query("INSERT INTO {database}.score_rules (site, rule, kind, points) VALUES ('shop', 'form', 'form', 10)");
        place.query(
            "INSERT INTO {database}.objections (site, contact, objected_at, directive_id) VALUES \
             ('shop', 'B@x.example', '2026-03-11 00:00:00', toUUID('00000000-0000-0000-0000-000000000001')), \
             ('shop', 'c@x.example', '2026-03-12 00:00:00', toUUID('00000000-0000-0000-0000-000000000002'))",
        );
        let objectors = || place.query("SELECT visitor_id, toDate(objected_at) FROM {database}.objectors ORDER BY visitor_id");
        let leads = || {
            place.query(
                "SELECT (SELECT arraySort(groupArray(visitor_id)) FROM {database}.lead_scores), \
                 (SELECT arraySort(groupArray(contact)) FROM {database}.contact_lead_scores)",
            )
        };
        assert_eq!(lines(&objectors()), ["three\t2026-03-12", "two\t2026-03-11"], "{state}");
        place.query(
            "INSERT INTO {database}.contact_merges (site, contact, merged_into, decided_at) VALUES \
             ('shop', 'a@x.example', 'b@x.example', '2026-03-13 00:00:00'), ('shop', 'c@x.example', 'd@x.example', '2026-03-13 00:00:00')",
        );
        place.refresh("settle_merges");
        let all = ["four\t2026-03-12", "one\t2026-03-11", "three\t2026-03-12", "two\t2026-03-11"];
        assert_eq!(lines(&objectors()), all, "{state}");
        assert_eq!(leads(), "['five']\t['e@x.example']", "{state}");
        // Taken back, One is somebody else again.
        place.query(
            "INSERT INTO {database}.contact_merges (site, contact, merged_into, is_merged, decided_at) VALUES \
             ('shop', 'a@x.example', 'b@x.example', false, '2026-03-14 00:00:00')",
        );
        place.refresh("settle_merges");
        assert_eq!(lines(&objectors()), ["four\t2026-03-12", "three\t2026-03-12", "two\t2026-03-11"], "{state}");
        assert_eq!(leads(), "['five','one']\t['a@x.example','e@x.example']", "{state}");
    })
    .await;
}

/// A desk that Anna and then Ben sit at.
fn shared_desk() -> Vec<schemas::EnrichedHit<'static>> {
    vec![
        form(1, "desk", 0, ["Anna", "", ""]),
        form(2, "desk", HOUR, ["", "anna@x.example", ""]),
        form(3, "desk", HOUR + MINUTE, ["", "", "111"]),
        form(4, "desk", 3 * HOUR, ["", "ben@x.example", ""]),
        form(5, "desk", 3 * HOUR + MINUTE, ["Ben", "", ""]),
    ]
}

fn names_and_phones(place: &Place) -> String {
    place.query("SELECT contact, name, phone FROM {database}.contacts ORDER BY contact")
}

/// What is submitted without an address is of who gave theirs last before that, not of who came later. Before anybody did,
/// it is of the first who did.
#[tokio::test]
async fn a_card_without_an_address_is_of_who_was_there() {
    let Some(stack) = local::database_or_skip("a_card_without_an_address_is_of_who_was_there") else { return };
    in_every_state(stack, "desk", shared_desk(), |place, state| {
        let found = names_and_phones(place);
        assert_eq!(lines(&found), ["anna@x.example\tAnna\t111", "ben@x.example\tBen\t"], "{state}");
    })
    .await;
}

/// Who turns out never to have been there has nothing of it.
#[tokio::test]
async fn a_card_without_an_address_is_of_nobody_whose_link_was_undone() {
    let name = "a_card_without_an_address_is_of_nobody_whose_link_was_undone";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "desk_undone").await;
    place.load(&shared_desk()).await;
    place.query(
        "INSERT INTO {database}.contact_links (site, contact, visitor_id, is_linked, linked_at) \
         VALUES ('shop', 'anna@x.example', 'desk', false, '2026-03-10 20:00:00')",
    );
    assert_eq!(lines(&names_and_phones(&place)), ["anna@x.example\t\t", "ben@x.example\tBen\t111"]);
}

/// Who leaves the field blank, or writes there that they have none, gives no address: two who do so are not one person, and
/// Eve keeps hers.
#[tokio::test]
async fn what_is_no_address_makes_nobody_a_contact() {
    let Some(stack) = local::database_or_skip("what_is_no_address_makes_nobody_a_contact") else { return };
    let mut known = form(8, "frank", 0, ["", " ", ""]);
    known.partner = Some(schemas::PartnerMatch { company_name: "X Works".into(), ..schemas::PartnerMatch::default() });
    let hits = vec![
        form(1, "anna", 0, ["Anna", " ", ""]),
        form(2, "ben", 0, ["Ben", "  ", "2"]),
        form(3, "cleo", 0, ["Cleo", "n/a", ""]),
        form(4, "dora", 0, ["Dora", "N/A", ""]),
        form(5, "eve", 0, ["", " Eve@X.example ", ""]),
        form(6, "eve", HOUR, ["Eve", "n/a", ""]),
        form(7, "gus", 0, ["", " ", ""]),
        known,
    ];
    in_every_state(stack, "no_address", hits, |place, state| {
        assert_eq!(visitors(place), "eve@x.example\teve\tform", "{state}");
        let contacts = "SELECT contact, name, email, emails FROM {database}.contacts";
        assert_eq!(place.query(contacts), "eve@x.example\tEve\t Eve@X.example \t['eve@x.example']", "{state}");
        let cards = "SELECT DISTINCT visitor_id, contact, source, name, email, phone FROM {database}.contact_cards ORDER BY ALL";
        let expected = [
            "anna\t\tform\tAnna\t\t",
            "ben\t\tform\tBen\t\t2",
            "cleo\t\tform\tCleo\t\t",
            "dora\t\tform\tDora\t\t",
            "eve\t\tform\tEve\t\t",
            "eve\teve@x.example\tform\t\t Eve@X.example \t",
        ];
        assert_eq!(lines(&place.query(cards)), expected, "{state}");
    })
    .await;
}

/// What comes later counts, whoever says it; who said it stands beside.
#[tokio::test]
async fn imports_and_partners_tell_fields_too() {
    let Some(stack) = local::database_or_skip("imports_and_partners_tell_fields_too") else { return };
    let mut known = form(1, "one", 0, ["A", "a@x.example", "1"]);
    known.partner = Some(schemas::PartnerMatch {
        partner: "Data House".into(),
        company_name: "X Works".into(),
        ..schemas::PartnerMatch::default()
    });
    in_every_state(stack, "imported", vec![known], |place, state| {
    place.query(
        "INSERT INTO {database}.contact_cards (site, contact, submitted_at, source_name, email, phone, job_title) VALUES \
         ('shop', 'a@x.example', '2026-03-11 00:00:00', 'fair 2026', 'a@x.example', '2', 'Buyer')",
    );
    let question =
        "SELECT name, name_source, phone, phone_source, job_title, company, company_source FROM {database}.contacts";
    assert_eq!(place.query(question), "A\tform\t2\timport\tBuyer\tX Works\tpartner", "{state}");
    let source = "SELECT source, source_name FROM {database}.contact_history WHERE field IN ('job_title', 'company') ORDER BY source";
    assert_eq!(lines(&place.query(source)), ["import\tfair 2026", "partner\tData House"], "{state}");
    })
    .await;
}

/// Of decisions that lead in a circle the oldest is passed over: all are one person, and always the same.
#[tokio::test]
async fn merges_in_a_circle_end_where_the_newest_decision_says() {
    let Some(stack) = local::database_or_skip("merges_in_a_circle_end_where_the_newest_decision_says") else { return };
    let place = Place::migrated(stack, "circles").await;
    place
        .load(&[
            form(1, "one", 0, ["A", "a@x.example", ""]),
            form(2, "two", HOUR, ["B", "b@x.example", ""]),
            form(3, "three", 2 * HOUR, ["C", "c@x.example", ""]),
            form(4, "four", 3 * HOUR, ["D", "d@x.example", ""]),
        ])
        .await;
    let merge = |contact: &str, into: &str, day: u8| {
        place.query(&format!(
            "INSERT INTO {{database}}.contact_merges (site, contact, merged_into, decided_at) \
             VALUES ('shop', '{contact}@x.example', '{into}@x.example', '2026-03-{day} 00:00:00')"
        ));
        place.refresh("settle_merges");
    };
    let contacts = || {
        place.query(
            "SELECT arrayStringConcat(arrayMap(email -> substring(email, 1, 1), arrayConcat([contact], emails))) \
             FROM {database}.contacts ORDER BY contact",
        )
    };
    merge("a", "b", 11);
    assert_eq!(lines(&contacts()), ["bab", "cc", "dd"]);
    merge("b", "a", 12);
    assert_eq!(lines(&contacts()), ["aab", "cc", "dd"]);
    // Whoever leads into the circle is of it.
    merge("d", "b", 12);
    assert_eq!(lines(&contacts()), ["aabd", "cc"]);
    // Three: A into B is now the newest, C into A the oldest.
    merge("c", "a", 10);
    merge("b", "c", 13);
    merge("a", "b", 14);
    assert_eq!(contacts(), "cabcd");
    let visitors = "SELECT DISTINCT contact FROM {database}.contact_visitors";
    assert_eq!(place.query(visitors), "c@x.example");
    // A contact that is merged into itself is itself.
    merge("c", "c", 15);
    assert_eq!(contacts(), "cabcd");
}

/// Where the form and the partner tell a company with one and the same hit, the person knows better.
#[tokio::test]
async fn a_person_is_believed_before_a_partner() {
    let Some(stack) = local::database_or_skip("a_person_is_believed_before_a_partner") else { return };
    let told = |number: u128, at: i64, by_person: &'static str, by_partner: &'static str| {
        let mut hit = form(number, "one", at, ["A", "a@x.example", ""]);
        hit.hit.contact.as_mut().unwrap().company = by_person.into();
        hit.partner = Some(schemas::PartnerMatch {
            partner: "Data House".into(),
            company_name: by_partner.into(),
            ..schemas::PartnerMatch::default()
        });
        hit
    };
    for (test, by_person, by_partner) in
        [("person_a", "Aa Ltd", "Zz Ltd"), ("person_z", "Zz Ltd", "Aa Ltd"), ("person_same", "Xx Ltd", "Xx Ltd")]
    {
        let place = Place::migrated(stack, test).await;
        place.load(&[told(1, 0, by_person, by_partner)]).await;
        let company = "SELECT company, company_source FROM {database}.contacts";
        assert_eq!(place.query(company), format!("{by_person}\tform"));
        // Who tell the same are one line.
        let history = "SELECT uniqExact(value), count() FROM {database}.contact_history WHERE field = 'company'";
        let values = if by_person == by_partner { 1 } else { 2 };
        assert_eq!(place.query(history), format!("{values}\t{values}"));
    }
}

/// Links by hand, links undone and merges reach what is said of companies and of files.
#[tokio::test]
async fn companies_and_files_know_the_contacts_that_are_linked_now() {
    let name = "companies_and_files_know_the_contacts_that_are_linked_now";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "linked").await;
    let mut file = crate::support::hit(schemas::Kind::Download, 3, "ben", MINUTE, "/");
    file.hit.target_url = "https://shop.example/a.pdf".into();
    place.load(&[page_view(1, "ben", 0, "/"), form(2, "cleo", 0, ["C", "cleo@mill.example", ""]), file]).await;
    let told = || {
        place.refresh("settle_employers");
        let companies = "SELECT company, evidence, contacts FROM {database}.companies ORDER BY company";
        let between = "SELECT company, evidence, contacts FROM {database}.companies_between(site = 'shop', \
                       first_day = '2026-03-10', last_day = '2026-03-10') ORDER BY company";
        let found = place.query(companies);
        assert_eq!(place.query(between), found);
        let of_visitors = "SELECT DISTINCT company FROM {database}.visitor_companies ORDER BY company";
        assert_eq!(place.query(of_visitors), place.query("SELECT company FROM {database}.companies ORDER BY company"));
        found
    };
    let link = |contact: &str, visitor: &str, is_linked: bool, hour: u8| {
        place.query(&format!(
            "INSERT INTO {{database}}.contact_links (site, contact, visitor_id, is_linked, linked_at) \
             VALUES ('shop', '{contact}', '{visitor}', {is_linked}, '2026-03-11 {hour}:00:00')"
        ));
    };
    let mill = "mill.example\t['contact_email']\t['cleo@mill.example']";
    assert_eq!(told(), mill);
    link("ben@steel.example", "ben", true, 10);
    assert_eq!(lines(&told()), [mill, "steel.example\t['contact_email']\t['ben@steel.example']"]);
    place.query("INSERT INTO {database}.contact_merges (site, contact, merged_into) VALUES ('shop', 'ben@steel.example', 'b@steel.example')");
    place.refresh("settle_merges");
    let steel = "steel.example\t['contact_email']\t['b@steel.example']";
    assert_eq!(lines(&told()), [mill, steel]);
    let files = || place.query("SELECT file_name, contacts FROM {database}.downloads");
    assert_eq!(files(), "a.pdf\t['b@steel.example']");
    link("cleo@mill.example", "cleo", false, 11);
    assert_eq!(told(), steel);
    link("ben@steel.example", "ben", false, 11);
    assert_eq!((told(), files()), (String::new(), "a.pdf\t[]".to_owned()));
}
