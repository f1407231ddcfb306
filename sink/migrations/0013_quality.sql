-- How well the pipeline works, as far as the table can tell: what became of the hits that are in it, how old they were at
-- each stage, what was wrong with them, and how much each site sends. What never reached the table is told by the metrics of
-- the services, and by `sink deadletters list`.
--
-- Hours and days are those of arrival, UTC, so that they stand still once all of an hour is loaded. Within one, each hit
-- counts once, however often its row is there. Robots are in, as they are load too.

CREATE OR REPLACE VIEW {database}.quality_hours{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    hour DateTime('UTC') COMMENT 'Hour in which the hits arrived, UTC.',
    hits UInt64 COMMENT 'Hits, robots included.',
    repeated_rows UInt64 COMMENT 'Rows beyond the first of a hit: 0 unless a hit is in the table twice, see `sink audit`.',
    robots UInt64 COMMENT 'Hits of robots.',
    robot_share Float64 COMMENT 'Their share, 0 to 1.',
    anonymous UInt64 COMMENT 'Hits, robots left out, that were made anonymous under an objection.',
    with_errors UInt64 COMMENT 'Hits that something went wrong with while they were enriched.',
    late UInt64 COMMENT 'Hits that arrived more than an hour after they happened.',
    visitors UInt64 COMMENT 'Visitors, robots left out.',
    to_collector_p50_ms Float64 COMMENT 'From when a hit happened until it arrived, milliseconds: half of the hits took no longer.',
    to_collector_p99_ms Float64 COMMENT 'The same for 99 of 100 hits.',
    to_enricher_p50_ms Float64 COMMENT 'From when a hit arrived until it was enriched, milliseconds: half of the hits took no longer.',
    to_enricher_p99_ms Float64 COMMENT 'The same for 99 of 100 hits.',
    to_table_p50_ms Float64 COMMENT 'From when a hit was enriched until it was in the table, milliseconds: half of the hits took no longer.',
    to_table_p99_ms Float64 COMMENT 'The same for 99 of 100 hits.',
    in_all_p99_ms Float64 COMMENT 'From when a hit arrived until it was in the table, milliseconds, for 99 of 100 hits.'
)
SQL SECURITY DEFINER
AS
WITH once AS
    (
        SELECT
            site,
            toStartOfHour(received_at, 'UTC') AS hour,
            hit_id,
            count() AS copies,
            max(is_bot) AS robot,
            max(signal != 'none') AS objected,
            max(notEmpty(enrichment_errors)) AS wrong,
            any(visitor_id) AS who,
            min(toUnixTimestamp64Milli(received_at) - toUnixTimestamp64Milli(occurred_at)) AS to_collector,
            min(toUnixTimestamp64Milli(enriched_at) - toUnixTimestamp64Milli(received_at)) AS to_enricher,
            min(toUnixTimestamp64Milli(inserted_at) - toUnixTimestamp64Milli(enriched_at)) AS to_table,
            min(toUnixTimestamp64Milli(inserted_at) - toUnixTimestamp64Milli(received_at)) AS in_all
        FROM {database}.hits
        GROUP BY site, hour, hit_id
    )
SELECT
    o.site AS site,
    o.hour AS hour,
    count() AS hits,
    sum(o.copies) - count() AS repeated_rows,
    countIf(o.robot) AS robots,
    robots / hits AS robot_share,
    countIf(o.objected AND NOT o.robot) AS anonymous,
    countIf(o.wrong) AS with_errors,
    countIf(o.to_collector > 3600000) AS late,
    uniqExactIf(o.who, o.who != '' AND NOT o.robot) AS visitors,
    quantileExact(0.5)(o.to_collector) AS to_collector_p50_ms,
    quantileExact(0.99)(o.to_collector) AS to_collector_p99_ms,
    quantileExact(0.5)(o.to_enricher) AS to_enricher_p50_ms,
    quantileExact(0.99)(o.to_enricher) AS to_enricher_p99_ms,
    quantileExact(0.5)(o.to_table) AS to_table_p50_ms,
    quantileExact(0.99)(o.to_table) AS to_table_p99_ms,
    quantileExact(0.99)(o.in_all) AS in_all_p99_ms
FROM once AS o
GROUP BY site, hour
COMMENT 'Load, share of robots, errors and ages by site and hour of arrival. Give a condition on hour, as all hits of the hours are read one by one.';

