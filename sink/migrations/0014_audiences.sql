-- Audiences: named conditions over one of the views, and who fits them since when.
--
-- `sink audiences define` checks a condition and writes it into audience_definitions; `sink audiences refresh` asks who
-- fits now, and writes into audience_changes who came in and who went out since the last time, nothing else. So that table
-- grows with changes, not with members, and holds the whole history. A change that is written twice, by two that refresh at
-- once, changes nothing: the first of equal changes in a row counts.
--
-- A person is erased from audiences by deleting all rows of audience_changes under (site, member), after their hits; a refresh
-- that asked before may write one after that, so that the sink that erases looks for such rows.

CREATE TABLE IF NOT EXISTS {database}.audience_definitions{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    audience String COMMENT 'Name of the audience.',
    members_are LowCardinality(String) COMMENT 'Who its members are: visitors or companies, which is also the view that the condition is about.',
    condition String COMMENT 'The condition, as `sink audiences define` took it. Written by that command only: a condition is checked again before it is used.',
    description String COMMENT 'What it is for, in somebody''s words.',
    purpose LowCardinality(String) DEFAULT '' COMMENT 'Purpose that it serves: personalisation, advertising or partner_sharing, and only who permits that is in it; empty where it is used for analysis alone.',
    is_active Bool DEFAULT true COMMENT 'False where the audience was dropped.',
    changed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this was said; the newest row of an audience counts.',
    CONSTRAINT audience_is_named CHECK site != '' AND audience != ''
)
ENGINE = {engine}ReplacingMergeTree(changed_at)
ORDER BY (site, audience)
-- The same may be written again after its contrary: no row is to be taken for a repetition.
SETTINGS replicated_deduplication_window = 0
COMMENT 'Audiences and their conditions. Written by `sink audiences`.';

CREATE TABLE IF NOT EXISTS {database}.audience_changes{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    audience LowCardinality(String) COMMENT 'Name of the audience.',
    member String CODEC(ZSTD(1)) COMMENT 'Who: visitor_id, or company as in companies.',
    changed_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)) COMMENT 'When a refresh found it.',
    is_member Bool COMMENT 'True where the member came in, false where it went out.',
    INDEX by_change changed_at TYPE minmax GRANULARITY 1
)
ENGINE = {engine}MergeTree
ORDER BY (site, audience, member, changed_at)
-- Who has been in for longer comes in anew with the refresh after it.
TTL toDate(changed_at) + INTERVAL 25 MONTH
SETTINGS non_replicated_deduplication_window = 1000, replicated_deduplication_window = 1000
COMMENT 'Who came into an audience and who went out, and when. See audience_members for who is in.';

CREATE OR REPLACE VIEW {database}.audience_members{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    audience String COMMENT 'Name of the audience.',
    member String COMMENT 'Who: visitor_id, or company as in companies.',
    entered_at DateTime64(3, 'UTC') COMMENT 'When a refresh first found them in.',
    left_at Nullable(DateTime64(3, 'UTC')) COMMENT 'When a refresh first found them out again; null where they are in.',
    is_member Bool COMMENT 'True where they are in now.'
)
SQL SECURITY DEFINER
AS
WITH
    grouped AS
    (
        SELECT site, audience, member, arraySort(groupArray((changed_at, is_member))) AS changes
        FROM {database}.audience_changes
        GROUP BY site, audience, member
    ),
    turned AS
    (
        SELECT site, audience, member,
            arrayFilter((change, before) -> change.2 != before, changes, arrayPushFront(arrayPopBack(changes.2), false)) AS turns
        FROM grouped
    )
SELECT
    t.site AS site,
    t.audience AS audience,
    t.member AS member,
    t.turns[2 * number - 1].1 AS entered_at,
    if(length(t.turns) >= 2 * number, t.turns[2 * number].1, NULL) AS left_at,
    CAST(length(t.turns) < 2 * number, 'Bool') AS is_member
