//! Companies: by what they are known, and how far that is to be believed.

use schemas::{EnrichedHit, Kind, Map, PartnerMatch};

use crate::states::{DAY, HOUR, MINUTE, form, in_every_state, in_session, lines, visible};
use crate::support::{hit, page_view, unnamed};

fn from_network(
    mut hit: EnrichedHit<'static>,
    organisation: &'static str,
    domain: &'static str,
) -> EnrichedHit<'static> {
    hit.network.organisation = organisation.into();
    hit.network.domain = domain.into();
    hit
}

fn matched(mut hit: EnrichedHit<'static>, partner: PartnerMatch<'static>) -> EnrichedHit<'static> {
    hit.partner = Some(partner);
    hit
}

fn known_by(hit: EnrichedHit<'static>, matched_by: &'static str) -> EnrichedHit<'static> {
    let steel = PartnerMatch {
        partner: "Data House".into(),
        matched_by: matched_by.into(),
        company_name: "Steel Limited".into(),
        company_domain: "steel.example".into(),
        ..PartnerMatch::default()
    };
    matched(hit, steel)
}

/// Steel: Anna by her address, also for her visit on the day before she gave it; Cleo by a partner; somebody who is not
/// named by the same partner. Ben comes through a provider, Dora through the network of a mill.
fn visits() -> Vec<EnrichedHit<'static>> {
    let telecom = |hit| from_network(hit, "Example Telecom AG", "telecom.example");
    vec![
        telecom(in_session(page_view(1, "anna", -DAY, "/"), 0xa1)),
        telecom(in_session(form(2, "anna", 0, ["Anna", "anna@mail.steel.example", ""]), 0xa2)),
        in_session(known_by(page_view(3, "cleo", HOUR, "/"), "ip_range"), 0xc1),
        telecom(in_session(form(4, "ben", 0, ["Ben", "ben@gmail.com", ""]), 0xb1)),
        from_network(in_session(page_view(5, "dora", 2 * HOUR, "/"), 0xd1), "Mill Works GmbH", ""),
        unnamed(known_by(page_view(6, "", 3 * HOUR, "/"), "ip_range")),
    ]
}

#[tokio::test]
async fn the_evidence_is_weighed_and_providers_are_marked() {
    let Some(stack) = local::database_or_skip("the_evidence_is_weighed_and_providers_are_marked") else { return };
    in_every_state(stack, "evidence", visits(), |place, state| {
        let columns = "company, company_name, evidence, confidence, is_provider, days, is_returning, visitors, sessions, page_views, contacts, last_seen";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.companies WHERE site = 'shop' ORDER BY company"));
        let expected = [
            "mill works gmbh\tMill Works GmbH\t['network']\t50\tfalse\t1\tfalse\t1\t1\t1\t[]\t2026-03-10 14:00:00.000",
            // Two visits of Anna, one of Cleo, and a page view of nobody.
            "steel.example\tSteel Limited\t['partner','contact_email']\t80\tfalse\t2\ttrue\t2\t3\t3\t['anna@mail.steel.example']\t2026-03-10 15:00:00.000",
            "telecom.example\tExample Telecom AG\t['network']\t5\ttrue\t1\tfalse\t1\t1\t0\t['ben@gmail.com']\t2026-03-10 12:00:00.000",
        ];
        assert_eq!(lines(&found), expected, "{state}");
        // Each of these visits is found again under its company.
        let visits = |company: &str| {
            place.query(&format!(
                "SELECT visitor_id, day, told_by FROM {{database}}.company_sessions(site = 'shop', company = '{company}', \
                 first_day = '2026-03-01', last_day = '2026-03-31') ORDER BY started_at, visitor_id"
            ))
        };
        let of_steel = [
            "anna\t2026-03-09\tcontact_email",
            "anna\t2026-03-10\tcontact_email",
            "cleo\t2026-03-10\tpartner",
        ];
        assert_eq!(lines(&visits("steel.example")), of_steel, "{state}");
        assert_eq!(visits("mill works gmbh"), "dora\t2026-03-10\tnetwork", "{state}");
        assert_eq!(visits("telecom.example"), "ben\t2026-03-10\tnetwork", "{state}");
        // The ninth of March alone.
        let of_a_day = "SELECT company, visitors, sessions, page_views FROM \
                        {database}.companies_between(site = 'shop', first_day = '2026-03-09', last_day = '2026-03-09')";
        assert_eq!(place.query(of_a_day), "steel.example\t1\t1\t1", "{state}");
    })
    .await;
}