CREATE OR REPLACE VIEW {database}.hit_outcomes{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day of arrival, UTC.',
    outcome String COMMENT 'What became of the hits: counted (in all views), anonymous (in all views, under a visitor who is forgotten after the day or under none) or robot (in the view bots only). Each hit has one: what it was found to be when it was enriched last, as where it was loaded again; other views then know it as what it was before, too.',
    reason String COMMENT 'The objection of an anonymous hit, none where the site keeps no identifiers; the name of the robot, where it is known.',
    hits UInt64 COMMENT 'Hits.'
)
SQL SECURITY DEFINER
AS
WITH once AS
    (
        SELECT
            site,
            toDate(received_at) AS day,
            argMax(multiIf(is_bot, 2, visitor_id_source IN ('daily_hash', 'none') OR signal != 'none', 1, 0), enriched_at) AS became,
            argMax(if(is_bot, bot_name, signal), enriched_at) AS because
        FROM {database}.hits
        GROUP BY site, day, hit_id
    )
SELECT
    o.site AS site,
    o.day AS day,
    multiIf(o.became = 2, 'robot', o.became = 1, 'anonymous', 'counted') AS outcome,
    if(o.became = 0, '', toString(o.because)) AS reason,
    count() AS hits
FROM once AS o
GROUP BY site, day, outcome, reason
COMMENT 'What became of the hits that are in the table, and why. The sum over all outcomes is every hit. Give a condition on day, as all hits of the days are read one by one. What was not stored is in the topic hits.dead, see `sink deadletters list`, and in the metrics of the services.';

CREATE OR REPLACE VIEW {database}.hit_problems{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day of arrival, UTC.',
    problem String COMMENT 'What went wrong while enriching, as the enricher''s README names it.',
    protocol String COMMENT 'How the hits came in: pixel, api or tag.',
    hits UInt64 COMMENT 'Hits it happened to. One hit may have several problems.'
)
SQL SECURITY DEFINER
AS
SELECT h.site AS site, toDate(h.received_at) AS day, problem, toString(h.protocol) AS protocol, uniqExact(h.hit_id) AS hits
FROM {database}.hits AS h
ARRAY JOIN h.enrichment_errors AS problem
GROUP BY site, day, problem, protocol
COMMENT 'What went wrong with hits that were stored all the same, by site and day.';

CREATE OR REPLACE VIEW {database}.tag_quality{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day of arrival, UTC.',
    tag_version String COMMENT 'Version of the JavaScript tag.',
    page_views UInt64 COMMENT 'Page views that it sent, robots left out.',
    without_duration UInt64 COMMENT 'Page views among them that no later hit told the visible time of: neither a heartbeat nor the beacon on leaving came through.',
    without_session UInt64 COMMENT 'Page views among them without a session id: nothing may be kept, or the browser keeps nothing.',
    skewed UInt64 COMMENT 'Page views among them of clients whose clock is more than a day wrong.',
    browsers UInt64 COMMENT 'Different browsers and versions.'
)
SQL SECURITY DEFINER
AS
WITH views AS
    (
        SELECT
            site,
            if(kind = 'page_view', hit_id, page_view_id) AS view,
            minIf(toDate(received_at), kind = 'page_view') AS day,
            anyIf(tag_version, kind = 'page_view') AS version,
            max(duration_ms) AS visible,
            maxIf(session_id = toUUID('00000000-0000-0000-0000-000000000000'), kind = 'page_view') AS no_session,
            maxIf(abs(ifNull(clock_skew_ms, 0)) > 86400000, kind = 'page_view') AS is_skewed,
            anyIf((browser, browser_version), kind = 'page_view') AS used
        FROM {database}.hits
        WHERE protocol = 'tag' AND NOT is_bot
        GROUP BY site, view
        HAVING countIf(kind = 'page_view') > 0
    )
SELECT
    v.site AS site,
    v.day AS day,
    toString(v.version) AS tag_version,
    count() AS page_views,
    countIf(v.visible = 0) AS without_duration,
    countIf(v.no_session) AS without_session,
    countIf(v.is_skewed) AS skewed,
    uniqExact(v.used) AS browsers
FROM views AS v
GROUP BY site, day, tag_version
COMMENT 'How well each version of the tag measures. The tag reports no errors of its own: what it could not send is missing here, and shows as page views without duration.';
