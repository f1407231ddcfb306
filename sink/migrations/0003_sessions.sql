-- Sessions: what nearly every answer is made of, and what would cost most to find again for each question.
--
--     hits ── sessions_of_hits ── settle_sessions, each minute ── settled_sessions ── sessions
--             (any visitor)       (whose hits are new)
--
-- `sessions_of_hits` tells a visitor's sessions from all of their hits, whenever these came: so hits that are late, out of
-- order or twice need no care anywhere else. `settled_sessions` keeps what it said, one row a session, and is what
-- `sessions` reads. So every answer is what the hits said when they were settled last, and quick.
--
-- The unit is the visitor, as hits of one may join two sessions, or part them. A session is one visitor's.
--
-- Settling touches visitors with new hits only, and writes sessions only that differ from what is kept. `settlements` says
-- up to which insertion all hits are settled. It moves only once all rows of a settling are there: each tells how many
-- there are. A settling that failed half-way is done again, and what it left is true, as it is what the hits said.
--
-- An insert stamps its rows before they can be seen, and ends within 100 s, in the server, too: so the mark stays two minutes
-- behind, and whatever came later than the mark is settled again the next time. Nothing depends on the order in which rows
-- became visible but this. Where more than half a million hits came since the mark, settling each of them several times
-- would cost too much: they wait until they are two minutes old.
--
-- Who comes back for years has many hits, and settling them need not read these again. Six hours before the mark is a cut:
-- what began before it stays as it is kept, and what came after it is told from the hits after it alone, where these are
-- all that it hangs on. That is so unless the visitor has a new hit from before the cut, or any in the half-hour before it,
-- which may be of one session with those after; or goes on with a session that began before it, or with a page view that
-- is not among the hits after it. Then all is told from all hits. (Not noticed is a page view over half an hour younger than
-- a heartbeat of it before the cut, or told again after the cut under another time: no clock and no client does that.)

CREATE TABLE IF NOT EXISTS {database}.settled_sessions{on_cluster}
(
    site LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Key of the site.',
    day Date CODEC(ZSTD(3)) COMMENT 'Day on which it began, UTC.',
    visitor_id String CODEC(ZSTD(3)) COMMENT 'Who, unique within a site.',
    session_id UUID CODEC(ZSTD(3)) COMMENT 'Session, as the cookie or the tag told, else computed.',
    session_id_source LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'given; or computed from 30-minute gaps of the visitor.',
    is_anonymous Bool CODEC(ZSTD(3)) COMMENT 'True where the visitor cannot be recognised on another day.',
    started_at DateTime64(3, 'UTC') CODEC(ZSTD(3)) COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') CODEC(ZSTD(3)) COMMENT 'When its last hit happened; not that of a tab that woke up in a later visit.',
    visible_duration_ms UInt64 CODEC(ZSTD(3)) COMMENT 'Time that its pages were visible, milliseconds: the sum over its page views of what each was visible.',
    page_views UInt64 CODEC(ZSTD(3)) COMMENT 'Page views.',
    events UInt64 CODEC(ZSTD(3)) COMMENT 'What else was done: downloads, outlinks, searches, forms, custom events. No heartbeats, no answers to a banner for consent, no calls that say who it is.',
    downloads UInt64 CODEC(ZSTD(3)) COMMENT 'Downloads.',
    outlinks UInt64 CODEC(ZSTD(3)) COMMENT 'Links to other sites that were followed.',
    searches UInt64 CODEC(ZSTD(3)) COMMENT 'Searches on the site.',
    forms UInt64 CODEC(ZSTD(3)) COMMENT 'Forms that were submitted.',
    viewed_pages Array(LowCardinality(String)) CODEC(ZSTD(3)) COMMENT 'Pages in the order in which they were viewed, host and path, one for each page view.',
    viewed_at_ms Array(UInt64) CODEC(T64, ZSTD(3)) COMMENT 'When each was viewed, milliseconds after started_at.',
    viewed_for_ms Array(UInt32) CODEC(ZSTD(3)) COMMENT 'How long each was visible, milliseconds; 0 where not told.',
    source_kind LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Class of the source that brought the visitor: that of the first page view that came from outside the site; direct where all came directly.',
    source_name LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    source_term String CODEC(ZSTD(3)) COMMENT 'Search term of that hit, where the referrer tells.',
    campaign_source LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'utm_source of that hit.',
    campaign_medium LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'utm_medium of that hit.',
    campaign_name LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'utm_campaign of that hit.',
    campaign_term LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'utm_term of that hit.',
    campaign_content LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'utm_content of that hit.',
    campaign_id LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'utm_id of that hit.',
    click_id_kind LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Parameter that held its click id: gclid, fbclid, msclkid, ...',
    last_source_kind LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Class of the source of the last page view that came from outside the site, direct ones passed over: another than source_kind where they came again in the same visit.',
    last_source_name LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    last_campaign_name LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'utm_campaign of that hit.',
    device_kind LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Class of the device.',
    os LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Operating system.',
    browser LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Browser.',
    language LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Primary language, ISO 639.',
    country LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Country, ISO 3166-1 alpha-2.',
    region LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Region or state.',
    city LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'City.',
    network_organisation LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Organisation of the network: the internet provider, or the company itself.',
    network_domain LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'How partner data matched: ip_range, email_hash, email_domain, company_domain or visitor_id.',
    company_name LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) CODEC(ZSTD(3)) COMMENT 'Whatever else the partner knows.',
    origin LowCardinality(String) MATERIALIZED {origin} CODEC(ZSTD(3)) COMMENT 'What tells the company, in one text: company_domain, company_name, partner_matched_by, network_organisation, network_domain, partner, and partner_attributes as JSON, parted by zero bytes.',
    contact_name String CODEC(ZSTD(3)) COMMENT 'Name that the person submitted in this session, the last one.',
    contact_email String CODEC(ZSTD(3)) COMMENT 'E-mail address that the person submitted in this session, the last one.',
    is_gone Bool COMMENT 'True where hits that came later left no such session: joined with another, or moved to another day.',
    settled_at DateTime64(3, 'UTC') CODEC(ZSTD(3)) COMMENT 'When this row was written; of several rows of one session the last is true.',
    settled_until DateTime64(3, 'UTC') CODEC(ZSTD(3)) COMMENT 'Hits that were inserted up to then are told by the rows written at settled_at.',
    settled_rows UInt64 CODEC(ZSTD(3)) COMMENT 'How many rows were written at settled_at.',

    INDEX by_visitor visitor_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_settling settled_at TYPE minmax GRANULARITY 1
)
ENGINE = {engine}ReplacingMergeTree(settled_at)
PARTITION BY toMonday(day)
-- A week of a company lies side by side, and so does a visitor's. That the day is in the primary key tells ClickHouse that
-- what FINAL puts together is never of two weeks: each week is read by itself, and one that is a single part just read.
PRIMARY KEY (site, company_domain, visitor_id, day)
ORDER BY (site, company_domain, visitor_id, day, session_id)
TTL day + INTERVAL 25 MONTH
SETTINGS
    -- A visitor's few sessions of a week lie in one granule of fifty columns: one that is a quarter as large is a quarter to
    -- read, and a compact part has them in one file instead of a hundred.
    index_granularity = 2048,
    min_bytes_for_wide_part = 4000000000,
    ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 3600,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000
