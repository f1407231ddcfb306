//! Interests and scores of contacts and companies.

use schemas::{Contact, EnrichedHit, Kind, PartnerMatch};

use crate::arrival::{ARRIVALS, DAY, MINUTE, arrived, lines};
use crate::support::{hit, page_view};

const RULES: [&str; 2] = [
    "INSERT INTO {database}.score_rules (site, rule, kind, url_pattern, points, cap) VALUES \
     ('shop', 'prices', 'page_view', '/prices', 10, 15), ('shop', 'form', 'form', '', 3, 0)",
    "INSERT INTO {database}.content_groups (site, content_group, url_patterns, half_life_days) VALUES \
     ('shop', 'Pumps', ['/pumps%'], 0), ('shop', 'Prices', ['/prices'], 0)",
];

fn from_network(
    mut hit: EnrichedHit<'static>,
    organisation: &'static str,
    domain: &'static str,
) -> EnrichedHit<'static> {
    (hit.network.organisation, hit.network.domain) = (organisation.into(), domain.into());
    hit
}

fn with_email(mut hit: EnrichedHit<'static>, email: &'static str) -> EnrichedHit<'static> {
    hit.hit.contact = Some(Contact { email: email.into(), ..Contact::default() });
    hit
}

/// Anna is known on two devices, Cleo's company by a partner. Ben is in the network of an internet provider.
fn visits() -> Vec<EnrichedHit<'static>> {
    let mut cleo = page_view(31, "cleo", 0, "/prices");
    cleo.partner = Some(PartnerMatch {
        partner: "Data House".into(),
        company_name: "Steel Limited".into(),
        company_domain: "steel.example".into(),
        ..PartnerMatch::default()
    });
    let ben = from_network(page_view(41, "ben", 0, "/prices"), "Example Telecom", "telecom.example");
    vec![
        page_view(1, "anna at work", 0, "/prices"),
        page_view(2, "anna at work", MINUTE, "/pumps"),
        with_email(hit(Kind::Form, 3, "anna at work", 2 * MINUTE, "/contact"), "Anna@Steel.example"),
        page_view(11, "anna at home", 0, "/prices"),
        page_view(12, "anna at home", MINUTE, "/pumps/steel"),
        page_view(13, "anna at home", 2 * MINUTE, "/pumps"),
        with_email(hit(Kind::Identify, 14, "anna at home", 3 * MINUTE, "/"), "anna@steel.example"),
        cleo,
        ben,
    ]
}

/// Anna: 2 x 10 for the prices, capped at 15 for all of her devices, and 3 for the form. Steel: 13 and 10 of Anna's devices,
/// each under its own cap, and 10 of Cleo.
#[tokio::test]
async fn contacts_and_companies_have_what_their_visitors_have() {
    let Some(stack) = local::database_or_skip("contacts_and_companies_have_what_their_visitors_have") else { return };
    for arrival in ARRIVALS {
        let place = arrived(stack, "people", arrival, visits()).await;
        RULES.iter().for_each(|sql| drop(place.query(sql)));
        let companies =
            "SELECT visitor_id, company, told_by FROM {database}.visitor_companies WHERE site = 'shop' ORDER BY 1";
        let expected = [
            "anna at home\tsteel.example\tcontact_email",
            "anna at work\tsteel.example\tcontact_email",
            "ben\ttelecom.example\tnetwork",
            "cleo\tsteel.example\tpartner",
        ];
        assert_eq!(lines(&place, companies), expected, "{arrival:?}");

        let scores = "SELECT contact, score, parts, visitors FROM {database}.contact_lead_scores WHERE site = 'shop'";
        assert_eq!(lines(&place, scores), ["anna@steel.example\t18\t[('prices',15),('form',3)]\t2"], "{arrival:?}");
        let interests = "SELECT contact, content_group, score, share, page_views FROM {database}.contact_interests \
                         WHERE site = 'shop' ORDER BY content_group";
        let expected = ["anna@steel.example\tPrices\t2\t0.4\t2", "anna@steel.example\tPumps\t3\t0.6\t3"];
        assert_eq!(lines(&place, interests), expected, "{arrival:?}");

        let scores = "SELECT company, company_name, score, best_score, best_visitor_id, visitors \
                      FROM {database}.company_lead_scores WHERE site = 'shop'";
        assert_eq!(lines(&place, scores), ["steel.example\tSteel Limited\t33\t13\tanna at work\t3"], "{arrival:?}");
        let interests = "SELECT company, content_group, score, share, visitors, page_views FROM {database}.company_interests \
                         WHERE site = 'shop' ORDER BY content_group";
        let expected = ["steel.example\tPrices\t3\t0.5\t3\t3", "steel.example\tPumps\t3\t0.5\t2\t3"];
        assert_eq!(lines(&place, interests), expected, "{arrival:?}");

        let of_days = |first: &str, last: &str| {
            lines(
                &place,
                &format!(
                    "SELECT company, company_name, content_group, score, share, visitors, page_views, first_day, last_day \
                     FROM {{database}}.company_interests_between(site = 'shop', first_day = '{first}', last_day = '{last}') \
                     ORDER BY content_group"
                ),
            )
        };
        let expected = [
            "steel.example\tSteel Limited\tPrices\t3\t0.5\t3\t3\t2026-03-10\t2026-03-10",
            "steel.example\tSteel Limited\tPumps\t3\t0.5\t2\t3\t2026-03-10\t2026-03-10",
        ];
        assert_eq!(of_days("2026-03-10", "2026-03-10"), expected, "{arrival:?}");
        assert!(of_days("2026-03-01", "2026-03-09").is_empty(), "{arrival:?}");
        assert!(of_days("2026-03-11", "2026-03-31").is_empty(), "{arrival:?}");

        // She is parted from the device at home, which counts for what was done before, too: at once, for companies in a minute.
        place.query("INSERT INTO {database}.contact_links (site, contact, visitor_id, is_linked, evidence) VALUES ('shop', 'anna@steel.example', 'anna at home', false, 'by hand')");
        let scores = "SELECT contact, score, visitors FROM {database}.contact_lead_scores WHERE site = 'shop'";
        assert_eq!(lines(&place, scores), ["anna@steel.example\t13\t1"], "{arrival:?}");
        place.refresh("settle_employers");
        let company = "SELECT score, visitors FROM {database}.company_lead_scores WHERE site = 'shop'";
        assert_eq!(lines(&place, company), ["23\t2"], "{arrival:?}");
    }
}

