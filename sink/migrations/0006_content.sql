-- Content: pages, files, links to other sites, searches.
--
--     sessions ──────────────┐
--     unnamed_views ─────────┼── pages, pages_between, page_trend
--     hits ── page_titles ───┘
--     session_hits ── downloads, outlinks, searches
--     hits ── content_between, content_trend
--
-- Sessions keep which pages were viewed, when and for how long. A visit counts once for a page, however often it was viewed
-- in it, and so does a visitor.

CREATE TABLE IF NOT EXISTS {database}.page_titles{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    page LowCardinality(String) COMMENT 'Page, host and path.',
    month Date COMMENT 'First day of the month in which hits with these titles arrived.',
    title AggregateFunction(argMax, String, Tuple(DateTime64(3, 'UTC'), UUID)) COMMENT 'Title that was told last: argMaxMerge(title).'
)
ENGINE = {engine}AggregatingMergeTree
PARTITION BY toYYYYMM(month)
ORDER BY (site, page, month)
TTL month + INTERVAL 26 MONTH
SETTINGS
    ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 3600,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000
COMMENT 'Titles of pages.';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.write_page_titles{on_cluster} TO {database}.page_titles
AS SELECT
    site,
    concat(page_host, page_path) AS page,
    toStartOfMonth(received_at) AS month,
    argMaxState(toString(page_title), (occurred_at, hit_id)) AS title
FROM {database}.hits
WHERE kind = 'page_view' AND NOT is_bot AND page_title != ''
GROUP BY site, page, month
COMMENT 'Writes the titles of inserted page views.';

CREATE OR REPLACE VIEW {database}.viewed_pages_between{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which the visit began, UTC; of a page view that names nobody, its own.',
    page LowCardinality(String) COMMENT 'Page, host and path.',
    viewed_at DateTime64(3, 'UTC') COMMENT 'When it was viewed.',
    visible_ms UInt32 COMMENT 'How long it was visible, milliseconds; 0 where not told.',
    visitor_id String COMMENT 'Who; empty where nothing may be kept.',
    session_id UUID COMMENT 'The visit; zero where it belongs to none.',
    is_first_in_session Bool COMMENT 'True for the first view of this page in its visit.',
    is_entry Bool COMMENT 'True where the visit began with it.',
    is_exit Bool COMMENT 'True where no other page was viewed after it in the visit.'
)
SQL SECURITY DEFINER
AS
SELECT
    site,
    day,
    page,
    started_at + toIntervalMillisecond(at) AS viewed_at,
    visible AS visible_ms,
    visitor_id,
    session_id,
    occurrence = 1 AS is_first_in_session,
    place = 1 AS is_entry,
    place = page_views AS is_exit
FROM {database}.sessions
ARRAY JOIN
    viewed_pages AS page,
    viewed_at_ms AS at,
    viewed_for_ms AS visible,
    arrayEnumerate(viewed_pages) AS place,
    arrayEnumerateUniq(viewed_pages) AS occurrence
WHERE day BETWEEN {first_day:Date} AND {last_day:Date}
UNION ALL
SELECT
    site,
    toDate(at) AS day,
    page,
    at AS viewed_at,
    visible AS visible_ms,
    '' AS visitor_id,
    toUUID('00000000-0000-0000-0000-000000000000') AS session_id,
    false AS is_first_in_session,
    false AS is_entry,
    false AS is_exit
FROM
(
    SELECT site, view, max(u.page) AS page, min(first_at) AS at, max(visible_ms) AS visible
    FROM {database}.unnamed_views AS u
    WHERE received_on BETWEEN {first_day:Date} AND {last_day:Date} + 8
    GROUP BY site, view
    HAVING max(is_viewed) = 1
)
WHERE day BETWEEN {first_day:Date} AND {last_day:Date}
COMMENT 'Page views of visits that began from one day to another, both included: viewed_pages_between(first_day = ..., last_day = ...). Columns are those of viewed_pages.';

CREATE OR REPLACE VIEW {database}.viewed_pages{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which the visit began, UTC; of a page view that names nobody, its own.',
    page LowCardinality(String) COMMENT 'Page, host and path.',
    viewed_at DateTime64(3, 'UTC') COMMENT 'When it was viewed.',
    visible_ms UInt32 COMMENT 'How long it was visible, milliseconds; 0 where not told.',
    visitor_id String COMMENT 'Who; empty where nothing may be kept.',
    session_id UUID COMMENT 'The visit; zero where it belongs to none.',
    is_first_in_session Bool COMMENT 'True for the first view of this page in its visit.',
    is_entry Bool COMMENT 'True where the visit began with it.',
    is_exit Bool COMMENT 'True where no other page was viewed after it in the visit.'
)
SQL SECURITY DEFINER
AS SELECT *
FROM {database}.viewed_pages_between(first_day = '1970-01-01', last_day = '2100-01-01')
COMMENT 'Page views, one row each, with their place in the visit. Robots are left out.';