COMMENT 'Sessions as they were when they were settled: read the view sessions. A row with an empty site tells of a settling.';

CREATE TABLE IF NOT EXISTS {database}.settlements{on_cluster}
(
    until DateTime64(3, 'UTC') COMMENT 'Hits that were inserted up to then are told by settled_sessions.',
    confirmed_at DateTime64(3, 'UTC') COMMENT 'When that was found to be so; the last row counts.'
)
ENGINE = {engine}ReplacingMergeTree(confirmed_at)
ORDER BY tuple()
COMMENT 'How far sessions are settled.';

CREATE OR REPLACE VIEW {database}.sessions_of_hits_since{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which it began, UTC.',
    visitor_id String COMMENT 'Who, unique within a site.',
    session_id UUID COMMENT 'Session, as the cookie or the tag told, else computed.',
    session_id_source LowCardinality(String) COMMENT 'given; or computed from 30-minute gaps of the visitor.',
    is_anonymous Bool COMMENT 'True where the visitor cannot be recognised on another day.',
    started_at DateTime64(3, 'UTC') COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') COMMENT 'When its last hit happened; not that of a tab that woke up in a later visit.',
    visible_duration_ms UInt64 COMMENT 'Time that its pages were visible, milliseconds: the sum over its page views of what each was visible.',
    page_views UInt64 COMMENT 'Page views.',
    events UInt64 COMMENT 'What else was done: downloads, outlinks, searches, forms, custom events. No heartbeats, no answers to a banner for consent, no calls that say who it is.',
    downloads UInt64 COMMENT 'Downloads.',
    outlinks UInt64 COMMENT 'Links to other sites that were followed.',
    searches UInt64 COMMENT 'Searches on the site.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    viewed_pages Array(LowCardinality(String)) COMMENT 'Pages in the order in which they were viewed, host and path, one for each page view.',
    viewed_at_ms Array(UInt64) COMMENT 'When each was viewed, milliseconds after started_at.',
    viewed_for_ms Array(UInt32) COMMENT 'How long each was visible, milliseconds; 0 where not told.',
    source_kind LowCardinality(String) COMMENT 'Class of the source that brought the visitor: that of the first page view that came from outside the site; direct where all came directly.',
    source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    source_term String COMMENT 'Search term of that hit, where the referrer tells.',
    campaign_source LowCardinality(String) COMMENT 'utm_source of that hit.',
    campaign_medium LowCardinality(String) COMMENT 'utm_medium of that hit.',
    campaign_name LowCardinality(String) COMMENT 'utm_campaign of that hit.',
    campaign_term LowCardinality(String) COMMENT 'utm_term of that hit.',
    campaign_content LowCardinality(String) COMMENT 'utm_content of that hit.',
    campaign_id LowCardinality(String) COMMENT 'utm_id of that hit.',
    click_id_kind LowCardinality(String) COMMENT 'Parameter that held its click id: gclid, fbclid, msclkid, ...',
    last_source_kind LowCardinality(String) COMMENT 'Class of the source of the last page view that came from outside the site, direct ones passed over: another than source_kind where they came again in the same visit.',
    last_source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    last_campaign_name LowCardinality(String) COMMENT 'utm_campaign of that hit.',
    device_kind LowCardinality(String) COMMENT 'Class of the device.',
    os LowCardinality(String) COMMENT 'Operating system.',
    browser LowCardinality(String) COMMENT 'Browser.',
    language LowCardinality(String) COMMENT 'Primary language, ISO 639.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    region LowCardinality(String) COMMENT 'Region or state.',
    city LowCardinality(String) COMMENT 'City.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network: the internet provider, or the company itself.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched: ip_range, email_hash, email_domain, company_domain or visitor_id.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) COMMENT 'Whatever else the partner knows.',
    contact_name String COMMENT 'Name that the person submitted in this session, the last one.',
    contact_email String COMMENT 'E-mail address that the person submitted in this session, the last one.'
)
SQL SECURITY DEFINER
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    -- In tuples, as each column of its own would cost in each of the steps.
    marked AS
    (
        SELECT
            site, visitor_id, hit_id, kind, occurred_at, session_id, duration_ms,
            h.session_id = none AS is_computed,
            if(kind = 'page_view', hit_id, page_view_id) AS view_id,
            visitor_id_source IN ('daily_hash', 'none') AS is_of_a_day,
            source_kind NOT IN ('internal', 'unknown') AS is_from_outside,
            kind NOT IN ('page_view', 'heartbeat', 'identify') AND NOT (kind = 'event' AND event_name = 'consent') AS is_action,
            -- Which of several counts: a number is compared sooner than a tuple of time, id and, where a hit was enriched
            -- again, the time of that. Of the id, what ids of one moment count up, 30 bits in the middle, and what tells
            -- others apart, the last 12.
            bitOr(bitAnd(bitShiftRight(toUInt128(hit_id), 20), toUInt128(4398046507008)), bitAnd(toUInt128(hit_id), toUInt128(4095))) AS id_of_moment,
            bitOr(bitOr(bitShiftLeft(toUInt128(toUnixTimestamp64Milli(occurred_at)), 84), bitShiftLeft(id_of_moment, 42)), toUInt128(toUnixTimestamp64Milli(enriched_at))) AS rank,
            -- The same, for the first: of those of one hit it is the one that was enriched last all the same.
            bitXor(rank, toUInt128(4398046511103)) AS first_rank,
            -- What somebody came by is told by page views: other hits tell the source of their page again, in whatever tab that
            -- is. And it is told by where they came from rather than by that they came directly.
            bitShiftLeft(toUInt128(2 * (kind = 'page_view') + (source_kind != 'direct')), 126) AS word,
            (page_host, page_path) AS page,
            (source_kind, source_name, source_term, campaign_source, campaign_medium, campaign_name, campaign_term, campaign_content, campaign_id, click_id_kind) AS brought_by,
            (device_kind, os, browser, language) AS client,
            (country, region, city) AS located,
            (network_organisation, network_domain) AS connected,
            (partner, partner_matched_by, company_name, company_domain, partner_attributes) AS known,
            (contact_name, contact_email) AS submitted
        FROM {database}.hits AS h
        WHERE NOT is_bot AND visitor_id != '' AND kind != 'mail_open'
            -- No hit arrives before it happens.
            AND occurred_at >= {since:DateTime64(3, 'UTC')} AND toDate(received_at) >= toDate({since:DateTime64(3, 'UTC')})
    ),
    -- Joins of what is aggregated, as windows over all columns would cost more than all else. Sessions of those who tell
    -- none begin where half an hour passed without a hit.
    beginnings AS
    (
        SELECT site, visitor_id, arrayFilter((at, before) -> at - before > 30 * 60 * 1000, times, arrayPushFront(arrayPopBack(times), -1000000000000000)) AS starts
        FROM
        (
            SELECT site, visitor_id, arraySort(groupUniqArray(toUnixTimestamp64Milli(occurred_at))) AS times
            FROM marked
            WHERE is_computed
            GROUP BY site, visitor_id
        )
    ),
    -- A tab that sleeps over half an hour tells the time of its page view in a session that is not the page view's: all of
    -- it again, as heartbeats tell the time so far. Such time is the page view's, wherever it is told. These are the page
    -- views that may have hits of several sessions, and their first hit: the page view itself, where it is there.
    strays AS
    (
        SELECT site, visitor_id, view_id, min((kind != 'page_view', occurred_at, hit_id, session_id)) AS first
        FROM marked
        WHERE view_id != none
        GROUP BY site, visitor_id, view_id
        HAVING min(session_id) != max(session_id) OR max(occurred_at) - min(occurred_at) > 30 * 60
    ),
    homed AS
    (
        SELECT
            m.* EXCEPT (site, visitor_id, view_id),
            m.site AS site,
            m.visitor_id AS visitor_id,
            m.view_id AS view_id,
            if(m.is_computed, reinterpret(sipHash128(m.site, m.visitor_id, arrayLast(start -> start <= toUnixTimestamp64Milli(m.occurred_at), b.starts)), 'UUID'), m.session_id) AS found_id,
            if(s.first.2 = toDateTime64(0, 3, 'UTC'), found_id, if(s.first.4 = none, reinterpret(sipHash128(m.site, m.visitor_id, arrayLast(start -> start <= toUnixTimestamp64Milli(s.first.2), b.starts)), 'UUID'), s.first.4)) AS home_id,
            if(m.kind = 'heartbeat' AND m.view_id != none, home_id, found_id) AS own_id
        FROM marked AS m
        LEFT ANY JOIN beginnings AS b ON m.site = b.site AND m.visitor_id = b.visitor_id
        LEFT ANY JOIN strays AS s ON m.site = s.site AND m.visitor_id = s.visitor_id AND m.view_id = s.view_id
    ),
    grouped AS
    (
        SELECT
            site,
            visitor_id,
            own_id,
            argMin(is_computed, (own_id != found_id, occurred_at)) AS computed,
            max(is_of_a_day) AS anonymous,
            min(occurred_at) AS start,
            maxIf(occurred_at, own_id = found_id) AS end,
            maxMapIf([view_id], [duration_ms], duration_ms > 0 AND (view_id = none OR own_id = home_id)) AS visible,
            groupUniqArrayIf((occurred_at, hit_id, page), kind = 'page_view') AS views,
            groupUniqArrayIf((kind, hit_id), is_action) AS others,
            argMinIf(brought_by, bitOr(first_rank, bitXor(word, bitShiftLeft(toUInt128(3), 126))), is_from_outside) AS source,
            argMaxIf((brought_by.1, brought_by.2, brought_by.6), bitOr(rank, word), is_from_outside) AS last_source,
            argMinIf(client.1, first_rank, client.1 NOT IN ('', 'unknown')) AS device,
            argMinIf(client.2, first_rank, client.2 != '') AS system,
            argMinIf(client.3, first_rank, client.3 != '') AS browser_name,
            argMinIf(client.4, first_rank, client.4 != '') AS spoken,
            argMinIf(located, first_rank, located.1 != '') AS place,
            argMinIf(connected, first_rank, connected.1 != '' OR connected.2 != '') AS network,
            argMaxIf(known, rank, known.3 != '' OR known.4 != '') AS company,
            argMaxIf(submitted.1, rank, submitted.1 != '') AS contact,
            argMaxIf(submitted.2, rank, submitted.2 != '') AS email,
            -- In order of time, and within a moment of ids, which sort by time as numbers, not as ClickHouse sorts them. A view that
            -- is there twice is one, the first.
            arraySort(view -> (view.1, toUInt128(view.2), view.3), views) AS ordered,
            arrayFilter((view, occurrence) -> occurrence = 1, ordered, arrayEnumerateUniq(ordered.2)) AS viewed
        FROM homed
        GROUP BY site, visitor_id, own_id
    )
