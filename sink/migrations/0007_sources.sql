-- Where visits came from, and what came of them.
--
--     sessions ── sources, campaigns
--     sessions ─────────────┐
--     hits ── conversions ──┴── conversion_sources
--               goals, by hand
--
-- A conversion is a hit that reaches a goal. It is credited to the source of the visitor's first visit (first touch), and to
-- that of the last visit up to then that did not come directly (last touch); where all came directly, to direct.

CREATE OR REPLACE VIEW {database}.sources{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which the visits began, UTC.',
    source_kind String COMMENT 'direct, campaign, search, social, mail, assistant, referral or unknown.',
    source_name String COMMENT 'Search engine, network, mailer or referring host.',
    campaign_source String COMMENT 'utm_source.',
    campaign_medium String COMMENT 'utm_medium.',
    campaign_name String COMMENT 'utm_campaign.',
    sessions UInt64 COMMENT 'Visits that it brought.',
    visitors UInt64 COMMENT 'Visitors that it brought.',
    bounces UInt64 COMMENT 'Visits among them in which one page was viewed at most, and nothing else done.',
    page_views UInt64 COMMENT 'Page views in these visits.',
    downloads UInt64 COMMENT 'Downloads in these visits.',
    forms UInt64 COMMENT 'Forms that were submitted in these visits.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible in these visits, milliseconds.'
)
SQL SECURITY DEFINER
AS SELECT
    s.site AS site,
    s.day AS day,
    s.source_kind AS source_kind,
    s.source_name AS source_name,
    s.campaign_source AS campaign_source,
    s.campaign_medium AS campaign_medium,
    s.campaign_name AS campaign_name,
    count() AS sessions,
    uniqExact(cityHash64(s.visitor_id)) AS visitors,
    countIf(s.is_bounce) AS bounces,
    sum(s.page_views) AS page_views,
    sum(s.downloads) AS downloads,
    sum(s.forms) AS forms,
    sum(s.visible_duration_ms) AS visible_duration_ms
FROM {database}.sessions AS s
GROUP BY s.site, s.day, s.source_kind, s.source_name, s.campaign_source, s.campaign_medium, s.campaign_name
COMMENT 'Where visits came from, one row for each day and source. Robots are left out.';

CREATE OR REPLACE VIEW {database}.campaigns{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which the visits began, UTC.',
    campaign_source String COMMENT 'utm_source.',
    campaign_medium String COMMENT 'utm_medium.',
    campaign_name String COMMENT 'utm_campaign.',
    campaign_term String COMMENT 'utm_term.',
    campaign_content String COMMENT 'utm_content.',
    campaign_id String COMMENT 'utm_id.',
    click_id_kind String COMMENT 'Parameter that held the click id of the advertising network: gclid, fbclid, msclkid, ...; empty where there was none.',
    sessions UInt64 COMMENT 'Visits that it brought.',
    visitors UInt64 COMMENT 'Visitors that it brought.',
    bounces UInt64 COMMENT 'Visits among them in which one page was viewed at most, and nothing else done.',
    page_views UInt64 COMMENT 'Page views in these visits.',
    forms UInt64 COMMENT 'Forms that were submitted in these visits.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible in these visits, milliseconds.'
)
SQL SECURITY DEFINER
AS SELECT
    s.site AS site,
    s.day AS day,
    s.campaign_source AS campaign_source,
    s.campaign_medium AS campaign_medium,
    s.campaign_name AS campaign_name,
    s.campaign_term AS campaign_term,
    s.campaign_content AS campaign_content,
    s.campaign_id AS campaign_id,
    s.click_id_kind AS click_id_kind,
    count() AS sessions,
    uniqExact(cityHash64(s.visitor_id)) AS visitors,
    countIf(s.is_bounce) AS bounces,
    sum(s.page_views) AS page_views,
    sum(s.forms) AS forms,
    sum(s.visible_duration_ms) AS visible_duration_ms
FROM {database}.sessions AS s
-- Marks that platforms put on each link, and the name that assistants put on theirs, are no campaign.
WHERE s.source_kind = 'campaign'
    AND (s.campaign_name != '' OR s.campaign_source != '' OR s.campaign_medium != '' OR s.campaign_id != '' OR s.click_id_kind != '')
GROUP BY s.site, s.day, s.campaign_source, s.campaign_medium, s.campaign_name, s.campaign_term, s.campaign_content, s.campaign_id, s.click_id_kind
COMMENT 'Campaigns and paid clicks that brought visits, one row for each day and campaign. Robots are left out.';

CREATE TABLE IF NOT EXISTS {database}.goals{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    goal LowCardinality(String) COMMENT 'Name of the goal.',
    kind LowCardinality(String) COMMENT 'Kind of hit that reaches it: page_view, event, download, outlink, form, search, identify.',
    pattern String DEFAULT '%' COMMENT 'LIKE pattern: of the path for a page view, form or identify; of the name for an event; of the address for a download or outlink; of the term for a search.',
    value Float64 COMMENT 'What reaching it is worth, in the site''s currency.',
    is_active Bool DEFAULT true COMMENT 'False takes the goal back.',
    changed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When: of several rows of a goal the newest counts.'
)
ENGINE = {engine}ReplacingMergeTree(changed_at)
ORDER BY (site, goal)
-- The same may be written again after its contrary: no row is to be taken for a repetition.
SETTINGS replicated_deduplication_window = 0
COMMENT 'Goals of each site, written by hand: INSERT INTO goals (site, goal, kind, pattern) VALUES (...). They hold for the past, too.';

