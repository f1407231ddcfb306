//! Companies: by what they are known, and how far that is to be believed.

use schemas::{EnrichedHit, PartnerMatch, VisitorIdSource};

use crate::states::{DAY, HOUR, form, in_every_state, in_session, lines};
use crate::support::page_view;

fn from_network(
    mut hit: EnrichedHit<'static>,
    organisation: &'static str,
    domain: &'static str,
) -> EnrichedHit<'static> {
    hit.network.organisation = organisation.into();
    hit.network.domain = domain.into();
    hit
}

fn known_by(mut hit: EnrichedHit<'static>, matched_by: &'static str) -> EnrichedHit<'static> {
    hit.partner = Some(PartnerMatch {
        partner: "Data House".into(),
        matched_by: matched_by.into(),
        company_name: "Steel Limited".into(),
        company_domain: "steel.example".into(),
        ..PartnerMatch::default()
    });
    hit
}

/// Steel: Anna by her address, also for her visit on the day before she gave it; Cleo by a partner; somebody who is not
/// named by the same partner. Ben comes through a provider, Dora through the network of a mill.
fn visits() -> Vec<EnrichedHit<'static>> {
    let telecom = |hit| from_network(hit, "Example Telecom AG", "telecom.example");
    let mut nobody = known_by(page_view(6, "", 3 * HOUR, "/"), "ip_range");
    nobody.hit.visitor_id_source = VisitorIdSource::None;
    vec![
        telecom(in_session(page_view(1, "anna", -DAY, "/"), 0xa1)),
        telecom(in_session(form(2, "anna", 0, ["Anna", "anna@mail.steel.example", ""]), 0xa2)),
        in_session(known_by(page_view(3, "cleo", HOUR, "/"), "ip_range"), 0xc1),
        telecom(in_session(form(4, "ben", 0, ["Ben", "ben@gmail.com", ""]), 0xb1)),
        from_network(in_session(page_view(5, "dora", 2 * HOUR, "/"), 0xd1), "Mill Works GmbH", ""),
        nobody,
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
        // The ninth of March alone.
        let of_a_day = "SELECT company, visitors, sessions, page_views FROM \
                        {database}.companies_between(site = 'shop', first_day = '2026-03-09', last_day = '2026-03-09')";
        assert_eq!(place.query(of_a_day), "steel.example\t1\t1\t1", "{state}");
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
