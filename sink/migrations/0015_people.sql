-- Interests and scores of people and companies: those of their visitors, put together when they are asked for. So
-- recognising, merging or parting people changes those of people at once, and those of companies within a minute, as
-- settled_employers; also for what they did before.
--
-- A visitor who is several contacts, as on a shared computer, counts for each of them. For a company a visitor counts
-- whole, under the one company that is best known of them; for none where nothing is known but their internet provider, also
-- where that is somebody else's company.

CREATE OR REPLACE VIEW {database}.visitor_companies{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    company String COMMENT 'Company as in companies: its domain; where none is known, its name in lower case.',
    told_by String COMMENT 'How it is known: partner, contact_email or network.',
    is_provider Bool COMMENT 'True where nothing but the network tells, and that is an internet provider''s.'
)
SQL SECURITY DEFINER
AS
WITH
    (SELECT rules FROM {database}.network_rules) AS rules,
    -- A visit from home, through a provider, takes nobody from the company whose network they were seen in.
    seen AS
    (
        SELECT
            site,
            visitor_id,
            argMaxIf(named, (matched_how_well, is_visit, ended_at, session_id), named != ('', '')) AS of_partner,
            argMaxIf(connected, (NOT by_provider, is_visit, ended_at, session_id), connected != ('', '')) AS of_network,
            minIf(by_provider, connected != ('', '')) AS only_by_provider
        FROM
        (
            SELECT
                site,
                visitor_id,
                session_id,
                session_id != toUUID('00000000-0000-0000-0000-000000000000') AS is_visit,
                ended_at,
                (lowerUTF8(company_domain), lowerUTF8(company_name)) AS named,
                multiIf(partner_matched_by IN ('visitor_id', 'email_hash'), 2, partner_matched_by IN ('email_domain', 'company_domain'), 1, 0) AS matched_how_well,
                (lowerUTF8(network_domain) AS organisation_domain, lowerUTF8(network_organisation) AS organisation) AS connected,
                {of_provider} AS by_provider
            FROM
            (
                SELECT site, visitor_id, session_id, ended_at, company_domain, company_name, partner_matched_by, network_domain, network_organisation
                FROM {database}.settled_sessions FINAL
                WHERE NOT is_gone AND site != ''
                UNION ALL
                SELECT site, visitor_id, toUUID('00000000-0000-0000-0000-000000000000'), occurred_at, company_domain, company_name, partner_matched_by, network_domain, network_organisation
                FROM {database}.mail_opens
            )
        )
        GROUP BY site, visitor_id
    )
SELECT
    s.site AS site,
    s.visitor_id AS visitor_id,
    multiIf(
        s.of_partner.1 != '' OR s.of_partner.2 != '', if(s.of_partner.1 != '', s.of_partner.1, s.of_partner.2),
        e.domain != '', e.domain,
        if(s.of_network.1 != '', s.of_network.1, s.of_network.2)) AS company,
    multiIf(s.of_partner.1 != '' OR s.of_partner.2 != '', 'partner', e.domain != '', 'contact_email', 'network') AS told_by,
    CAST(told_by = 'network' AND s.only_by_provider, 'Bool') AS is_provider
FROM seen AS s
LEFT ANY JOIN (SELECT site, visitor_id, domain FROM {database}.settled_employers FINAL WHERE NOT is_gone) AS e ON s.site = e.site AND s.visitor_id = e.visitor_id
WHERE company != ''
COMMENT 'The company of each visitor, from the best that is known of any of their visits or of the mails that they opened, and of what is as good from the last visit, else the last mail: a partner''s word, an address, a network that is no provider''s. The view companies looks at each visit by itself, so that a visitor may be of several there.';