SELECT
    site,
    toDate(start) AS day,
    visitor_id,
    own_id AS session_id,
    if(computed, 'computed', 'given') AS session_id_source,
    anonymous AS is_anonymous,
    start AS started_at,
    end AS ended_at,
    arraySum(visible.2) AS visible_duration_ms,
    length(viewed) AS page_views,
    length(others) AS events,
    countEqual(others.1, 'download') AS downloads,
    countEqual(others.1, 'outlink') AS outlinks,
    countEqual(others.1, 'search') AS searches,
    countEqual(others.1, 'form') AS forms,
    arrayMap(view -> concat(view.3.1, view.3.2), viewed) AS viewed_pages,
    arrayMap(view -> toUnixTimestamp64Milli(view.1) - toUnixTimestamp64Milli(start), viewed) AS viewed_at_ms,
    arrayMap(view -> visible.2[indexOf(visible.1, view.2)], viewed) AS viewed_for_ms,
    if(source.1 = '', 'unknown', source.1) AS source_kind,
    source.2 AS source_name,
    source.3 AS source_term,
    source.4 AS campaign_source,
    source.5 AS campaign_medium,
    source.6 AS campaign_name,
    source.7 AS campaign_term,
    source.8 AS campaign_content,
    source.9 AS campaign_id,
    source.10 AS click_id_kind,
    if(last_source.1 = '', 'unknown', last_source.1) AS last_source_kind,
    last_source.2 AS last_source_name,
    last_source.3 AS last_campaign_name,
    if(device = '', 'unknown', device) AS device_kind,
    system AS os,
    browser_name AS browser,
    spoken AS language,
    place.1 AS country,
    place.2 AS region,
    place.3 AS city,
    network.1 AS network_organisation,
    network.2 AS network_domain,
    company.1 AS partner,
    company.2 AS partner_matched_by,
    company.3 AS company_name,
    company.4 AS company_domain,
    company.5 AS partner_attributes,
    contact AS contact_name,
    email AS contact_email