CREATE OR REPLACE VIEW {database}.pages{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    page_host String COMMENT 'Host of the page.',
    page_path String COMMENT 'Path of the page.',
    page_title String COMMENT 'Title, as told last.',
    views UInt64 COMMENT 'Page views.',
    visitors UInt64 COMMENT 'Visitors who viewed it.',
    sessions UInt64 COMMENT 'Visits in which it was viewed.',
    entries UInt64 COMMENT 'Visits that began with it.',
    exits UInt64 COMMENT 'Visits in which it was the last page.',
    average_visible_ms Float64 COMMENT 'Time that a view of it was visible, milliseconds, over the views that told; 0 where none did.',
    total_visible_ms UInt64 COMMENT 'Time that all views of it were visible, milliseconds.',
    first_viewed_at DateTime64(3, 'UTC') COMMENT 'When it was viewed first.',
    last_viewed_at DateTime64(3, 'UTC') COMMENT 'When it was viewed last.'
)
SQL SECURITY DEFINER
AS
WITH
    titles AS
    (
        SELECT site, page, argMaxMerge(title) AS last_title
        FROM {database}.page_titles
        GROUP BY site, page
    ),
    counted AS
    (
        SELECT
            site,
            page,
            count() AS view_count,
            uniqExactIf(cityHash64(visitor_id), is_first_in_session) AS visitor_count,
            countIf(is_first_in_session) AS session_count,
            countIf(is_entry) AS entry_count,
            countIf(is_exit) AS exit_count,
            countIf(visible_ms > 0) AS told,
            sum(visible_ms) AS visible,
            min(viewed_at) AS first_view,
            max(viewed_at) AS last_view
        FROM {database}.viewed_pages
        GROUP BY site, page
    )
SELECT
    c.site AS site,
    substringIndex(c.page, '/', 1) AS page_host,
    substring(c.page, length(page_host) + 1) AS page_path,
    t.last_title AS page_title,
    c.view_count AS views,
    c.visitor_count AS visitors,
    c.session_count AS sessions,
    c.entry_count AS entries,
    c.exit_count AS exits,
    if(c.told = 0, 0, c.visible / c.told) AS average_visible_ms,
    c.visible AS total_visible_ms,
    c.first_view AS first_viewed_at,
    c.last_view AS last_viewed_at
FROM counted AS c
LEFT ANY JOIN titles AS t ON c.site = t.site AND c.page = t.page
COMMENT 'Pages, one row each: how often, by how many and how long they were viewed. The time of a page view is the largest that any of its hits told. Robots are left out.';

CREATE OR REPLACE VIEW {database}.pages_between{on_cluster}
(
    page_host String COMMENT 'Host of the page.',
    page_path String COMMENT 'Path of the page.',
    page_title String COMMENT 'Title, as told last.',
    views UInt64 COMMENT 'Page views.',
    visitors UInt64 COMMENT 'Visitors who viewed it.',
    sessions UInt64 COMMENT 'Visits in which it was viewed.',
    entries UInt64 COMMENT 'Visits that began with it.',
    exits UInt64 COMMENT 'Visits in which it was the last page.',
    average_visible_ms Float64 COMMENT 'Time that a view of it was visible, milliseconds, over the views that told; 0 where none did.',
    total_visible_ms UInt64 COMMENT 'Time that all views of it were visible, milliseconds.'
)
SQL SECURITY DEFINER
AS
WITH
    titles AS
    (
        SELECT page, argMaxMerge(title) AS last_title
        FROM {database}.page_titles
        WHERE site = {site:String}
        GROUP BY page
    ),
    -- What viewed_pages_between says, of which a view in between costs more to plan, and a visitor's number is made once for
    -- each visit instead of once for each page.
    seen AS
    (
        SELECT page, visitor, visible AS visible_ms, occurrence = 1 AS is_first_in_session, place = 1 AS is_entry, left = 1 AS is_exit
        FROM
        (
            SELECT cityHash64(visitor_id) AS visitor, viewed_pages, viewed_for_ms, arrayEnumerate(viewed_pages) AS places
            FROM {database}.settled_sessions FINAL
            WHERE NOT is_gone AND site = {site:String} AND day BETWEEN {first_day:Date} AND {last_day:Date}
        )
        ARRAY JOIN viewed_pages AS page, viewed_for_ms AS visible, places AS place, arrayReverse(places) AS left, arrayEnumerateUniq(viewed_pages) AS occurrence
        UNION ALL
        SELECT page, 0, visible, false, false, false
        FROM
        (
            SELECT max(u.page) AS page, min(first_at) AS at, max(visible_ms) AS visible
            FROM {database}.unnamed_views AS u
            WHERE site = {site:String} AND received_on BETWEEN {first_day:Date} AND {last_day:Date} + 8
            GROUP BY view
            HAVING max(is_viewed) = 1
        )
        WHERE toDate(at) BETWEEN {first_day:Date} AND {last_day:Date}
    ),
    counted AS
    (
        SELECT
            page,
            count() AS view_count,
            uniqExactIf(visitor, is_first_in_session) AS visitor_count,
            countIf(is_first_in_session) AS session_count,
            countIf(is_entry) AS entry_count,
            countIf(is_exit) AS exit_count,
            countIf(visible_ms > 0) AS told,
            sum(visible_ms) AS visible
        FROM seen
        GROUP BY page
    )
