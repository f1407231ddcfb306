-- Funnels, retention and paths: views that take parameters, as in
-- SELECT * FROM funnel(site = 'shop', first_day = '2026-03-01', last_day = '2026-03-31',
--     steps = ['/', '/prices%', 'form'], window_seconds = 604800, strict = 0)
--
-- Days are UTC, and both are included. A hit arrives up to seven days after it happened, never before: the conditions on
-- received_at, which reach the table's key, allow for that. Each hit counts once, however often its row is there. Funnels are of
-- the hits that are kept; retention and paths of visits, which may be kept for longer.
--
-- A step is a kind of hit, and after a colon a LIKE pattern (% is any text, _ any character) for what that kind is about:
-- 'page_view:/prices%', 'event:signup', 'download:%.pdf', 'search:%pump%', 'form'. What begins with a slash is a page view.
-- An event is about its name, a download or outlink about its target, a search about its term, everything else about the
-- page: its path where the pattern begins with a slash, else its host and path. Of targets the query and fragment are cut off,
-- what logs in, and what follows mailto: or tel:, as whoever may not read these could guess them by patterns. 'goal:Order' is the goal of that
-- name, reached by the hits that conversions has for it: the pattern of a goal is for the path in any case, and for whole targets.
--
-- These views, and all after them, run with the rights of whoever migrated: readers need no rights on what lies below, and
-- may be kept from columns of it.

CREATE OR REPLACE VIEW {database}.funnel_visitors{on_cluster}
(
    visitor_id String COMMENT 'Who, unique within the site.',
    steps_taken UInt8 COMMENT 'How many steps the visitor took, in order and within the window of the first.',
    first_hit_at DateTime64(3, 'UTC') COMMENT 'When the visitor first did what is any of the steps.',
    last_hit_at DateTime64(3, 'UTC') COMMENT 'When the visitor last did what is any of the steps.'
)
SQL SECURITY DEFINER
AS
WITH
    (SELECT mapFromArrays(groupArray(concat('goal:', goal)), groupArray(concat(kind, ':', pattern))) FROM {database}.goals FINAL WHERE site = {site:String} AND is_active) AS goals_of_site,
    arrayMap(step -> multiIf(startsWith(step, '/'), concat('page_view:', step), mapContains(goals_of_site, step), goals_of_site[step], step), {steps:Array(String)}) AS steps_in_full,
    arrayMap((step, in_full) -> (splitByChar(':', in_full)[1], if(position(in_full, ':') = 0, '%', substring(in_full, position(in_full, ':') + 1)), mapContains(goals_of_site, step)), {steps:Array(String)}, steps_in_full) AS asked,
    toInt64({window_seconds:UInt32}) * 1000 AS window_ms,
    taken AS
    (
        SELECT
            h.visitor_id AS who,
            -- As a number an id sorts by time, not as ClickHouse sorts it.
            toUInt128(h.hit_id) AS hit,
            toUnixTimestamp64Milli(h.occurred_at) AS at,
            -- The tag tells a search in the same moment as the page view of its results, under whichever id.
            h.kind = 'search' AS is_search,
            multiIf(h.kind = 'event', toString(h.event_name), h.kind IN ('download', 'outlink'), h.target_url, h.kind = 'search', h.search_term, toString(h.page_path)) AS about,
            multiIf(h.kind IN ('event', 'search'), about, h.kind IN ('download', 'outlink'), {shown_target}, concat(h.page_host, h.page_path)) AS about_in_full,
            arrayMap(step -> h.kind = step.1 AND if(step.3 OR (startsWith(step.2, '/') AND h.kind NOT IN ('download', 'outlink')), about, about_in_full) LIKE step.2, asked) AS fits
        FROM {database}.hits AS h
        WHERE h.site = {site:String} AND NOT h.is_bot AND h.visitor_id != ''
            AND h.occurred_at >= toDateTime64({first_day:Date}, 3, 'UTC') AND h.occurred_at < toDateTime64({last_day:Date} + 1, 3, 'UTC')
            AND h.received_at >= toDateTime64({first_day:Date}, 3, 'UTC') AND h.received_at < toDateTime64({last_day:Date} + 8, 3, 'UTC')
            AND has(asked.1, toString(h.kind))
            AND has(fits, 1)
    ),
    ordered AS
    (
        -- A hit that is there twice is one, the first.
        SELECT who, arraySort(groupArray((at, is_search, hit, fits))) AS told, arrayFilter((hit, occurrence) -> occurrence = 1, told, arrayEnumerateUniq(told.3)) AS hits
        FROM taken
        GROUP BY who
        HAVING arrayExists(hit -> hit.4[1], hits)
    )
