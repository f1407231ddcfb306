//! The analysts' views, against values worked out by hand.

use schemas::{Contact, EnrichedHit, Kind, PartnerMatch, Signal, SourceKind, VisitorIdSource};
use uuid::Uuid;

use crate::support::{Place, hit, page_view, unnamed};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn in_session(mut hit: EnrichedHit<'static>, session: u128) -> EnrichedHit<'static> {
    hit.hit.session_id = Some(Uuid::from_u128(session));
    hit
}

/// A hit that tells how long a page view was visible so far.
fn visible(number: u128, visitor: &'static str, at: i64, view: u128, milliseconds: i64) -> EnrichedHit<'static> {
    let mut hit = hit(Kind::Heartbeat, number, visitor, at, "/");
    hit.hit.page_view_id = Some(Uuid::from_u128(view));
    hit.hit.duration_ms = Some(milliseconds);
    hit
}

fn from_source(mut hit: EnrichedHit<'static>, kind: SourceKind, name: &'static str) -> EnrichedHit<'static> {
    hit.source.kind = kind;
    hit.source.name = name.into();
    hit
}

fn with_email(mut hit: EnrichedHit<'static>, email: &'static str) -> EnrichedHit<'static> {
    hit.hit.contact = Some(Contact { email: email.into(), ..Contact::default() });
    hit
}

/// Anna: comes from a search engine at noon, looks at two pages, downloads a file, submits a form; one hour later she
/// comes back for one page, from a campaign. Her hits have session ids.
fn anna() -> Vec<EnrichedHit<'static>> {
    let first = 0xa1;
    let mut download = hit(Kind::Download, 103, "anna", 70_000, "/pumps");
    download.hit.target_url = "https://shop.example/files/Data%20sheet.pdf?v=2".into();
    let mut form = with_email(hit(Kind::Form, 104, "anna", 80_000, "/contact"), "Anna@Mail.Steel.Example");
    if let Some(contact) = &mut form.hit.contact {
        contact.name = "Anna Berg".into();
        contact.company = "Steel Ltd".into();
    }
    let mut entry = from_source(page_view(101, "anna", 0, "/"), SourceKind::Search, "Google");
    entry.place.country = "DE".into();
    entry.place.city = "Essen".into();
    let mut return_visit = from_source(page_view(105, "anna", HOUR, "/prices"), SourceKind::Campaign, "Newsletter");
    return_visit.campaign.name = "spring".into();
    vec![
        in_session(entry, first),
        in_session(visible(111, "anna", 15_000, 101, 15_000), first),
        in_session(visible(112, "anna", 20_000, 101, 20_000), first),
        in_session(from_source(page_view(102, "anna", 20_000, "/pumps"), SourceKind::Internal, ""), first),
        in_session(visible(113, "anna", 65_000, 102, 45_000), first),
        in_session(download, first),
        in_session(form, first),
        in_session(return_visit, 0xa2),
    ]
}

/// A robot that has the same session and a visitor of its own.
fn robot() -> EnrichedHit<'static> {
    let mut robot = in_session(page_view(900, "robot", 5_000, "/"), 0xb0);
    robot.is_bot = true;
    robot.bot_name = "Examplebot".into();
    robot
}

/// All of it out of order, and each hit twice, in a block of its own.
async fn insert_twice_and_backwards(place: &Place, mut hits: Vec<EnrichedHit<'static>>) {
    place.load(&hits).await;
    hits.reverse();
    place.load(&hits).await;
}

#[tokio::test]
async fn a_session_tells_what_happened_in_it() {
    let Some(stack) = local::database_or_skip("a_session_tells_what_happened_in_it") else { return };
    let place = Place::migrated(stack, "sessions").await;
    insert_twice_and_backwards(&place, [anna(), vec![robot()]].concat()).await;
    let columns = "session_id_source, visitor_id, started_at, ended_at, visible_duration_ms, page_views, events, \
                   downloads, forms, is_bounce, entry_page, exit_page, source_kind, source_name, campaign_name, \
                   country, city, contact_name, contact_email";
    // Visible: 20 s of the first page, the larger of its two heartbeats, and 45 s of the second.
    let first = "given\tanna\t2026-03-10 12:00:00.000\t2026-03-10 12:01:20.000\t65000\t2\t2\t1\t1\tfalse\t\
                 shop.example/\tshop.example/pumps\tsearch\tGoogle\t\tDE\tEssen\tAnna Berg\tAnna@Mail.Steel.Example";
    let second = "given\tanna\t2026-03-10 13:00:00.000\t2026-03-10 13:00:00.000\t0\t1\t0\t0\t0\ttrue\t\
                  shop.example/prices\tshop.example/prices\tcampaign\tNewsletter\tspring\t\t\t\t";
    let found = place.query(&format!("SELECT {columns} FROM {{database}}.sessions ORDER BY started_at"));
    assert_eq!(found.lines().collect::<Vec<_>>(), [first, second]);
}

