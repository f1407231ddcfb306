-- Who is worth a call: rules that give points for what visitors do, and what they add up to today, on each day, and
-- where they crossed a threshold.
--
-- Rules and thresholds are rows. The newest row of one counts, so it is changed by inserting it again and taken away by
-- inserting it with is_active = false, for all hits at once, those from before it too. Points decay by whole days, UTC:
-- those of today count whole, those of one half-life ago half. That makes the score of a day the same whenever it is
-- asked for, under the same rules and as long as all hits from before it are kept, and the score now that of today. Nothing is
-- kept but hits and rules: once a hit's time is over or it was erased, its points are gone from each day, the past ones too. The
-- cap holds for a rule and a visitor after the decay, in both directions.

CREATE TABLE IF NOT EXISTS {database}.score_rules{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    rule String COMMENT 'Name of the rule.',
    kind String DEFAULT '' COMMENT 'Kind of hit that it is for, as in hits; empty for all but heartbeats.',
    event_name String DEFAULT '' COMMENT 'LIKE pattern for the name of a custom event; empty for any.',
    url_pattern String DEFAULT '' COMMENT 'LIKE pattern: of a download or outlink for its target, else for the page, whose path is meant where the pattern begins with a slash, else host and path; empty for any.',
    property String DEFAULT '' COMMENT 'Name of a property that the hit must have; empty where none is needed.',
    property_value String DEFAULT '' COMMENT 'LIKE pattern for its value; empty for any.',
    points Float64 COMMENT 'Points for each such hit; less than 0 for what speaks against a call.',
    half_life_days Float64 DEFAULT 0 COMMENT 'Days after which points count half; 0 where they always count whole.',
    cap Float64 DEFAULT 0 COMMENT 'Most that the rule adds to a visitor''s score, or takes from it; 0 for no limit.',
    is_active Bool DEFAULT true COMMENT 'False where the rule is no more.',
    changed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this was said; the newest row of a rule counts.',
    CONSTRAINT rule_is_named CHECK site != '' AND rule != '',
    CONSTRAINT kind_is_one CHECK kind IN ('', 'page_view', 'event', 'download', 'outlink', 'form', 'identify', 'mail_open', 'search'),
    CONSTRAINT numbers_are_sound CHECK isFinite(points) AND isFinite(half_life_days) AND half_life_days >= 0 AND isFinite(cap) AND cap >= 0
)
ENGINE = {engine}ReplacingMergeTree(changed_at)
ORDER BY (site, rule)
-- The same may be written again after its contrary: no row is to be taken for a repetition.
SETTINGS replicated_deduplication_window = 0
COMMENT 'Rules that give points to visitors, for lead_scores and what belongs to it. Rules of the operator, no person''s data.';

CREATE TABLE IF NOT EXISTS {database}.score_thresholds{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    threshold String COMMENT 'Name of the threshold, such as hot.',
    score Float64 COMMENT 'Score from which on it is reached.',
    is_active Bool DEFAULT true COMMENT 'False where the threshold is no more.',
    changed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this was said; the newest row of a threshold counts.',
    CONSTRAINT threshold_is_named CHECK site != '' AND threshold != ''
)
ENGINE = {engine}ReplacingMergeTree(changed_at)
ORDER BY (site, threshold)
-- The same may be written again after its contrary: no row is to be taken for a repetition.
SETTINGS replicated_deduplication_window = 0
COMMENT 'Scores that somebody wants to hear of, for lead_score_crossings. Rules of the operator, no person''s data.';

-- Rules that ask for a property read the properties of hits, which costs more than all else: only of sites that have
-- such rules.
CREATE OR REPLACE VIEW {database}.lead_points{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    rule String COMMENT 'Rule that gives the points.',
    day Date COMMENT 'Day on which they were earned, UTC.',
    hits UInt64 COMMENT 'Hits that the rule is for.',
    points Float64 COMMENT 'Points for them, before any decay.',
    half_life_days Float64 COMMENT 'Days after which they count half; 0 where they always count whole.',
    cap Float64 COMMENT 'Most that the rule adds to a visitor''s score, or takes from it; 0 for no limit.'
)
SQL SECURITY DEFINER
AS
SELECT
    site,
    visitor_id,
    rule,
    day,
    uniqExact(hit_id) AS hits,
    hits * any(rule_points) AS points,
    any(rule_half_life) AS half_life_days,
    any(rule_cap) AS cap