/// Of those who come through a provider, Kim alone gives an address of the provider's: what the others did is not the
/// provider's, as a company. Dora is of the mill, where she was once.
#[tokio::test]
async fn whom_a_provider_connects_is_not_of_it() {
    let Some(stack) = local::database_or_skip("whom_a_provider_connects_is_not_of_it") else { return };
    let through_telecom = |hit| from_network(hit, "Example Telecom", "telecom.example");
    let hits = vec![
        through_telecom(page_view(1, "ben", 0, "/prices")),
        through_telecom(page_view(2, "emil", 0, "/prices")),
        through_telecom(page_view(3, "dora", 0, "/prices")),
        from_network(page_view(4, "dora", -DAY, "/pumps"), "Mill Works", "mill.example"),
        through_telecom(page_view(5, "kim", 0, "/pumps")),
        through_telecom(with_email(hit(Kind::Form, 6, "kim", MINUTE, "/contact"), "kim@telecom.example")),
    ];
    for arrival in ARRIVALS {
        let place = arrived(stack, "connected", arrival, hits.clone()).await;
        RULES.iter().for_each(|sql| drop(place.query(sql)));
        let companies = "SELECT visitor_id, company, told_by, is_provider FROM {database}.visitor_companies ORDER BY 1";
        let expected = [
            "ben\ttelecom.example\tnetwork\ttrue",
            "dora\tmill.example\tnetwork\tfalse",
            "emil\ttelecom.example\tnetwork\ttrue",
            "kim\ttelecom.example\tcontact_email\tfalse",
        ];
        assert_eq!(lines(&place, companies), expected, "{arrival:?}");
        let days = "first_day = '2026-03-01', last_day = '2026-03-31'";
        let expected = ["mill.example\tfalse\t1", "telecom.example\tfalse\t1", "telecom.example\ttrue\t3"];
        for view in ["companies", &format!("companies_between(site = 'shop', {days})")] {
            let companies = format!("SELECT company, is_provider, visitors FROM {{database}}.{view} ORDER BY ALL");
            assert_eq!(lines(&place, &companies), expected, "{arrival:?}");
        }
        let visits = format!(
            "SELECT visitor_id, is_provider FROM {{database}}.company_sessions(site = 'shop', company = 'telecom.example', {days}) ORDER BY ALL"
        );
        let expected = ["ben\ttrue", "dora\ttrue", "emil\ttrue", "kim\tfalse"];
        assert_eq!(lines(&place, &visits), expected, "{arrival:?}");
        let scores = "SELECT company, score, best_visitor_id, visitors FROM {database}.company_lead_scores ORDER BY 1";
        assert_eq!(lines(&place, scores), ["mill.example\t10\tdora\t1", "telecom.example\t3\tkim\t1"], "{arrival:?}");
        let columns = "company, content_group, share, visitors, page_views";
        let expected =
            ["mill.example\tPrices\t0.5\t1\t1", "mill.example\tPumps\t0.5\t1\t1", "telecom.example\tPumps\t1\t1\t1"];
        for view in ["company_interests", &format!("company_interests_between(site = 'shop', {days})")] {
            let interests = format!("SELECT {columns} FROM {{database}}.{view} ORDER BY company, content_group");
            assert_eq!(lines(&place, &interests), expected, "{arrival:?}");
        }
    }
}