#[tokio::test]
async fn a_visitor_is_all_of_their_sessions() {
    let Some(stack) = local::database_or_skip("a_visitor_is_all_of_their_sessions") else { return };
    let place = Place::migrated(stack, "visitors").await;
    let mut mail = hit(Kind::MailOpen, 120, "anna", -HOUR, "");
    mail.page.host = "".into();
    insert_twice_and_backwards(&place, [anna(), vec![robot(), mail]].concat()).await;
    let columns = "visitor_id, is_anonymous, first_seen, last_seen, sessions, page_views, visible_duration_ms, \
                   downloads, forms, mail_opens, first_source_name, last_source_name, last_campaign_name, country, \
                   contact_name, contact_email, contact_company";
    let expected = "anna\tfalse\t2026-03-10 11:00:00.000\t2026-03-10 13:00:00.000\t2\t3\t65000\t1\t1\t1\tGoogle\t\
                    Newsletter\tspring\tDE\tAnna Berg\tAnna@Mail.Steel.Example\tSteel Ltd";
    assert_eq!(place.query(&format!("SELECT {columns} FROM {{database}}.visitors")), expected);
}

/// Hits without session ids: a gap of 30 minutes is one session, a longer one makes two; midnight is no border; another
/// visitor's hits and another site's are others.
#[tokio::test]
async fn sessions_are_computed_from_gaps_where_none_are_given() {
    let Some(stack) = local::database_or_skip("sessions_are_computed_from_gaps_where_none_are_given") else { return };
    let place = Place::migrated(stack, "gaps").await;
    let midnight = 12 * HOUR;
    let mut other_site = page_view(207, "ben", midnight, "/");
    other_site.hit.site = "blog".into();
    let hits = vec![
        page_view(201, "ben", midnight - 40 * MINUTE, "/a"),
        page_view(202, "ben", midnight - 10 * MINUTE, "/b"),
        page_view(203, "ben", midnight + 20 * MINUTE, "/c"),
        page_view(204, "ben", midnight + 50 * MINUTE + 1, "/d"),
        page_view(206, "cleo", midnight, "/"),
        other_site,
        unnamed(page_view(209, "", midnight, "/")),
    ];
    insert_twice_and_backwards(&place, hits).await;
    let columns = "site, visitor_id, session_id_source, started_at, page_views, entry_page, exit_page";
    let found =
        place.query(&format!("SELECT {columns} FROM {{database}}.sessions ORDER BY site, visitor_id, started_at"));
    let expected = [
        "blog\tben\tcomputed\t2026-03-11 00:00:00.000\t1\tshop.example/\tshop.example/",
        "shop\tben\tcomputed\t2026-03-10 23:20:00.000\t3\tshop.example/a\tshop.example/c",
        "shop\tben\tcomputed\t2026-03-11 00:50:00.001\t1\tshop.example/d\tshop.example/d",
        "shop\tcleo\tcomputed\t2026-03-11 00:00:00.000\t1\tshop.example/\tshop.example/",
    ];
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    // Nobody's page view is counted as a view of the page all the same.
    assert_eq!(
        place.query("SELECT views, visitors FROM {database}.pages WHERE page_path = '/' AND site = 'shop'"),
        "2\t1"
    );
}

/// What comes after it leaves a computed session its name.
#[tokio::test]
async fn a_computed_session_keeps_its_id_when_it_grows() {
    let Some(stack) = local::database_or_skip("a_computed_session_keeps_its_id_when_it_grows") else { return };
    let place = Place::migrated(stack, "growing").await;
    place.load(&[page_view(1, "ben", 0, "/")]).await;
    let id = "SELECT session_id FROM {database}.sessions";
    let before = place.query(id);
    place.load(&[page_view(2, "ben", MINUTE, "/a"), hit(Kind::Heartbeat, 3, "ben", 2 * MINUTE, "/a")]).await;
    assert_eq!(place.query(id), before);
    assert_eq!(place.query("SELECT page_views, events FROM {database}.sessions"), "2\t0");
}