FROM grouped
COMMENT 'Sessions, from nothing but the hits that happened at some time or later: sessions_of_hits_since(since = ...). Columns are those of sessions_of_hits.';

CREATE OR REPLACE VIEW {database}.sessions_of_hits{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which it began, UTC.',
    visitor_id String COMMENT 'Who, unique within a site.',
    session_id UUID COMMENT 'Session, as the cookie or the tag told, else computed.',
    session_id_source LowCardinality(String) COMMENT 'given; or computed from 30-minute gaps of the visitor.',
    is_anonymous Bool COMMENT 'True where the visitor cannot be recognised on another day.',
    started_at DateTime64(3, 'UTC') COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') COMMENT 'When its last hit happened; not that of a tab that woke up in a later visit.',
    visible_duration_ms UInt64 COMMENT 'Time that its pages were visible, milliseconds: the sum over its page views of what each was visible.',
    page_views UInt64 COMMENT 'Page views.',
    events UInt64 COMMENT 'What else was done: downloads, outlinks, searches, forms, custom events. No heartbeats, no answers to a banner for consent, no calls that say who it is.',
    downloads UInt64 COMMENT 'Downloads.',
    outlinks UInt64 COMMENT 'Links to other sites that were followed.',
    searches UInt64 COMMENT 'Searches on the site.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    viewed_pages Array(LowCardinality(String)) COMMENT 'Pages in the order in which they were viewed, host and path, one for each page view.',
    viewed_at_ms Array(UInt64) COMMENT 'When each was viewed, milliseconds after started_at.',
    viewed_for_ms Array(UInt32) COMMENT 'How long each was visible, milliseconds; 0 where not told.',
    source_kind LowCardinality(String) COMMENT 'Class of the source that brought the visitor: that of the first page view that came from outside the site; direct where all came directly.',
    source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    source_term String COMMENT 'Search term of that hit, where the referrer tells.',
    campaign_source LowCardinality(String) COMMENT 'utm_source of that hit.',
    campaign_medium LowCardinality(String) COMMENT 'utm_medium of that hit.',
    campaign_name LowCardinality(String) COMMENT 'utm_campaign of that hit.',
    campaign_term LowCardinality(String) COMMENT 'utm_term of that hit.',
    campaign_content LowCardinality(String) COMMENT 'utm_content of that hit.',
    campaign_id LowCardinality(String) COMMENT 'utm_id of that hit.',
    click_id_kind LowCardinality(String) COMMENT 'Parameter that held its click id: gclid, fbclid, msclkid, ...',
    last_source_kind LowCardinality(String) COMMENT 'Class of the source of the last page view that came from outside the site, direct ones passed over: another than source_kind where they came again in the same visit.',
    last_source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    last_campaign_name LowCardinality(String) COMMENT 'utm_campaign of that hit.',
    device_kind LowCardinality(String) COMMENT 'Class of the device.',
    os LowCardinality(String) COMMENT 'Operating system.',
    browser LowCardinality(String) COMMENT 'Browser.',
    language LowCardinality(String) COMMENT 'Primary language, ISO 639.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    region LowCardinality(String) COMMENT 'Region or state.',
    city LowCardinality(String) COMMENT 'City.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network: the internet provider, or the company itself.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched: ip_range, email_hash, email_domain, company_domain or visitor_id.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) COMMENT 'Whatever else the partner knows.',
    contact_name String COMMENT 'Name that the person submitted in this session, the last one.',
    contact_email String COMMENT 'E-mail address that the person submitted in this session, the last one.'
)
SQL SECURITY DEFINER
AS SELECT *
FROM {database}.sessions_of_hits_since(since = '1970-01-01 00:00:00.000')
COMMENT 'Sessions, from nothing but hits: what the view sessions says too, right up to this moment, and much slower. Give site and visitor_id.';