CREATE OR REPLACE VIEW {database}.contact_interests{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'Who, as in contacts.',
    content_group String COMMENT 'Group of pages.',
    score Float64 COMMENT 'Interest today: page views x weight, each halved for each half-life that has passed since its day.',
    share Float64 COMMENT 'Share of the scores of all groups of the contact, 0 to 1.',
    page_views UInt64 COMMENT 'Views of pages of the group, at whatever time.',
    first_day Date COMMENT 'Day of the first of them, UTC.',
    last_day Date COMMENT 'Day of the last of them, UTC.'
)
SQL SECURITY DEFINER
AS
SELECT
    c.site AS site,
    c.contact AS contact,
    d.content_group AS content_group,
    sum(d.score) AS score,
    if(sum(score) OVER (PARTITION BY site, contact) = 0, 0, score / sum(score) OVER (PARTITION BY site, contact)) AS share,
    sum(d.page_views) AS page_views,
    min(d.day) AS first_day,
    max(d.day) AS last_day
FROM {database}.interest_days AS d
INNER JOIN (SELECT DISTINCT site, visitor_id, contact FROM {database}.contact_visitors) AS c ON d.site = c.site AND d.visitor_id = c.visitor_id
GROUP BY site, contact, content_group
COMMENT 'What each contact is interested in, on all of their devices, one row for each content group.';

CREATE OR REPLACE VIEW {database}.company_interests{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    company String COMMENT 'Company as in companies.',
    company_name String COMMENT 'Its name.',
    content_group String COMMENT 'Group of pages.',
    score Float64 COMMENT 'Interest today of all of its visitors: page views x weight, each halved for each half-life that has passed since its day.',
    share Float64 COMMENT 'Share of the scores of all groups of the company, 0 to 1.',
    visitors UInt64 COMMENT 'Visitors who viewed pages of the group.',
    page_views UInt64 COMMENT 'Views of pages of the group, at whatever time.',
    first_day Date COMMENT 'Day of the first of them, UTC.',
    last_day Date COMMENT 'Day of the last of them, UTC.'
)
SQL SECURITY DEFINER
AS
SELECT
    d.site AS site,
    k.company AS company,
    any(k.company_name) AS company_name,
    d.content_group AS content_group,
    sum(d.score) AS score,
    if(sum(score) OVER (PARTITION BY site, company) = 0, 0, score / sum(score) OVER (PARTITION BY site, company)) AS share,
    uniqExact(d.visitor_id) AS visitors,
    sum(d.page_views) AS page_views,
    min(d.day) AS first_day,
    max(d.day) AS last_day
FROM {database}.interest_days AS d
INNER JOIN {database}.visitor_companies AS v ON d.site = v.site AND d.visitor_id = v.visitor_id
INNER JOIN (SELECT site, company, company_name FROM {database}.companies WHERE NOT is_provider) AS k ON v.site = k.site AND v.company = k.company
WHERE NOT v.is_provider
GROUP BY site, company, content_group
COMMENT 'What each company is interested in, internet providers left out, one row for each content group.';

CREATE OR REPLACE VIEW {database}.company_interests_between{on_cluster}
(
    company String COMMENT 'Company as in companies.',
    company_name String COMMENT 'Its name.',
    content_group String COMMENT 'Group of pages.',
    score Float64 COMMENT 'Interest today of all of its visitors: page views x weight, each halved for each half-life that has passed since its day.',
    share Float64 COMMENT 'Share of the scores of all groups of the company, 0 to 1.',
    visitors UInt64 COMMENT 'Visitors who viewed pages of the group.',
    page_views UInt64 COMMENT 'Views of pages of the group, in these days.',
    first_day Date COMMENT 'Day of the first of them, UTC.',
    last_day Date COMMENT 'Day of the last of them, UTC.'
)
SQL SECURITY DEFINER
AS
SELECT
    k.company AS company,
    any(k.company_name) AS company_name,
    d.content_group AS content_group,
    sum(d.score) AS score,
    if(sum(score) OVER (PARTITION BY company) = 0, 0, score / sum(score) OVER (PARTITION BY company)) AS share,
    uniqExact(d.visitor_id) AS visitors,
    sum(d.page_views) AS page_views,
    min(d.day) AS first_day,
    max(d.day) AS last_day