#[tokio::test]
async fn anonymous_visitors_are_marked() {
    let Some(stack) = local::database_or_skip("anonymous_visitors_are_marked") else { return };
    let place = Place::migrated(stack, "anonymous").await;
    let mut anonymous = page_view(1, "a hash of the day", 0, "/");
    anonymous.hit.visitor_id_source = VisitorIdSource::DailyHash;
    anonymous.hit.signal = Signal::GlobalPrivacyControl;
    place.load(&[anonymous, page_view(2, "ben", 0, "/")]).await;
    for view in ["sessions", "visitors"] {
        let sql = format!("SELECT visitor_id, is_anonymous FROM {{database}}.{view} ORDER BY visitor_id");
        assert_eq!(place.query(&sql), "a hash of the day\ttrue\nben\tfalse", "{view}");
    }
}

#[tokio::test]
async fn pages_know_how_long_they_were_visible() {
    let Some(stack) = local::database_or_skip("pages_know_how_long_they_were_visible") else { return };
    let place = Place::migrated(stack, "pages").await;
    let mut titled = page_view(301, "ben", HOUR, "/pumps");
    titled.hit.page_title = "Pumps".into();
    let hits = [anna(), vec![titled, visible(302, "ben", HOUR + 5_000, 301, 5_000), robot()]].concat();
    insert_twice_and_backwards(&place, hits).await;
    let columns =
        "page_path, page_title, views, visitors, sessions, average_visible_ms, total_visible_ms, last_viewed_at";
    let found = place.query(&format!("SELECT {columns} FROM {{database}}.pages ORDER BY page_path"));
    let expected = [
        "/\t\t1\t1\t1\t20000\t20000\t2026-03-10 12:00:00.000",
        "/prices\t\t1\t1\t1\t0\t0\t2026-03-10 13:00:00.000",
        // Anna's 45 s and Ben's 5 s.
        "/pumps\tPumps\t2\t2\t2\t25000\t50000\t2026-03-10 13:00:00.000",
    ];
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn downloads_name_the_file_and_who_has_it() {
    let Some(stack) = local::database_or_skip("downloads_name_the_file_and_who_has_it") else { return };
    let place = Place::migrated(stack, "downloads").await;
    insert_twice_and_backwards(&place, anna()).await;
    let columns = "target_url, file_name, downloads, visitors, sessions, contacts";
    let expected = "https://shop.example/files/Data%20sheet.pdf\tData sheet.pdf\t1\t1\t1\t['anna@mail.steel.example']";
    assert_eq!(place.query(&format!("SELECT {columns} FROM {{database}}.downloads")), expected);
}

#[tokio::test]
async fn sources_count_the_visits_they_brought() {
    let Some(stack) = local::database_or_skip("sources_count_the_visits_they_brought") else { return };
    let place = Place::migrated(stack, "sources").await;
    let ben = in_session(from_source(page_view(401, "ben", 0, "/"), SourceKind::Search, "Google"), 0xb1);
    insert_twice_and_backwards(&place, [anna(), vec![ben, robot()]].concat()).await;
    let columns =
        "day, source_kind, source_name, campaign_name, sessions, visitors, bounces, page_views, downloads, forms";
    let found = place.query(&format!("SELECT {columns} FROM {{database}}.sources ORDER BY source_kind"));
    let expected = [
        "2026-03-10\tcampaign\tNewsletter\tspring\t1\t1\t1\t1\t0\t0",
        "2026-03-10\tsearch\tGoogle\t\t2\t2\t1\t3\t1\t1",
    ];
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

/// Anna's company is known by her address, also for the visit before she gave it. Ben's address is a free mailbox, so
/// that only his network tells. Cleo's is known by a partner, and is the same as Anna's.
#[tokio::test]
async fn companies_are_known_by_the_best_evidence() {
    let Some(stack) = local::database_or_skip("companies_are_known_by_the_best_evidence") else { return };
    let place = Place::migrated(stack, "companies").await;
    let mut before = in_session(page_view(501, "anna", -2 * HOUR, "/"), 0xa0);
    before.network.organisation = "Example Telecom".into();
    let mut ben = with_email(page_view(502, "ben", 0, "/"), "ben@GMAIL.com");
    ben.network.organisation = "Example Telecom".into();
    ben.network.domain = "telecom.example".into();
    let mut cleo = page_view(503, "cleo", 3 * HOUR, "/");
    cleo.partner = Some(PartnerMatch {
        partner: "Data House".into(),
        company_name: "Steel Limited".into(),
        company_domain: "steel.example".into(),
        attributes: schemas::Map(vec![("industry".into(), "steel".into())]),
        ..PartnerMatch::default()
    });
    insert_twice_and_backwards(&place, [anna(), vec![before, ben, cleo, robot()]].concat()).await;
    let columns = "company, company_name, company_domain, evidence, first_seen, last_seen, visitors, sessions, \
                   page_views, visible_duration_ms, downloads, contacts, partner, partner_attributes";
    let found = place.query(&format!("SELECT {columns} FROM {{database}}.companies ORDER BY company"));
    let expected = [
        // Anna's three visits and Cleo's one; Anna's pages: one before, two, one.
        "steel.example\tSteel Limited\tsteel.example\t['partner','contact_email']\t2026-03-10 10:00:00.000\t\
         2026-03-10 15:00:00.000\t2\t4\t5\t65000\t1\t['anna@mail.steel.example']\tData House\t{'industry':'steel'}",
        "telecom.example\tExample Telecom\ttelecom.example\t['network']\t2026-03-10 12:00:00.000\t\
         2026-03-10 12:00:00.000\t1\t1\t1\t0\t0\t['ben@gmail.com']\t\t{}",
    ];
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn live_visitors_are_those_of_the_last_five_minutes() {
    let Some(stack) = local::database_or_skip("live_visitors_are_those_of_the_last_five_minutes") else { return };
    let place = Place::migrated(stack, "live").await;
    let now = place.now();
    let ago = |milliseconds: i64| now - milliseconds;
    let mut robot = page_view(605, "robot", ago(0), "/");
    robot.is_bot = true;
    let hits = vec![
        page_view(601, "gone", ago(6 * MINUTE), "/"),
        page_view(602, "anna", ago(10 * MINUTE), "/"),
        from_source(page_view(603, "anna", ago(MINUTE), "/pumps"), SourceKind::Direct, ""),
        visible(606, "anna", ago(MINUTE / 2), 603, 30_000),
        page_view(604, "anna", ago(MINUTE / 4), "/prices"),
        robot,
    ];
    insert_twice_and_backwards(&place, hits).await;
    let columns = "visitor_id, current_page, visible_ms, page_views, source_kind";
    let found = place.query(&format!("SELECT {columns} FROM {{database}}.live_visitors"));
    assert_eq!(found, "anna\tshop.example/prices\t30000\t2\tdirect");
}

#[tokio::test]
async fn robots_are_shown_in_their_own_view() {
    let Some(stack) = local::database_or_skip("robots_are_shown_in_their_own_view") else { return };
    let place = Place::migrated(stack, "robots").await;
    let mut nameless = page_view(901, "robot", 0, "/");
    nameless.is_bot = true;
    nameless.hit.user_agent = "curl/8.1".into();
    insert_twice_and_backwards(&place, vec![robot(), nameless]).await;
    let found = place.query("SELECT bot_name, hits, pages FROM {database}.bots ORDER BY bot_name");
    assert_eq!(found, "Examplebot\t1\t1\ncurl/8.1\t1\t1");
    for view in ["sessions", "visitors", "pages", "live_visitors"] {
        assert_eq!(place.query(&format!("SELECT count() FROM {{database}}.{view}")), "0", "{view}");
    }
}

/// A condition on the site reaches the primary keys of what is large, through every view.
#[tokio::test]
async fn a_condition_on_the_site_reads_that_site_only() {
    let Some(stack) = local::database_or_skip("a_condition_on_the_site_reads_that_site_only") else { return };
    let place = Place::migrated(stack, "pushdown").await;
    place.load(&anna()).await;
    let views =
        ["session_hits", "sessions", "visitors", "companies", "pages", "downloads", "sources", "live_visitors", "bots"];
    for view in views {
        let plan = place
            .query(&format!("EXPLAIN indexes = 1 SELECT * FROM {{database}}.{view} WHERE site = 'shop' FORMAT TSVRaw"));
        let large = [format!("{}.hits)", place.database), format!("{}.settled_sessions)", place.database)];
        let reads = plan.split("ReadFromMergeTree (").skip(1);
        let reads: Vec<&str> = reads.filter(|read| large.iter().any(|table| read.starts_with(table))).collect();
        assert!(!reads.is_empty(), "{view}:\n{plan}");
        for read in reads {
            let by_site = read.contains("(site in ['shop', 'shop'])");
            assert!(by_site, "{view} reads more: {read}");
        }
    }
}