CREATE OR REPLACE VIEW {database}.sessions{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which it began, UTC.',
    visitor_id String COMMENT 'Who, unique within a site.',
    session_id UUID COMMENT 'Session, as the cookie or the tag told, else computed.',
    session_id_source LowCardinality(String) COMMENT 'given; or computed from 30-minute gaps of the visitor.',
    is_anonymous Bool COMMENT 'True where the visitor cannot be recognised on another day.',
    started_at DateTime64(3, 'UTC') COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') COMMENT 'When its last hit happened; not that of a tab that woke up in a later visit.',
    visible_duration_ms UInt64 COMMENT 'Time that its pages were visible, milliseconds: the sum over its page views of what each was visible.',
    page_views UInt64 COMMENT 'Page views.',
    events UInt64 COMMENT 'What else was done: downloads, outlinks, searches, forms, custom events. No heartbeats, no answers to a banner for consent, no calls that say who it is.',
    downloads UInt64 COMMENT 'Downloads.',
    outlinks UInt64 COMMENT 'Links to other sites that were followed.',
    searches UInt64 COMMENT 'Searches on the site.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    is_bounce Bool COMMENT 'True where one page was viewed at most, and nothing else was done.',
    entry_page LowCardinality(String) COMMENT 'First page, host and path.',
    exit_page LowCardinality(String) COMMENT 'Last page, host and path.',
    viewed_pages Array(LowCardinality(String)) COMMENT 'Pages in the order in which they were viewed, host and path, one for each page view.',
    viewed_at_ms Array(UInt64) COMMENT 'When each was viewed, milliseconds after started_at.',
    viewed_for_ms Array(UInt32) COMMENT 'How long each was visible, milliseconds; 0 where not told.',
    source_kind LowCardinality(String) COMMENT 'Class of the source that brought the visitor: that of the first page view that came from outside the site; direct where all came directly.',
    source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    source_term String COMMENT 'Search term of that hit, where the referrer tells.',
    campaign_source LowCardinality(String) COMMENT 'utm_source of that hit.',
    campaign_medium LowCardinality(String) COMMENT 'utm_medium of that hit.',
    campaign_name LowCardinality(String) COMMENT 'utm_campaign of that hit.',
    campaign_term LowCardinality(String) COMMENT 'utm_term of that hit.',
    campaign_content LowCardinality(String) COMMENT 'utm_content of that hit.',
    campaign_id LowCardinality(String) COMMENT 'utm_id of that hit.',
    click_id_kind LowCardinality(String) COMMENT 'Parameter that held its click id: gclid, fbclid, msclkid, ...',
    last_source_kind LowCardinality(String) COMMENT 'Class of the source of the last page view that came from outside the site, direct ones passed over: another than source_kind where they came again in the same visit.',
    last_source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    last_campaign_name LowCardinality(String) COMMENT 'utm_campaign of that hit.',
    device_kind LowCardinality(String) COMMENT 'Class of the device.',
    os LowCardinality(String) COMMENT 'Operating system.',
    browser LowCardinality(String) COMMENT 'Browser.',
    language LowCardinality(String) COMMENT 'Primary language, ISO 639.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    region LowCardinality(String) COMMENT 'Region or state.',
    city LowCardinality(String) COMMENT 'City.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network: the internet provider, or the company itself.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched: ip_range, email_hash, email_domain, company_domain or visitor_id.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) COMMENT 'Whatever else the partner knows.',
    contact_name String COMMENT 'Name that the person submitted in this session, the last one.',
    contact_email String COMMENT 'E-mail address that the person submitted in this session, the last one.'
)
SQL SECURITY DEFINER
AS SELECT
    site,
    day,
    visitor_id,
    session_id,
    session_id_source,
    is_anonymous,
    started_at,
    ended_at,
    visible_duration_ms,
    page_views,
    events,
    downloads,
    outlinks,
    searches,
    forms,
    CAST(page_views <= 1 AND events = 0, 'Bool') AS is_bounce,
    viewed_pages[1] AS entry_page,
    viewed_pages[-1] AS exit_page,
    viewed_pages,
    viewed_at_ms,
    viewed_for_ms,
    source_kind,
    source_name,
    source_term,
    campaign_source,
    campaign_medium,
    campaign_name,
    campaign_term,
    campaign_content,
    campaign_id,
    click_id_kind,
    last_source_kind,
    last_source_name,
    last_campaign_name,
    device_kind,
    os,
    browser,
    language,
    country,
    region,
    city,
    network_organisation,
    network_domain,
    partner,
    partner_matched_by,
    company_name,
    company_domain,
    partner_attributes,
    contact_name,
    contact_email