CREATE OR REPLACE VIEW {database}.conversions_between{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    goal LowCardinality(String) COMMENT 'Goal that was reached.',
    value Float64 COMMENT 'What that is worth.',
    hit_id UUID COMMENT 'Hit that reached it.',
    visitor_id String COMMENT 'Who, unique within a site; empty where nothing may be kept.',
    session_id UUID COMMENT 'Session of the hit, as given; zero where it is computed.',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When.',
    day Date COMMENT 'Day of it, UTC.'
)
SQL SECURITY DEFINER
AS
SELECT
    h.site AS site,
    g.goal AS goal,
    any(g.value) AS value,
    h.hit_id AS hit_id,
    argMin(h.visitor_id, h.occurred_at) AS visitor_id,
    argMin(if(h.kind = 'mail_open', toUUID('00000000-0000-0000-0000-000000000000'), h.session_id), h.occurred_at) AS session_id,
    min(h.occurred_at) AS occurred_at,
    toDate(min(h.occurred_at)) AS day
FROM {database}.hits AS h
INNER JOIN (SELECT site, goal, kind, pattern, value FROM {database}.goals FINAL WHERE is_active) AS g ON h.site = g.site AND h.kind = g.kind
WHERE NOT h.is_bot AND toDate(h.received_at) BETWEEN {first_day:Date} AND {last_day:Date} + 8
    AND (h.site, h.kind) IN (SELECT site, kind FROM {database}.goals FINAL WHERE is_active)
    AND multiIf(h.kind = 'event', toString(h.event_name), h.kind IN ('download', 'outlink'), h.target_url, h.kind = 'search', h.search_term, toString(h.page_path)) LIKE g.pattern
GROUP BY h.site, g.goal, h.hit_id
HAVING day BETWEEN {first_day:Date} AND {last_day:Date}
COMMENT 'Hits that reached a goal from one day to another, both included: conversions_between(first_day = ..., last_day = ...). Columns are those of conversions.';

CREATE OR REPLACE VIEW {database}.conversions{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    goal LowCardinality(String) COMMENT 'Goal that was reached.',
    value Float64 COMMENT 'What that is worth.',
    hit_id UUID COMMENT 'Hit that reached it.',
    visitor_id String COMMENT 'Who, unique within a site; empty where nothing may be kept.',
    session_id UUID COMMENT 'Session of the hit, as given; zero where it is computed.',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When.',
    day Date COMMENT 'Day of it, UTC.'
)
SQL SECURITY DEFINER
AS SELECT *
FROM {database}.conversions_between(first_day = '1970-01-01', last_day = '2100-01-01')
COMMENT 'Hits that reached a goal, one row for each goal and hit. Robots are left out.';

CREATE OR REPLACE VIEW {database}.conversion_sources{on_cluster}
(
    goal LowCardinality(String) COMMENT 'Goal.',
    source_kind String COMMENT 'Class of the source.',
    source_name String COMMENT 'Search engine, network, mailer or referring host.',
    campaign_source String COMMENT 'utm_source.',
    campaign_medium String COMMENT 'utm_medium.',
    campaign_name String COMMENT 'utm_campaign.',
    first_touch_conversions UInt64 COMMENT 'Conversions of visitors whom this source brought first.',
    last_touch_conversions UInt64 COMMENT 'Conversions of visitors whom this source brought last, direct visits passed over.',
    first_touch_value Float64 COMMENT 'What the goals of the former are worth.',
    last_touch_value Float64 COMMENT 'What the goals of the latter are worth.'
)
SQL SECURITY DEFINER
AS
WITH
    reached AS
    (
        SELECT goal, value, hit_id, visitor_id, c.occurred_at AS reached_at
        FROM {database}.conversions_between(first_day = {first_day:Date}, last_day = {last_day:Date}) AS c
        WHERE c.site = {site:String} AND visitor_id != ''
    ),
    visits AS
    (
        SELECT visitor_id, started_at, session_id, (source_kind, source_name, campaign_source, campaign_medium, campaign_name) AS touch
        FROM {database}.sessions
        WHERE site = {site:String} AND visitor_id IN (SELECT visitor_id FROM reached)
    ),
    touched AS
    (
        SELECT
            r.goal AS goal,
            r.hit_id AS hit_id,
            any(r.value) AS worth,
            argMinIf(v.touch, (v.started_at, v.session_id), v.started_at <= r.reached_at) AS first_touch,
            argMaxIf(v.touch, (v.started_at, v.session_id), v.started_at <= r.reached_at AND v.touch.1 NOT IN ('direct', 'unknown')) AS last_known,
            argMaxIf(v.touch, (v.started_at, v.session_id), v.started_at <= r.reached_at) AS last_any,
            if(last_known.1 = '', last_any, last_known) AS last_touch
        FROM reached AS r
        INNER JOIN visits AS v ON r.visitor_id = v.visitor_id
        GROUP BY goal, hit_id
    )
SELECT
    goal,
    credited.1.1 AS source_kind,
    credited.1.2 AS source_name,
    credited.1.3 AS campaign_source,
    credited.1.4 AS campaign_medium,
    credited.1.5 AS campaign_name,
    sum(credited.2) AS first_touch_conversions,
    sum(credited.3) AS last_touch_conversions,
    sum(credited.2 * worth) AS first_touch_value,
    sum(credited.3 * worth) AS last_touch_value
FROM touched
ARRAY JOIN [(first_touch, 1, 0), (last_touch, 0, 1)] AS credited
GROUP BY goal, source_kind, source_name, campaign_source, campaign_medium, campaign_name
COMMENT 'Which sources brought the conversions of some days, both included: conversion_sources(site = ..., first_day = ..., last_day = ...). Each conversion is credited once by first touch and once by last touch. A visit has one source, and what was reached early in it counts for that, too. Those of who is not named are left out; right up to a minute ago, as sessions are.';