FROM
(
    SELECT h.site AS site, h.visitor_id AS visitor_id, r.rule AS rule, toDate(h.occurred_at) AS day, h.hit_id AS hit_id,
        r.points AS rule_points, r.half_life_days AS rule_half_life, r.cap AS rule_cap
    FROM {database}.hits AS h
    INNER JOIN (SELECT * FROM {database}.score_rules FINAL WHERE is_active AND property = '') AS r ON h.site = r.site
    WHERE NOT h.is_bot AND h.visitor_id != '' AND h.kind != 'heartbeat'
        AND (r.kind = '' OR h.kind = r.kind)
        AND (r.event_name = '' OR (h.kind = 'event' AND h.event_name LIKE r.event_name))
        AND (r.url_pattern = '' OR multiIf(h.kind IN ('download', 'outlink'), h.target_url, startsWith(r.url_pattern, '/'), toString(h.page_path), concat(h.page_host, h.page_path)) LIKE r.url_pattern)
    UNION ALL
    SELECT h.site AS site, h.visitor_id AS visitor_id, r.rule AS rule, toDate(h.occurred_at) AS day, h.hit_id AS hit_id,
        r.points AS rule_points, r.half_life_days AS rule_half_life, r.cap AS rule_cap
    FROM {database}.hits AS h
    INNER JOIN (SELECT * FROM {database}.score_rules FINAL WHERE is_active AND property != '') AS r ON h.site = r.site
    WHERE NOT h.is_bot AND h.visitor_id != '' AND h.kind != 'heartbeat'
        AND h.site IN (SELECT site FROM {database}.score_rules FINAL WHERE is_active AND property != '')
        AND (r.kind = '' OR h.kind = r.kind)
        AND (r.event_name = '' OR (h.kind = 'event' AND h.event_name LIKE r.event_name))
        AND (r.url_pattern = '' OR multiIf(h.kind IN ('download', 'outlink'), h.target_url, startsWith(r.url_pattern, '/'), toString(h.page_path), concat(h.page_host, h.page_path)) LIKE r.url_pattern)
        AND mapContains(h.properties, r.property) AND (r.property_value = '' OR h.properties[r.property] LIKE r.property_value)
)
WHERE (site, visitor_id) NOT IN (SELECT site, visitor_id FROM {database}.objectors)
GROUP BY site, visitor_id, rule, day
COMMENT 'Points that visitors earned, by rule and day, before decay and cap: what the views of lead scores are made of. Robots are left out, and who objects.';

CREATE OR REPLACE VIEW {database}.lead_score_parts{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    rule String COMMENT 'Rule that gave the points.',
    hits UInt64 COMMENT 'Hits that the rule is for, at whatever time.',
    points Float64 COMMENT 'Points for them, before decay and cap.',
    score Float64 COMMENT 'What they add to the score today, after decay and cap.',
    first_day Date COMMENT 'Day of the first of these hits, UTC.',
    last_day Date COMMENT 'Day of the last of these hits, UTC.'
)
SQL SECURITY DEFINER
AS
WITH decayed AS
    (
        SELECT p.site AS site, p.visitor_id AS visitor_id, p.rule AS rule,
            sum(p.hits) AS all_hits,
            sum(p.points) AS all_points,
            sum(p.points * if(p.half_life_days = 0, 1, exp2(-dateDiff('day', p.day, toDate(now('UTC'))) / p.half_life_days))) AS score,
            if(any(p.cap) = 0, inf, any(p.cap)) AS limit_of_rule,
            min(p.day) AS first_day,
            max(p.day) AS last_day
        FROM {database}.lead_points AS p
        GROUP BY site, visitor_id, rule
    )
SELECT site, visitor_id, rule, all_hits AS hits, all_points AS points, greatest(-limit_of_rule, least(limit_of_rule, d.score)) AS score, first_day, last_day
FROM decayed AS d
COMMENT 'What the score of each visitor is made up of today, one row for each rule. Robots are left out.';