FROM {database}.settled_sessions FINAL
WHERE NOT is_gone AND site != ''
COMMENT 'Visits, one row each: when, how long, what was viewed and done, where the visitor came from and is. Hits that came without a session are put together by 30-minute gaps. Right up to a minute ago, or three where more than half a million hits come in that time. Robots are left out, see bots.';

-- Mails that were opened make no visit, and tell of a visitor all the same: when they were there, from where and with what.
-- One hit in some hundred, all over the table of hits: here they lie together.
CREATE TABLE IF NOT EXISTS {database}.mail_opens{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String CODEC(ZSTD(3)) COMMENT 'Who, unique within a site.',
    hit_id UUID CODEC(ZSTD(3)) COMMENT 'Names the hit. A row that is here twice under one id is one hit.',
    received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(3)) COMMENT 'When it arrived.',
    occurred_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(3)) COMMENT 'When it was opened.',
    is_anonymous Bool COMMENT 'True where the visitor cannot be recognised on another day.',
    source_kind LowCardinality(String) COMMENT 'Class of the source; unknown where it is not from outside the site.',
    source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host.',
    campaign_name LowCardinality(String) COMMENT 'utm_campaign.',
    device_kind LowCardinality(String) COMMENT 'Class of the device.',
    os LowCardinality(String) COMMENT 'Operating system.',
    browser LowCardinality(String) COMMENT 'Browser.',
    language LowCardinality(String) COMMENT 'Primary language, ISO 639.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    region LowCardinality(String) COMMENT 'Region or state.',
    city LowCardinality(String) COMMENT 'City.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network: the internet provider, or the company itself.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched: ip_range, email_hash, email_domain, company_domain or visitor_id.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) CODEC(ZSTD(3)) COMMENT 'Whatever else the partner knows.',
    origin LowCardinality(String) MATERIALIZED {origin} COMMENT 'What tells the company, in one text: company_domain, company_name, partner_matched_by, network_organisation, network_domain, partner, and partner_attributes as JSON, parted by zero bytes.',
    contact_email String CODEC(ZSTD(3)) COMMENT 'E-mail address that came with it.',
    contact_phone String CODEC(ZSTD(3)) COMMENT 'Telephone number that came with it.',
    INDEX by_visitor visitor_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = {engine}ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (site, toDate(received_at), visitor_id, hit_id)
TTL toDate(received_at) + INTERVAL 25 MONTH
SETTINGS
    ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 3600,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000
COMMENT 'Mails that were opened by visitors who are known, one row each. Robots are left out.';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.write_mail_opens{on_cluster} TO {database}.mail_opens
AS SELECT
    site,
    visitor_id,
    hit_id,
    received_at,
    occurred_at,
    CAST(visitor_id_source IN ('daily_hash', 'none'), 'Bool') AS is_anonymous,
    if(hits.source_kind IN ('', 'internal'), 'unknown', hits.source_kind) AS source_kind,
    source_name,
    campaign_name,
    device_kind,
    os,
    browser,
    language,
    country,
    region,
    city,
    network_organisation,
    network_domain,
    partner,
    partner_matched_by,
    company_name,
    company_domain,
    partner_attributes,
    contact_email,
    contact_phone
FROM {database}.hits
WHERE kind = 'mail_open' AND NOT is_bot AND visitor_id != ''
COMMENT 'Writes the opened mails of inserted hits.';