/// Somebody of whom nothing may be kept views a page over midnight, goes on from another network, and takes a file along.
#[tokio::test]
async fn what_names_nobody_is_counted_page_by_page() {
    let name = "what_names_nobody_is_counted_page_by_page";
    let Some(stack) = local::database_or_skip(name) else { return };
    let of_view = |mut hit: EnrichedHit<'static>, view: u128| {
        hit.hit.page_view_id = Some(uuid::Uuid::from_u128(view));
        unnamed(hit)
    };
    let mill = |hit| from_network(hit, "Mill Works GmbH", "mill.example");
    let steel = |hit| from_network(hit, "Steel Limited", "steel.example");
    let midnight = 12 * HOUR;
    let hits = vec![
        unnamed(mill(page_view(1, "", midnight - MINUTE, "/"))),
        unnamed(mill(visible(2, "", midnight - 30_000, 1, 30_000))),
        unnamed(steel(visible(3, "", midnight + 30_000, 1, 90_000))),
        of_view(steel(hit(Kind::Download, 4, "", midnight + MINUTE, "/")), 1),
        // Of no network that is known: what was known before counts.
        unnamed(visible(5, "", midnight + 2 * MINUTE, 1, 80_000)),
        // Of no page view.
        unnamed(mill(hit(Kind::Form, 6, "", midnight + HOUR, "/"))),
    ];
    in_every_state(stack, "unnamed", hits, |place, state| {
        // Imports are of no visitor either, who becomes nobody that is known by that.
        place.query("INSERT INTO {database}.contact_cards (site, contact, name) VALUES ('shop', 'eva@example.org', 'Eva')");
        let columns = "company, visitors, sessions, page_views, visible_duration_ms, downloads, forms, first_seen, last_seen";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.companies WHERE site = 'shop' ORDER BY company"));
        let steel = "steel.example\t0\t0\t1\t90000\t1\t0\t2026-03-10 23:59:00.000\t2026-03-11 00:02:00.000";
        let mill = "mill.example\t0\t0\t0\t0\t0\t1\t2026-03-11 01:00:00.000\t2026-03-11 01:00:00.000";
        assert_eq!(lines(&found), [mill, steel], "{state}");
        let of_day = |day: &str| {
            place.query(&format!(
                "SELECT {columns} FROM {{database}}.companies_between(site = 'shop', first_day = '{day}', last_day = '{day}')"
            ))
        };
        assert_eq!([of_day("2026-03-10"), of_day("2026-03-11")], [steel, mill], "{state}");
        let pages = "SELECT day, page_path, views, visitors, total_visible_ms FROM {database}.page_days";
        assert_eq!(place.query(pages), "2026-03-10\t/\t1\t0\t90000", "{state}");
    })
    .await;
}

/// A page view that goes on from another network is of the company that a partner told last, with all that was told with it.
#[tokio::test]
async fn a_view_in_two_networks_is_of_the_company_that_was_told_last() {
    let name = "a_view_in_two_networks_is_of_the_company_that_was_told_last";
    let Some(stack) = local::database_or_skip(name) else { return };
    let mill = PartnerMatch {
        partner: "Mill Data".into(),
        matched_by: "ip_range".into(),
        company_name: "Mill Works".into(),
        ..PartnerMatch::default()
    };
    let steel = |hit| unnamed(from_network(known_by(hit, "ip_range"), "Steel Limited", "steel.example"));
    let hits = vec![
        steel(page_view(1, "", 0, "/")),
        unnamed(matched(visible(2, "", MINUTE, 1, 60_000), mill)),
        unnamed(from_network(visible(3, "", 2 * MINUTE, 1, 90_000), "Example Telecom AG", "telecom.example")),
    ];
    in_every_state(stack, "two_networks", hits, |place, state| {
        let columns = "company, company_name, partner, page_views, visible_duration_ms";
        let of_companies = format!("SELECT {columns} FROM {{database}}.companies");
        assert_eq!(place.query(&of_companies), "mill works\tMill Works\tMill Data\t1\t90000", "{state}");
        let columns = "company_name, company_domain, network_organisation, partner, partner_matched_by";
        let of_encounters = format!("SELECT {columns} FROM {{database}}.encounters");
        assert_eq!(place.query(&of_encounters), "Mill Works\t\t\tMill Data\tip_range", "{state}");
    })
    .await;
}

