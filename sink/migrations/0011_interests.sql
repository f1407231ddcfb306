-- What visitors are interested in: content groups, which are rules over the addresses of pages, and the score of each
-- visitor in each group, which decays by half in the group's half-life.
--
-- Rules are rows. The newest row of a group counts, so a rule is changed by inserting it again and taken away by
-- inserting it with is_active = false. It counts for all hits at once, those from before it too: nothing is kept but the
-- rules. Scores are read anew from hits at each question: the pages of the site are matched once, then its page views are
-- counted by day. Days are UTC.

CREATE TABLE IF NOT EXISTS {database}.content_groups{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    content_group String COMMENT 'Name of the group.',
    url_patterns Array(String) COMMENT 'LIKE patterns, one of which a page has to fit: for its path where the pattern begins with a slash, else for host and path.',
    weight Float64 DEFAULT 1 COMMENT 'What one page view counts.',
    half_life_days Float64 DEFAULT 30 COMMENT 'Days after which a page view counts half; 0 where it always counts whole.',
    is_active Bool DEFAULT true COMMENT 'False where the group is no more.',
    changed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this was said; the newest row of a group counts.',
    CONSTRAINT group_is_named CHECK site != '' AND content_group != '',
    CONSTRAINT half_life_is_no_less_than_nothing CHECK half_life_days >= 0 AND isFinite(half_life_days) AND isFinite(weight)
)
ENGINE = {engine}ReplacingMergeTree(changed_at)
ORDER BY (site, content_group)
-- The same may be written again after its contrary: no row is to be taken for a repetition.
SETTINGS replicated_deduplication_window = 0
COMMENT 'Groups of pages, for the views interests, contact_interests and company_interests. Rules of the operator, no person''s data.';

CREATE OR REPLACE VIEW {database}.content_group_pages{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    content_group String COMMENT 'Name of the group.',
    page_host LowCardinality(String) COMMENT 'Host of the page.',
    page_path LowCardinality(String) COMMENT 'Path of the page.',
    weight Float64 COMMENT 'What one view of it counts.',
    half_life_days Float64 COMMENT 'Days after which a view counts half; 0 where it always counts whole.'
)
SQL SECURITY DEFINER
AS
SELECT p.site AS site, g.content_group AS content_group, p.page_host AS page_host, p.page_path AS page_path, g.weight AS weight, g.half_life_days AS half_life_days
FROM (SELECT DISTINCT site, page_host, page_path FROM {database}.hits WHERE kind = 'page_view' AND NOT is_bot) AS p
INNER JOIN (SELECT site, content_group, url_patterns, weight, half_life_days FROM {database}.content_groups FINAL WHERE is_active) AS g ON p.site = g.site
WHERE arrayExists(pattern -> if(startsWith(pattern, '/'), toString(p.page_path), concat(p.page_host, p.page_path)) LIKE pattern, g.url_patterns)
COMMENT 'The pages of each content group: to see whether the patterns say what was meant. Pages that only robots viewed are left out.';

CREATE OR REPLACE VIEW {database}.interest_days{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    content_group String COMMENT 'Group of pages.',
    day Date COMMENT 'Day, UTC.',
    page_views UInt64 COMMENT 'Views of pages of the group.',
    score Float64 COMMENT 'What they count today: page views x weight, halved for each half-life that has passed since that day.'
)
SQL SECURITY DEFINER
AS
SELECT
    h.site AS site,
    h.visitor_id AS visitor_id,
    g.content_group AS content_group,
    toDate(h.occurred_at) AS day,
    uniqExact(h.hit_id) AS page_views,
    page_views * any(g.weight) * if(any(g.half_life_days) = 0, 1, exp2(-dateDiff('day', day, toDate(now('UTC'))) / any(g.half_life_days))) AS score
FROM {database}.hits AS h
INNER JOIN {database}.content_group_pages AS g ON h.site = g.site AND h.page_host = g.page_host AND h.page_path = g.page_path
WHERE h.kind = 'page_view' AND NOT h.is_bot AND h.visitor_id != ''
GROUP BY site, visitor_id, content_group, day
COMMENT 'Page views by visitor, content group and day, and what they count today: what the views of interests are made of. Robots are left out.';

CREATE OR REPLACE VIEW {database}.interests{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    content_group String COMMENT 'Group of pages.',
    score Float64 COMMENT 'Interest today: page views x weight, each halved for each half-life that has passed since its day.',
    share Float64 COMMENT 'Share of the scores of all groups of the visitor, 0 to 1.',
    page_views UInt64 COMMENT 'Views of pages of the group, at whatever time.',
    first_day Date COMMENT 'Day of the first of them, UTC.',
    last_day Date COMMENT 'Day of the last of them, UTC.'
)
SQL SECURITY DEFINER
AS
SELECT
    d.site AS site,
    d.visitor_id AS visitor_id,
    d.content_group AS content_group,
    sum(d.score) AS score,
    if(sum(score) OVER (PARTITION BY site, visitor_id) = 0, 0, score / sum(score) OVER (PARTITION BY site, visitor_id)) AS share,
    sum(d.page_views) AS page_views,
    min(d.day) AS first_day,
    max(d.day) AS last_day
FROM {database}.interest_days AS d
GROUP BY site, visitor_id, content_group
COMMENT 'What each visitor is interested in, one row for each content group. Groups are the rows of content_groups. Robots are left out.';