-- Hits that name nobody make no visit, and tell of a page and of a network all the same. Page by page they are a quarter of
-- the rows. Whatever is said of a view only grows, and what would not is in the key, but for
-- partner_attributes, and what is made of them, of which the last that came counts: so a hit may be here twice, or late.
CREATE TABLE IF NOT EXISTS {database}.unnamed_views{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    received_on Date COMMENT 'Day on which the hits arrived, UTC.',
    view UInt64 CODEC(ZSTD(3)) COMMENT 'Number of the page view, made of its id; of a hit that belongs to none, of its own.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched: ip_range, email_hash, email_domain, company_domain or visitor_id.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes SimpleAggregateFunction(anyLast, Map(String, String)) CODEC(ZSTD(3)) COMMENT 'Whatever else the partner knows.',
    origin SimpleAggregateFunction(anyLast, LowCardinality(String)) MATERIALIZED {origin} COMMENT 'What tells the company, in one text: company_domain, company_name, partner_matched_by, network_organisation, network_domain, partner, and partner_attributes as JSON, parted by zero bytes.',
    is_viewed SimpleAggregateFunction(max, UInt8) COMMENT '1 where the page view itself is among the hits.',
    page SimpleAggregateFunction(max, LowCardinality(String)) COMMENT 'Page, host and path.',
    first_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')) CODEC(T64, ZSTD(3)) COMMENT 'When the first of the hits happened.',
    last_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) CODEC(T64, ZSTD(3)) COMMENT 'When the last of them happened.',
    visible_ms SimpleAggregateFunction(max, UInt32) CODEC(T64, ZSTD(3)) COMMENT 'How long the page was visible, milliseconds; 0 where not told.',
    downloads SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64)) CODEC(ZSTD(3)) COMMENT 'Downloads, a number made of the id of each.',
    forms SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64)) CODEC(ZSTD(3)) COMMENT 'Forms that were submitted, a number made of the id of each.'
)
ENGINE = {engine}AggregatingMergeTree
PARTITION BY toYYYYMM(received_on)
PRIMARY KEY (site, received_on)
ORDER BY (site, received_on, view, country, network_organisation, network_domain, partner, partner_matched_by, company_name, company_domain)
TTL received_on + INTERVAL 25 MONTH
SETTINGS
    ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 3600,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000
COMMENT 'What hits that name nobody tell of each page view. Several rows may be of one: on two days, or in two networks. Robots are left out.';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.write_unnamed_views{on_cluster} TO {database}.unnamed_views
AS SELECT
    site,
    toDate(received_at) AS received_on,
    cityHash64(if(kind != 'page_view' AND page_view_id != toUUID('00000000-0000-0000-0000-000000000000'), page_view_id, hit_id)) AS view,
    country,
    network_organisation,
    network_domain,
    partner,
    partner_matched_by,
    company_name,
    company_domain,
    anyLast(hits.partner_attributes) AS partner_attributes,
    max(kind = 'page_view') AS is_viewed,
    max(if(kind = 'page_view', concat(page_host, page_path), '')) AS page,
    min(occurred_at) AS first_at,
    max(occurred_at) AS last_at,
    max(duration_ms) AS visible_ms,
    groupUniqArrayIf(cityHash64(hit_id), kind = 'download') AS downloads,
    groupUniqArrayIf(cityHash64(hit_id), kind = 'form') AS forms
FROM {database}.hits
WHERE visitor_id = '' AND NOT is_bot
GROUP BY site, received_on, view, country, network_organisation, network_domain, partner, partner_matched_by, company_name, company_domain
COMMENT 'Writes the page views of inserted hits that name nobody.';