SELECT
    substringIndex(c.page, '/', 1) AS page_host,
    substring(c.page, length(page_host) + 1) AS page_path,
    t.last_title AS page_title,
    c.view_count AS views,
    c.visitor_count AS visitors,
    c.session_count AS sessions,
    c.entry_count AS entries,
    c.exit_count AS exits,
    if(c.told = 0, 0, c.visible / c.told) AS average_visible_ms,
    c.visible AS total_visible_ms
FROM counted AS c
LEFT ANY JOIN titles AS t ON c.page = t.page
COMMENT 'Pages that were viewed in visits of some days, both included: pages_between(site = ..., first_day = ..., last_day = ...). Columns are those of pages.';

CREATE OR REPLACE VIEW {database}.page_days{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which the visits began, UTC.',
    page_host String COMMENT 'Host of the page.',
    page_path String COMMENT 'Path of the page.',
    views UInt64 COMMENT 'Page views.',
    visitors UInt64 COMMENT 'Visitors who viewed it on this day: those of several days do not add up.',
    sessions UInt64 COMMENT 'Visits in which it was viewed.',
    entries UInt64 COMMENT 'Visits that began with it.',
    exits UInt64 COMMENT 'Visits in which it was the last page.',
    views_with_time UInt64 COMMENT 'Page views that told how long they were visible.',
    total_visible_ms UInt64 COMMENT 'Time that all of them were visible, milliseconds.'
)
SQL SECURITY DEFINER
AS
WITH counted AS
    (
        SELECT
            site,
            day,
            page,
            count() AS view_count,
            uniqExactIf(cityHash64(visitor_id), is_first_in_session) AS visitor_count,
            countIf(is_first_in_session) AS session_count,
            countIf(is_entry) AS entry_count,
            countIf(is_exit) AS exit_count,
            countIf(visible_ms > 0) AS told,
            sum(visible_ms) AS visible
        FROM {database}.viewed_pages
        GROUP BY site, day, page
    )
SELECT
    site,
    day,
    substringIndex(page, '/', 1) AS page_host,
    substring(page, length(page_host) + 1) AS page_path,
    view_count AS views,
    visitor_count AS visitors,
    session_count AS sessions,
    entry_count AS entries,
    exit_count AS exits,
    told AS views_with_time,
    visible AS total_visible_ms
FROM counted
COMMENT 'Pages by day, one row for each. Robots are left out.';

-- By when pages were viewed, not by when visits began: one of days is in each of them, for up to a week.
CREATE OR REPLACE VIEW {database}.page_trend{on_cluster}
(
    time DateTime64(0, 'UTC') COMMENT 'When the hour, day or week begins.',
    page LowCardinality(String) COMMENT 'Page, host and path.',
    views UInt64 COMMENT 'Page views.',
    visitors UInt64 COMMENT 'Visitors who viewed it; those who are not named are left out.',
    sessions UInt64 COMMENT 'Visits in which it was viewed.',
    entries UInt64 COMMENT 'Visits that began with it.',
    exits UInt64 COMMENT 'Visits in which it was the last page.',
    views_with_time UInt64 COMMENT 'Page views that told how long they were visible: total_visible_ms / views_with_time is the average.',
    total_visible_ms UInt64 COMMENT 'Time that it was visible, milliseconds.'
)
SQL SECURITY DEFINER
AS SELECT
    dateTrunc({step:String}, viewed_at) AS time,
    page,
    count() AS views,
    uniqExactIf(visitor_id, visitor_id != '') AS visitors,
    uniqExactIf((visitor_id, session_id), session_id != toUUID('00000000-0000-0000-0000-000000000000')) AS sessions,
    countIf(is_entry) AS entries,
    countIf(is_exit) AS exits,
    countIf(visible_ms > 0) AS views_with_time,
    sum(visible_ms) AS total_visible_ms