FROM turned AS t
ARRAY JOIN range(1, toUInt64(intDiv(length(t.turns) + 1, 2)) + 1) AS number
COMMENT 'Who is or was in an audience, one row for each stay. Ask for is_member for those who are in now.';

CREATE OR REPLACE VIEW {database}.audiences{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    audience String COMMENT 'Name of the audience.',
    members_are LowCardinality(String) COMMENT 'Who its members are: visitors or companies.',
    condition String COMMENT 'The condition.',
    description String COMMENT 'What it is for.',
    purpose String COMMENT 'Purpose that it serves, which its members permit; empty for analysis alone.',
    defined_at DateTime64(3, 'UTC') COMMENT 'When it was last defined.',
    members UInt64 COMMENT 'How many are in now.',
    last_change_at Nullable(DateTime64(3, 'UTC')) COMMENT 'When a refresh last found somebody in or out; null where it never did.'
)
SQL SECURITY DEFINER
AS
SELECT d.site AS site, d.audience AS audience, d.members_are AS members_are, d.condition AS condition, d.description AS description, toString(d.purpose) AS purpose, d.changed_at AS defined_at,
    ifNull(c.inside, 0) AS members, c.last_change AS last_change_at
FROM (SELECT * FROM {database}.audience_definitions FINAL WHERE is_active) AS d
LEFT JOIN
(
    SELECT site, audience, toUInt64(countIf(is_inside)) AS inside, toNullable(max(last)) AS last_change
    FROM (SELECT site, audience, member, argMax(is_member, changed_at) AS is_inside, max(changed_at) AS last FROM {database}.audience_changes GROUP BY site, audience, member)
    GROUP BY site, audience
) AS c ON d.site = c.site AND d.audience = c.audience
COMMENT 'Audiences, and how many are in each.';

CREATE OR REPLACE VIEW {database}.audience_days{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    audience String COMMENT 'Name of the audience.',
    day Date COMMENT 'Day, UTC; each from the first change to today.',
    members UInt64 COMMENT 'How many were in at the end of the day.',
    entered UInt64 COMMENT 'How many came in on that day.',
    left UInt64 COMMENT 'How many went out on that day.'
)
SQL SECURITY DEFINER
AS
WITH
    turns AS
    (
        SELECT site, audience, toDate(entered_at) AS on_day, 1 AS came, 0 AS went FROM {database}.audience_members
        UNION ALL
        SELECT site, audience, toDate(assumeNotNull(left_at)) AS on_day, 0 AS came, 1 AS went FROM {database}.audience_members WHERE left_at IS NOT NULL
    ),
    counted AS
    (
        SELECT t.site AS site, t.audience AS audience, t.on_day AS on_day, toUInt64(sum(t.came)) AS came_in, toUInt64(sum(t.went)) AS went_out
        FROM turns AS t
        GROUP BY site, audience, on_day
    ),
    by_audience AS
    (
        SELECT site, audience, min(on_day) AS first_day, sumMap(map(on_day, came_in)) AS entries, sumMap(map(on_day, went_out)) AS exits
        FROM counted
        GROUP BY site, audience
    ),
    days AS
    (
        SELECT site, audience, entries, exits, arrayMap(number -> first_day + number, range(toUInt32(greatest(dateDiff('day', first_day, toDate(now('UTC'))), 0)) + 1)) AS all_days
        FROM by_audience
    )
SELECT
    d.site AS site,
    d.audience AS audience,
    on_day AS day,
    toUInt64(inside) AS members,
    came_in AS entered,
    went_out AS left
FROM days AS d
ARRAY JOIN
    all_days AS on_day,
    arrayMap(each -> entries[each], all_days) AS came_in,
    arrayMap(each -> exits[each], all_days) AS went_out,
    arrayCumSum(arrayMap(each -> toInt64(entries[each]) - toInt64(exits[each]), all_days)) AS inside
COMMENT 'How many were in each audience at the end of each day, and how many came in and went out.';