-- The fold keeps for each step the start of the latest chain that has come so far (0: none), and the furthest step. Each
-- hit looks at the chains from before it, so that it takes one step and not two. In a strict funnel a chain ends where
-- another step of the funnel comes between; a step that is merely repeated ends nothing.
SELECT
    who AS visitor_id,
    arrayFold((chains, hit) ->
        (
            arrayMap((start, before, fit) -> multiIf(fit AND before > 0 AND hit.1 - before <= window_ms, before, fit OR {strict:UInt8} = 0, start, 0),
                chains.1, arrayPushFront(arrayPopBack(chains.1), hit.1), hit.4) AS next,
            greatest(chains.2, toUInt8(arrayLastIndex(start -> start > 0, next)))
        ),
        hits, (arrayMap(step -> toInt64(0), asked), toUInt8(0))).2 AS steps_taken,
    fromUnixTimestamp64Milli(hits[1].1, 'UTC') AS first_hit_at,
    fromUnixTimestamp64Milli(hits[-1].1, 'UTC') AS last_hit_at
FROM ordered
COMMENT 'How far each visitor came in a funnel, those who took its first step. Parameters: site; first_day and last_day, UTC, both included; steps, in order, as in [''/'', ''page_view:/prices%'', ''event:signup'', ''form'', ''goal:Order'']; window_seconds, from the first step to the last; strict, 1 where no other step of the funnel may come between, else 0.';

CREATE OR REPLACE VIEW {database}.funnel{on_cluster}
(
    step UInt8 COMMENT 'Number of the step, from 1.',
    condition String COMMENT 'The step, as it was asked for.',
    visitors UInt64 COMMENT 'Visitors who came so far, or further.',
    share_of_first Float64 COMMENT 'Share of them among those who took the first step, 0 to 1.',
    share_of_previous Float64 COMMENT 'Share of them among those who took the step before, 0 to 1.'
)
SQL SECURITY DEFINER
AS
WITH
    {steps:Array(String)} AS asked,
    arrayReverse(arrayCumSum(arrayReverse(arrayMap(step -> counts[toUInt8(step)], arrayEnumerate(asked))))) AS so_far
SELECT
    toUInt8(number) AS step,
    asked[number] AS condition,
    toUInt64(so_far[number]) AS visitors,
    if(so_far[1] = 0, 0, so_far[number] / so_far[1]) AS share_of_first,
    if(number = 1, if(so_far[1] = 0, 0, 1), if(so_far[number - 1] = 0, 0, so_far[number] / so_far[number - 1])) AS share_of_previous
FROM
(
    SELECT sumMap(map(steps_taken, toUInt64(1))) AS counts
    FROM {database}.funnel_visitors(site = {site:String}, first_day = {first_day:Date}, last_day = {last_day:Date}, steps = {steps:Array(String)}, window_seconds = {window_seconds:UInt32}, strict = {strict:UInt8})
)
ARRAY JOIN arrayEnumerate(asked) AS number
COMMENT 'How many visitors took each step of a funnel. Parameters as of funnel_visitors, which names them.';