FROM {database}.viewed_pages_between(first_day = greatest({first_day:Date}, toDate('1970-01-08')) - 7, last_day = {last_day:Date})
WHERE site = {site:String}
    AND if(startsWith({page:String}, '/'), substring(toString(page), position(page, '/')), toString(page)) LIKE {page:String}
    AND viewed_at >= toDateTime64({first_day:Date}, 3, 'UTC') AND viewed_at < toDateTime64({last_day:Date} + 1, 3, 'UTC')
GROUP BY time, page
COMMENT 'Views of pages by hour, day or week, days UTC and both included: page_trend(site = ..., first_day = ..., last_day = ..., step = ''hour'', page = ''www.example.com/%''). The page is a LIKE pattern, for the path where it begins with a slash, else for host and path. What was viewed over a week after its visit began may be left out.';

CREATE OR REPLACE VIEW {database}.downloads{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    target_url String COMMENT 'Address of the file, without its query, in which things may stand that pass, or that somebody typed.',
    file_name String COMMENT 'Last part of its path.',
    downloads UInt64 COMMENT 'Downloads.',
    visitors UInt64 COMMENT 'Visitors who downloaded it.',
    sessions UInt64 COMMENT 'Visits in which it was downloaded.',
    contacts Array(String) COMMENT 'Contacts whom these visitors are, at whatever time that was told.',
    first_downloaded_at DateTime64(3, 'UTC') COMMENT 'When it was downloaded first.',
    last_downloaded_at DateTime64(3, 'UTC') COMMENT 'When it was downloaded last.'
)
SQL SECURITY DEFINER
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    known AS
    (
        SELECT site, visitor_id, groupUniqArray(contact) AS people
        FROM {database}.contact_visitors
        GROUP BY site, visitor_id
    )
SELECT
    h.site AS site,
    {shown_target} AS target_url,
    decodeURLComponent(arrayElement(splitByChar('/', path(target_url)), -1)) AS file_name,
    uniqExact(h.hit_id) AS downloads,
    uniqExactIf(h.visitor_id, h.visitor_id != '') AS visitors,
    uniqExactIf((h.visitor_id, h.session_id), h.session_id != none) AS sessions,
    arraySort(groupUniqArrayArray(k.people)) AS contacts,
    min(h.occurred_at) AS first_downloaded_at,
    max(h.occurred_at) AS last_downloaded_at
FROM {database}.session_hits AS h
LEFT ANY JOIN known AS k ON h.site = k.site AND h.visitor_id = k.visitor_id
WHERE h.kind = 'download'
GROUP BY h.site, target_url
COMMENT 'Files that were downloaded, one row each. Robots are left out.';

CREATE OR REPLACE VIEW {database}.outlinks{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    target_url String COMMENT 'Address of the page that was followed, without its query, in which things may stand that somebody typed; of what is no page, as a mail or a call, the scheme alone: mailto:, tel:.',
    target_host String COMMENT 'Its host.',
    outlinks UInt64 COMMENT 'How often it was followed.',
    visitors UInt64 COMMENT 'Visitors who followed it.',
    sessions UInt64 COMMENT 'Visits in which it was followed.',
    first_followed_at DateTime64(3, 'UTC') COMMENT 'When it was followed first.',
    last_followed_at DateTime64(3, 'UTC') COMMENT 'When it was followed last.'
)
SQL SECURITY DEFINER
AS SELECT
    h.site AS site,
    {shown_target} AS target_url,
    domain(target_url) AS target_host,
    uniqExact(h.hit_id) AS outlinks,
    uniqExactIf(h.visitor_id, h.visitor_id != '') AS visitors,
    uniqExactIf((h.visitor_id, h.session_id), h.session_id != toUUID('00000000-0000-0000-0000-000000000000')) AS sessions,
    min(h.occurred_at) AS first_followed_at,
    max(h.occurred_at) AS last_followed_at
FROM {database}.session_hits AS h
WHERE h.kind = 'outlink'
GROUP BY h.site, target_url
COMMENT 'Links to other sites that were followed, one row each. Robots are left out.';