-- At most two million new hits at a time, and the disk for what does not fit, bound the memory it takes; what is left comes
-- next time. One thread, which others go before where the server may say so, leaves a small machine to inserts and questions.
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.settle_sessions{on_cluster}
REFRESH EVERY 1 MINUTE APPEND TO {database}.settled_sessions
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    (SELECT greatest(argMax(until, confirmed_at), toDateTime64('1970-01-02 00:00:00', 3, 'UTC')) FROM {database}.settlements) AS since,
    now64(3, 'UTC') AS now,
    now - INTERVAL 2 MINUTE AS complete,
    (
        SELECT multiIf(count() < 500000, now, count() < 2000000, complete, least(complete, max(inserted_at)))
        FROM (SELECT inserted_at FROM {database}.hits WHERE inserted_at > since ORDER BY inserted_at LIMIT 2000000)
    ) AS until,
    since - INTERVAL 6 HOUR AS cut,
    changed AS
    (
        SELECT site, visitor_id, min(occurred_at) AS first
        FROM {database}.hits
        WHERE inserted_at > since AND inserted_at <= until AND NOT is_bot AND visitor_id != '' AND kind != 'mail_open'
        GROUP BY site, visitor_id
    ),
    recent AS
    (
        SELECT site, visitor_id, occurred_at, session_id, kind = 'page_view' AS is_view, if(is_view, hit_id, page_view_id) AS view_id
        FROM {database}.hits
        WHERE toDate(received_at) >= toDate(cut - INTERVAL 30 MINUTE) AND occurred_at >= cut - INTERVAL 30 MINUTE
            AND NOT is_bot AND kind != 'mail_open' AND (site, visitor_id) IN (SELECT site, visitor_id FROM changed)
    ),
    -- Whose sessions hang on hits from before the cut.
    whole AS
    (
        SELECT site, visitor_id FROM changed WHERE first < cut
        UNION ALL
        SELECT site, visitor_id FROM recent WHERE occurred_at < cut
        UNION ALL
        SELECT site, visitor_id FROM recent WHERE view_id != none AND occurred_at >= cut GROUP BY site, visitor_id, view_id HAVING NOT max(is_view)
        UNION ALL
        SELECT site, visitor_id FROM {database}.settled_sessions
        WHERE day <= toDate(cut) AND started_at < cut AND (site, visitor_id, session_id) IN (SELECT site, visitor_id, session_id FROM recent WHERE occurred_at >= cut)
    ),
    -- Of whom nothing hangs on these.
    partly AS (SELECT site, visitor_id FROM changed WHERE (site, visitor_id) NOT IN (SELECT site, visitor_id FROM whole)),
    -- What is kept and what the hits tell, side by side.
    both AS
    (
        SELECT * EXCEPT (is_gone, settled_at, settled_until, settled_rows), false AS is_told
        FROM {database}.settled_sessions FINAL
        WHERE NOT is_gone AND day >= toDate(cut) AND started_at >= cut AND (site, visitor_id) IN (SELECT site, visitor_id FROM partly)
        UNION ALL
        SELECT * EXCEPT (is_gone, settled_at, settled_until, settled_rows), false AS is_told
        FROM {database}.settled_sessions FINAL
        WHERE NOT is_gone AND (site, visitor_id) IN (SELECT site, visitor_id FROM whole)
        UNION ALL
        SELECT *, true AS is_told
        FROM {database}.sessions_of_hits_since(since = cut)
        WHERE (site, visitor_id) IN (SELECT site, visitor_id FROM partly)
        UNION ALL
        SELECT *, true AS is_told
        FROM {database}.sessions_of_hits
        WHERE (site, visitor_id) IN (SELECT site, visitor_id FROM whole)
    ),
    -- Hits are kept for a time, and sessions may be kept longer: one that began before the oldest hit that there is of its
    -- visitor stays as it is, and what is left of its hits tells no other.
    aged AS
    (
        SELECT *, NOT is_told AND started_at < oldest_told AS is_old
        FROM (SELECT *, minIf(started_at, is_told) OVER (PARTITION BY site, visitor_id) AS oldest_told FROM both)
    ),
    judged AS
    (
        SELECT
            *,
            is_told AND (max(is_old) OVER (PARTITION BY site, visitor_id, session_id)
                OR (session_id_source = 'computed' AND started_at <= maxIf(ended_at, is_old AND session_id_source = 'computed') OVER (PARTITION BY site, visitor_id))) AS is_rest
        FROM aged
    ),
    compared AS
    (
        SELECT
            *,
            countIf(is_told AND NOT is_rest) OVER same AS times_told,
            countIf(NOT is_told) OVER same AS times_kept,
            uniqExact(content) OVER same AS contents
        FROM (SELECT *, cityHash64(session_id_source, is_anonymous, started_at, ended_at, visible_duration_ms, page_views, events, downloads, outlinks, searches, forms, viewed_pages, viewed_at_ms, viewed_for_ms, source_kind, source_name, source_term, campaign_source, campaign_medium, campaign_name, campaign_term, campaign_content, campaign_id, click_id_kind, last_source_kind, last_source_name, last_campaign_name, device_kind, os, browser, language, country, region, city, network_organisation, network_domain, partner, partner_matched_by, company_name, company_domain, toString(partner_attributes), contact_name, contact_email) AS content FROM judged)
        WINDOW same AS (PARTITION BY site, company_domain, visitor_id, day, session_id)
    ),
    written AS
    (
        SELECT * EXCEPT (is_told, oldest_told, is_old, is_rest, content, times_told, times_kept, contents), NOT is_told AS is_gone
        FROM compared
        -- A session that is older than the table keeps it would be gone before it could be confirmed.
        WHERE day > toDate(now('UTC')) - INTERVAL 25 MONTH AND if(is_told, NOT is_rest AND (times_kept = 0 OR contents > 1), times_told = 0 AND NOT is_old)
        UNION ALL
        -- One row of nothing, which is there even where nothing changed.
        SELECT * EXCEPT (is_gone, settled_at, settled_until, settled_rows) APPLY any, false AS is_gone
        FROM {database}.settled_sessions
        WHERE false
    )
SELECT
    * REPLACE (if(site = '', toDate(now('UTC')), day) AS day),
    now AS settled_at,
    least(until, complete) AS settled_until,
    count() OVER () AS settled_rows
FROM written
SETTINGS
    max_partitions_per_insert_block = 0,
    max_threads = 1,
    os_threads_nice_value_query = 10,
    -- What is written on the right of a join is the smaller side, which ClickHouse does not always know.
    query_plan_join_swap_table = 'false',
    max_bytes_before_external_sort = 500000000,
    max_bytes_before_external_group_by = 500000000
COMMENT 'Each minute, settles the sessions of visitors with new hits.';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.confirm_settlements{on_cluster}
REFRESH EVERY 1 MINUTE OFFSET 30 SECOND APPEND TO {database}.settlements
AS
WITH (SELECT max(settled_at) FROM {database}.settled_sessions WHERE site = '') AS last
SELECT any(settled_until) AS until, now64(3, 'UTC') AS confirmed_at
FROM {database}.settled_sessions
WHERE settled_at = last
HAVING count() = any(settled_rows) AND count() > 0
COMMENT 'Each minute, moves settlements on where the last settling is complete.';