FROM {database}.interest_days AS d
INNER JOIN {database}.visitor_companies AS v ON d.site = v.site AND d.visitor_id = v.visitor_id
INNER JOIN (SELECT site, company, company_name FROM {database}.companies WHERE NOT is_provider) AS k ON v.site = k.site AND v.company = k.company
WHERE d.site = {site:String} AND d.day BETWEEN {first_day:Date} AND {last_day:Date}
    AND v.site = {site:String} AND NOT v.is_provider
GROUP BY company, content_group
COMMENT 'What each company is interested in, internet providers left out, by what was viewed from one day to another, both included: company_interests_between(site = ..., first_day = ..., last_day = ...). One row for each content group.';

CREATE OR REPLACE VIEW {database}.contact_lead_scores{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'Who, as in contacts.',
    score Float64 COMMENT 'Score today. A cap holds for the contact, not for each of their devices.',
    parts Array(Tuple(rule String, score Float64)) COMMENT 'What each rule adds, the largest first.',
    visitors UInt64 COMMENT 'Visitors who are this contact and earned points.',
    last_day Date COMMENT 'Day of the last hit that gave points, UTC.'
)
SQL SECURITY DEFINER
AS
WITH decayed AS
    (
        SELECT c.site AS site, c.contact AS contact, p.rule AS rule,
            sum(p.points * if(p.half_life_days = 0, 1, exp2(-dateDiff('day', p.day, toDate(now('UTC'))) / p.half_life_days))) AS uncapped,
            if(any(p.cap) = 0, inf, any(p.cap)) AS limit_of_rule,
            greatest(-limit_of_rule, least(limit_of_rule, uncapped)) AS part,
            groupUniqArray(p.visitor_id) AS people,
            max(p.day) AS last
        FROM {database}.lead_points AS p
        INNER JOIN (SELECT DISTINCT site, visitor_id, contact FROM {database}.contact_visitors) AS c ON p.site = c.site AND p.visitor_id = c.visitor_id
        GROUP BY site, contact, rule
    )
SELECT
    d.site AS site,
    d.contact AS contact,
    sum(d.part) AS score,
    CAST(arraySort(part -> (-part.2, part.1), groupArray((d.rule, d.part))), 'Array(Tuple(rule String, score Float64))') AS parts,
    length(groupUniqArrayArray(d.people)) AS visitors,
    max(d.last) AS last_day
FROM decayed AS d
GROUP BY site, contact
COMMENT 'Who is worth a call, by contact: what they did on all of their devices, by the rules of score_rules.';

CREATE OR REPLACE VIEW {database}.company_lead_scores{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    company String COMMENT 'Company as in companies.',
    company_name String COMMENT 'Its name.',
    score Float64 COMMENT 'Score today: the sum over its visitors.',
    best_score Float64 COMMENT 'The highest score among its visitors.',
    best_visitor_id String COMMENT 'Who has it.',
    visitors UInt64 COMMENT 'Visitors who earned points.',
    last_day Date COMMENT 'Day of the last hit that gave points, UTC.'
)
SQL SECURITY DEFINER
AS
SELECT
    s.site AS site,
    k.company AS company,
    any(k.company_name) AS company_name,
    sum(s.score) AS score,
    max(s.score) AS best_score,
    argMax(s.visitor_id, (s.score, s.visitor_id)) AS best_visitor_id,
    count() AS visitors,
    max(s.last_day) AS last_day
FROM {database}.lead_scores AS s
INNER JOIN {database}.visitor_companies AS v ON s.site = v.site AND s.visitor_id = v.visitor_id
INNER JOIN (SELECT site, company, company_name FROM {database}.companies WHERE NOT is_provider) AS k ON v.site = k.site AND v.company = k.company
WHERE NOT v.is_provider
GROUP BY site, company
COMMENT 'Which companies are worth a call: the scores of their visitors, internet providers left out.';