/// What tells a company is kept as one text: whatever a partner writes, each part comes out of it as it went in, and a zero
/// byte, which parts them, as a space.
#[tokio::test]
async fn names_of_any_bytes_do_not_run_into_each_other() {
    let name = "names_of_any_bytes_do_not_run_into_each_other";
    let Some(stack) = local::database_or_skip(name) else { return };
    let partner = PartnerMatch {
        partner: "Data\0House".into(),
        company_name: "Stahl & \"S\u{f6}hne\",\0'GmbH'\\".into(),
        attributes: Map(vec![("a\0key".into(), "{\"a\": 'value\0'}".into()), ("none".into(), "".into())]),
        ..PartnerMatch::default()
    };
    let known = |hit| from_network(matched(hit, partner.clone()), "Example\tTelecom", "");
    let hits = vec![known(page_view(1, "anna", 0, "/")), unnamed(known(page_view(2, "", MINUTE, "/")))];
    in_every_state(stack, "bytes", hits, |place, state| {
        let found = place.query(
            "SELECT company, company_name, company_domain, partner, partner_attributes['a\\0key'], length(partner_attributes), \
             page_views FROM {database}.companies FORMAT JSONCompactEachRow",
        );
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let company = "Stahl & \"S\u{f6}hne\", 'GmbH'\\";
        let expected = serde_json::json!([company.to_lowercase(), company, "", "Data House", "{\"a\": 'value\0'}", 2, 2]);
        assert_eq!(found, expected, "{state}");
    })
    .await;
}

/// The tab sleeps over the weekend: what it tells on Monday is of the view on Friday, and of no other day.
#[tokio::test]
async fn a_view_that_sleeps_is_of_the_day_on_which_it_began() {
    let name = "a_view_that_sleeps_is_of_the_day_on_which_it_began";
    let Some(stack) = local::database_or_skip(name) else { return };
    let mill = |hit| from_network(hit, "Mill Works GmbH", "mill.example");
    let hits = vec![
        unnamed(mill(page_view(1, "", 0, "/"))),
        page_view(2, "anna", 0, "/"),
        unnamed(mill(visible(3, "", MINUTE, 1, 60_000))),
        page_view(4, "anna", MINUTE, "/"),
        unnamed(mill(visible(5, "", 3 * DAY, 1, 90_000))),
    ];
    in_every_state(stack, "sleeping", hits, |place, state| {
        let of_days = |first: &str, last: &str| {
            place.query(&format!(
                "SELECT page_views, visible_duration_ms, first_seen, last_seen FROM \
                 {{database}}.companies_between(site = 'shop', first_day = '2026-03-{first}', last_day = '2026-03-{last}')"
            ))
        };
        let view = "1\t90000\t2026-03-10 12:00:00.000\t2026-03-13 12:00:00.000";
        assert_eq!([of_days("10", "10"), of_days("10", "13")], [view, view], "{state}");
        assert_eq!([of_days("11", "12"), of_days("13", "13"), of_days("12", "14")], ["", "", ""], "{state}");
    })
    .await;
}

#[tokio::test]
async fn people_put_right_what_a_name_does_not_tell() {
    let Some(stack) = local::database_or_skip("people_put_right_what_a_name_does_not_tell") else { return };
    in_every_state(stack, "network_kinds", visits(), |place, state| {
        place.query("INSERT INTO {database}.network_kinds (network, is_provider) VALUES ('mill works gmbh', true), ('telecom.example', false)");
        let found = place.query("SELECT company, confidence, is_provider FROM {database}.companies WHERE evidence = ['network'] ORDER BY company");
        assert_eq!(lines(&found), ["mill works gmbh\t5\ttrue", "telecom.example\t50\tfalse"], "{state}");
    })
    .await;
}