-- Retention is made of visits, as those know the first time ever also where hits are kept for less time than they are. One
-- counts when it began and when its pages were viewed; one in which nothing was viewed or done, as of heartbeats, is none.
CREATE OR REPLACE VIEW {database}.retention{on_cluster}
(
    cohort Date COMMENT 'First day of the period in which these visitors came for the first time, as far back as visits are kept.',
    period UInt32 COMMENT 'How many periods later: 0 is the first itself.',
    visitors UInt64 COMMENT 'Visitors who came in that period.',
    cohort_visitors UInt64 COMMENT 'Visitors of the cohort.',
    share Float64 COMMENT 'Share of the cohort that came, 0 to 1.'
)
SQL SECURITY DEFINER
AS
WITH
    came AS
    (
        SELECT
            s.visitor_id AS who,
            arraySort(arrayFilter(began -> began <= {last_day:Date}, groupUniqArrayArray(arrayMap(ms -> toDate(dateTrunc({period:String}, s.started_at + toIntervalMillisecond(ms), 'UTC')), arrayPushFront(s.viewed_at_ms, 0))))) AS periods
        FROM {database}.sessions AS s
        WHERE s.site = {site:String} AND s.day <= {last_day:Date} AND NOT s.is_anonymous AND s.page_views + s.events > 0
        GROUP BY who
        HAVING periods[1] >= toDate(dateTrunc({period:String}, {first_day:Date}))
    ),
    counted AS
    (
        SELECT periods[1] AS first, count() AS size, sumMap(mapFromArrays(arrayMap(day -> toUInt32(dateDiff({period:String}, periods[1], day)), periods), arrayMap(day -> toUInt64(1), periods))) AS counts
        FROM came
        GROUP BY first
    )
SELECT
    first AS cohort,
    toUInt32(number) AS period,
    counts[toUInt32(number)] AS visitors,
    size AS cohort_visitors,
    visitors / size AS share
FROM counted
ARRAY JOIN range(toUInt32(dateDiff({period:String}, first, {last_day:Date})) + 1) AS number
COMMENT 'Who comes back: visitors by the period of their first visit that is kept, and how many of them came in each period after it. Visitors who can''t be recognised on another day are left out, and so are robots. Parameters: site; first_day and last_day, UTC, both included; period: day, week (from Monday) or month.';

CREATE OR REPLACE VIEW {database}.paths{on_cluster}
(
    position String COMMENT 'before, or after.',
    page String COMMENT 'Page that was viewed just before or after in the same visit, host and path; (entry) where the visit began with the page in question, (exit) where it ended with it.',
    page_views UInt64 COMMENT 'Views of the page in question that it was so for.',
    share Float64 COMMENT 'Their share among all views of the page in question, 0 to 1.'
)
SQL SECURITY DEFINER
AS
WITH
    {page:String} AS wanted,
    visits AS
    (
        SELECT s.viewed_pages AS viewed,
            arrayMap(page -> if(startsWith(wanted, '/'), substring(page, position(page, '/')), page) LIKE wanted, viewed) AS are_wanted
        FROM {database}.sessions AS s
        WHERE s.site = {site:String} AND s.day BETWEEN {first_day:Date} AND {last_day:Date} AND has(are_wanted, 1)
    ),
    neighbours AS
    (
        SELECT arrayJoin(arrayFlatten(arrayMap((is_wanted, before, after) -> if(is_wanted, [('before', toString(before)), ('after', toString(after))], []),
            are_wanted,
            arrayPushFront(arrayPopBack(viewed), '(entry)'),
            arrayPushBack(arrayPopFront(viewed), '(exit)')))) AS neighbour
        FROM visits
    )
SELECT
    neighbour.1 AS position,
    neighbour.2 AS page,
    count() AS page_views,
    page_views / sum(page_views) OVER (PARTITION BY position) AS share
FROM neighbours
GROUP BY position, page
COMMENT 'What came just before and just after a page in the same visit. Parameters: site; first_day and last_day, UTC, both included, on which visits began; page: a LIKE pattern, for the path where it begins with a slash, else for host and path.';