CREATE OR REPLACE VIEW {database}.searches{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    term String COMMENT 'What was searched for on the site, in lower case, without space around it.',
    searches UInt64 COMMENT 'How often.',
    visitors UInt64 COMMENT 'Visitors who did.',
    sessions UInt64 COMMENT 'Visits in which it was.',
    first_searched_at DateTime64(3, 'UTC') COMMENT 'When it was searched for first.',
    last_searched_at DateTime64(3, 'UTC') COMMENT 'When it was searched for last.'
)
SQL SECURITY DEFINER
AS SELECT
    h.site AS site,
    lowerUTF8(trim(h.search_term)) AS term,
    uniqExact(h.hit_id) AS searches,
    uniqExactIf(h.visitor_id, h.visitor_id != '') AS visitors,
    uniqExactIf((h.visitor_id, h.session_id), h.session_id != toUUID('00000000-0000-0000-0000-000000000000')) AS sessions,
    min(h.occurred_at) AS first_searched_at,
    max(h.occurred_at) AS last_searched_at
FROM {database}.session_hits AS h
WHERE h.kind = 'search'
GROUP BY h.site, term
COMMENT 'What was searched for on the sites, one row for each term. Robots are left out.';

CREATE OR REPLACE VIEW {database}.content_between{on_cluster}
(
    item String COMMENT 'File or link, as in downloads and outlinks; term in lower case; or name of the event.',
    times UInt64 COMMENT 'How often.',
    visitors UInt64 COMMENT 'By how many visitors; those who are not named are left out.',
    first_at DateTime64(3, 'UTC') COMMENT 'When for the first time.',
    last_at DateTime64(3, 'UTC') COMMENT 'When for the last time.'
)
SQL SECURITY DEFINER
AS SELECT
    if({kind:String} = 'search', lowerUTF8(trim(h.search_term)), if({kind:String} = 'event', toString(h.event_name), {shown_target})) AS item,
    uniqExact(h.hit_id) AS times,
    uniqExactIf(h.visitor_id, h.visitor_id != '') AS visitors,
    min(h.occurred_at) AS first_at,
    max(h.occurred_at) AS last_at
FROM {database}.hits AS h
WHERE h.site = {site:String} AND h.kind = {kind:String} AND NOT h.is_bot
    AND h.occurred_at >= toDateTime64({first_day:Date}, 3, 'UTC') AND h.occurred_at < toDateTime64({last_day:Date} + 1, 3, 'UTC')
    AND toDate(h.received_at) BETWEEN {first_day:Date} AND {last_day:Date} + 8
GROUP BY item
COMMENT 'Files, links, searches or events of some days, both included: content_between(site = ..., first_day = ..., last_day = ..., kind = ''download''), or outlink, search, event.';

CREATE OR REPLACE VIEW {database}.content_trend{on_cluster}
(
    time DateTime64(0, 'UTC') COMMENT 'When the hour, day or week begins.',
    item String COMMENT 'File or link, as in downloads and outlinks; term in lower case; or name of the event.',
    times UInt64 COMMENT 'How often.',
    visitors UInt64 COMMENT 'By how many visitors; those who are not named are left out.'
)
SQL SECURITY DEFINER
AS SELECT
    dateTrunc({step:String}, at) AS time,
    item,
    count() AS times,
    uniqExactIf(visitor_id, visitor_id != '') AS visitors
FROM
(
    -- A hit may be here twice.
    SELECT hit_id, item, min(occurred_at) AS at, any(visitor_id) AS visitor_id
    FROM
    (
        SELECT
            hit_id,
            visitor_id,
            occurred_at,
            if({kind:String} = 'search', lowerUTF8(trim(h.search_term)), if({kind:String} = 'event', toString(h.event_name), {shown_target})) AS item
        FROM {database}.hits AS h
        WHERE h.site = {site:String} AND h.kind = {kind:String} AND NOT h.is_bot
            AND toDate(h.received_at) BETWEEN {first_day:Date} AND {last_day:Date} + 8
    )
    WHERE item LIKE {item:String}
    GROUP BY hit_id, item
)
WHERE at >= toDateTime64({first_day:Date}, 3, 'UTC') AND at < toDateTime64({last_day:Date} + 1, 3, 'UTC')
GROUP BY time, item
COMMENT 'Files, links, searches or events by hour, day or week, days UTC and both included: content_trend(site = ..., first_day = ..., last_day = ..., step = ''day'', kind = ''download'', item = ''%.pdf''), or outlink, search, event. The item is a LIKE pattern.';