CREATE OR REPLACE VIEW {database}.lead_scores{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    score Float64 COMMENT 'Score today: the sum of what the rules add, each after its decay and cap.',
    parts Array(Tuple(rule String, score Float64)) COMMENT 'What each rule adds, the largest first.',
    thresholds Array(String) COMMENT 'Thresholds that are reached today, the highest first.',
    last_day Date COMMENT 'Day of the last hit that gave points, UTC.'
)
SQL SECURITY DEFINER
AS
WITH summed AS
    (
        SELECT p.site AS site, p.visitor_id AS visitor_id, sum(p.score) AS total,
            arraySort(part -> (-part.2, part.1), groupArray((p.rule, p.score))) AS sorted_parts,
            max(p.last_day) AS last
        FROM {database}.lead_score_parts AS p
        GROUP BY site, visitor_id
    ),
    named AS
    (
        SELECT site AS threshold_site, arrayReverseSort(groupArray((score, threshold))) AS levels
        FROM {database}.score_thresholds FINAL
        WHERE is_active
        GROUP BY site
    )
SELECT s.site AS site, s.visitor_id AS visitor_id, s.total AS score,
    CAST(s.sorted_parts, 'Array(Tuple(rule String, score Float64))') AS parts,
    arrayMap(level -> level.2, arrayFilter(level -> s.total >= level.1, n.levels)) AS thresholds,
    s.last AS last_day
FROM summed AS s
LEFT ANY JOIN named AS n ON s.site = n.threshold_site
COMMENT 'Who is worth a call: the score of each visitor who earned points, and what made it up. Rules are the rows of score_rules. Robots are left out.';

CREATE OR REPLACE VIEW {database}.lead_score_history{on_cluster}
(
    visitor_id String COMMENT 'Who, unique within the site.',
    day Date COMMENT 'Day, UTC; from the first on which points were earned.',
    score Float64 COMMENT 'Score at the end of that day.'
)
SQL SECURITY DEFINER
AS
WITH
    by_rule AS
    (
        SELECT p.visitor_id AS who, p.rule AS rule, groupArray((p.day, p.points)) AS earned, any(p.half_life_days) AS half_life,
            if(any(p.cap) = 0, inf, any(p.cap)) AS limit_of_rule
        FROM {database}.lead_points AS p
        WHERE p.site = {site:String} AND p.day <= {last_day:Date}
        GROUP BY who, rule
    ),
    days AS
    (
        SELECT who, limit_of_rule, asked,
            arraySum(arrayMap(gain -> gain.2 * if(half_life = 0, 1, exp2(-dateDiff('day', gain.1, asked) / half_life)), arrayFilter(gain -> gain.1 <= asked, earned))) AS decayed,
            arrayExists(gain -> gain.1 <= asked, earned) AS is_earned
        FROM by_rule
        ARRAY JOIN arrayMap(number -> {first_day:Date} + number, range(toUInt32(greatest(0, dateDiff('day', {first_day:Date}, {last_day:Date}) + 1)))) AS asked
    )
SELECT who AS visitor_id, asked AS day, sum(greatest(-limit_of_rule, least(limit_of_rule, decayed))) AS score
FROM days
GROUP BY who, asked
HAVING max(is_earned)
COMMENT 'The score of each visitor at the end of each day. Parameters: site; first_day and last_day, UTC, both included. With a condition on visitor_id it reads that visitor only.';

CREATE OR REPLACE VIEW {database}.lead_score_crossings{on_cluster}
(
    visitor_id String COMMENT 'Who, unique within the site.',
    day Date COMMENT 'Day on which the threshold was crossed, UTC.',
    threshold String COMMENT 'Which.',
    direction String COMMENT 'up where it was reached, down where the score fell below it.',
    score_before Float64 COMMENT 'Score at the end of the day before.',
    score Float64 COMMENT 'Score at the end of that day.'
)
SQL SECURITY DEFINER
AS
WITH steps AS
    (
        SELECT visitor_id AS who, day AS on_day, score AS after,
            lagInFrame(score, 1, 0.) OVER (PARTITION BY visitor_id ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before
        FROM {database}.lead_score_history(site = {site:String}, first_day = {first_day:Date} - 1, last_day = {last_day:Date})
    )
SELECT s.who AS visitor_id, s.on_day AS day, t.threshold AS threshold, if(s.after >= t.score, 'up', 'down') AS direction, s.before AS score_before, s.after AS score
FROM steps AS s
CROSS JOIN (SELECT threshold, score FROM {database}.score_thresholds FINAL WHERE site = {site:String} AND is_active) AS t
WHERE s.on_day >= {first_day:Date} AND (s.before >= t.score) != (s.after >= t.score)
COMMENT 'When visitors reached a threshold or fell below it. Thresholds are the rows of score_thresholds. Parameters: site; first_day and last_day, UTC, both included.';