/// Dora is of the mill in whose network she was, also after a visit from home; Cleo of the company that a partner knows her
/// by herself, also after one from a customer's network.
#[tokio::test]
async fn a_visitor_is_of_the_company_that_is_best_known() {
    let Some(stack) = local::database_or_skip("a_visitor_is_of_the_company_that_is_best_known") else { return };
    let telecom = |hit| from_network(hit, "Example Telecom AG", "telecom.example");
    let mut at_customer = known_by(page_view(4, "cleo", DAY, "/"), "ip_range");
    at_customer.partner.as_mut().unwrap().company_domain = "customer.example".into();
    let hits = vec![
        from_network(in_session(page_view(1, "dora", 0, "/"), 0xd1), "Mill Works GmbH", ""),
        telecom(in_session(page_view(2, "dora", DAY, "/"), 0xd2)),
        in_session(known_by(page_view(3, "cleo", 0, "/"), "email_hash"), 0xc1),
        in_session(at_customer, 0xc2),
        telecom(in_session(page_view(5, "emil", 0, "/"), 0xe1)),
    ];
    in_every_state(stack, "best_known", hits, |place, state| {
        let found = place.query("SELECT visitor_id, company, told_by FROM {database}.visitor_companies ORDER BY 1");
        let expected =
            ["cleo\tsteel.example\tpartner", "dora\tmill works gmbh\tnetwork", "emil\ttelecom.example\tnetwork"];
        assert_eq!(lines(&found), expected, "{state}");
        // Who says that the mill's network is a provider's, says that it is no better than the other.
        place.query("INSERT INTO {database}.network_kinds (network, is_provider) VALUES ('mill works gmbh', true)");
        let dora = "SELECT company FROM {database}.visitor_companies WHERE visitor_id = 'dora'";
        assert_eq!(place.query(dora), "telecom.example", "{state}");
        place.query("TRUNCATE TABLE {database}.network_kinds");
    })
    .await;
}

/// A name in capitals is the same name, also where it is no English one.
#[tokio::test]
async fn a_name_in_capitals_is_the_same_company() {
    let Some(stack) = local::database_or_skip("a_name_in_capitals_is_the_same_company") else { return };
    let hits = vec![
        from_network(in_session(page_view(1, "hans", 0, "/"), 0xf1), "MÜLLER SÖHNE", ""),
        from_network(in_session(page_view(2, "ida", 0, "/"), 0xf2), "Müller Söhne", ""),
    ];
    in_every_state(stack, "capitals", hits, |place, state| {
        let days = "first_day = '2026-03-10', last_day = '2026-03-10'";
        for view in ["companies", &format!("companies_between(site = 'shop', {days})")] {
            let found = place.query(&format!("SELECT company, visitors FROM {{database}}.{view}"));
            assert_eq!(found, "müller söhne\t2", "{state}");
        }
        let found = place.query("SELECT company, count() FROM {database}.visitor_companies GROUP BY company");
        assert_eq!(found, "müller söhne\t2", "{state}");
        let visits = format!("SELECT visitor_id FROM {{database}}.company_sessions(site = 'shop', company = 'müller söhne', {days}) ORDER BY 1");
        assert_eq!(lines(&place.query(&visits)), ["hans", "ida"], "{state}");
    })
    .await;
}

/// Fred only opened mails, at the mill and at home. Where Gina visited tells more than where her mail was opened later.
#[tokio::test]
async fn who_only_opens_mails_is_of_a_company_too() {
    let Some(stack) = local::database_or_skip("who_only_opens_mails_is_of_a_company_too") else { return };
    let mail = |number: u128, visitor: &'static str, at: i64| hit(Kind::MailOpen, number, visitor, at, "");
    let mill = |hit| from_network(hit, "Mill Works GmbH", "mill.example");
    let hits = vec![
        mill(mail(1, "fred", 0)),
        from_network(mail(2, "fred", HOUR), "Example Telecom AG", "telecom.example"),
        from_network(in_session(page_view(3, "gina", 0, "/"), 0xf1), "Pump Works", "pump.example"),
        from_network(mail(4, "gina", HOUR), "Relay Limited", "relay.example"),
        unnamed(mill(page_view(5, "", 0, "/"))),
    ];
    in_every_state(stack, "mails", hits, |place, state| {
        let found = place
            .query("SELECT visitor_id, company, told_by, is_provider FROM {database}.visitor_companies ORDER BY 1");
        let expected = ["fred\tmill.example\tnetwork\tfalse", "gina\tpump.example\tnetwork\tfalse"];
        assert_eq!(lines(&found), expected, "{state}");
    })
    .await;
}
