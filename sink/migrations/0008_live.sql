-- Who is on a site now. Straight from hits, so that a hit is seen as soon as it is inserted.

CREATE OR REPLACE VIEW {database}.live_visitors{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit arrived.',
    current_page String COMMENT 'Page of the last hit, host and path.',
    current_title String COMMENT 'Title of that page.',
    visible_ms UInt64 COMMENT 'Time that pages were visible, of the page views seen in these five minutes, milliseconds.',
    page_views UInt64 COMMENT 'Page views in these five minutes.',
    source_kind String COMMENT 'Class of the source, as in sessions, where a hit from outside the site is among them; else unknown.',
    source_name String COMMENT 'Search engine, network, mailer or referring host of that hit.',
    device_kind String COMMENT 'Class of the device.',
    country String COMMENT 'Country, ISO 3166-1 alpha-2.',
    city String COMMENT 'City.',
    network_organisation String COMMENT 'Organisation of the network.',
    network_domain String COMMENT 'Domain of that organisation.',
    company_name String COMMENT 'Company, as a partner names it.',
    company_domain String COMMENT 'Domain of the company, as a partner tells it.',
    contact_email String COMMENT 'E-mail address that the person submitted in these five minutes.'
)
SQL SECURITY DEFINER
AS
WITH grouped AS
    (
        SELECT
            site,
            visitor_id,
            max(received_at) AS seen,
            -- Ids sort by time as numbers, not as ClickHouse sorts them. In the moment in which the tag tells a page view, it tells
            -- the time of the one before, under whichever id: so the page is told by which page view came last.
            argMaxIf((concat(page_host, page_path), page_title), (occurred_at, toUInt128(if(kind = 'page_view' OR page_view_id = toUUID('00000000-0000-0000-0000-000000000000'), hit_id, page_view_id)), toUInt128(hit_id)), page_host != '') AS page,
            arraySum(mapValues(maxMap(map(if(kind = 'page_view', hit_id, page_view_id), duration_ms)))) AS visible,
            uniqExactIf(hit_id, kind = 'page_view') AS views,
            -- As in sessions: by page views, and by where somebody came from rather than by that they came directly.
            argMinIf((source_kind, source_name), (kind != 'page_view', source_kind = 'direct', occurred_at, toUInt128(hit_id)), source_kind NOT IN ('internal', 'unknown')) AS source,
            argMaxIf(device_kind, (occurred_at, toUInt128(hit_id)) AS moment, device_kind NOT IN ('', 'unknown')) AS device,
            argMaxIf((country, city), moment, country != '') AS place,
            argMaxIf((network_organisation, network_domain), moment, network_organisation != '' OR network_domain != '') AS network,
            argMaxIf((company_name, company_domain), moment, company_name != '' OR company_domain != '') AS company,
            argMaxIf(contact_email, moment, contact_email != '') AS email
        FROM {database}.hits
        -- What happened lately arrived lately, and was inserted lately, which by_insertion finds. What arrives late happened
        -- before: who is told of then is not here.
        WHERE occurred_at > now64(3, 'UTC') - INTERVAL 5 MINUTE AND received_at > now64(3, 'UTC') - INTERVAL 5 MINUTE
            AND inserted_at > now64(3, 'UTC') - INTERVAL 6 MINUTE AND NOT is_bot AND visitor_id != '' AND kind != 'mail_open'
        GROUP BY site, visitor_id
    )
SELECT
    site,
    visitor_id,
    seen AS last_seen,
    page.1 AS current_page,
    page.2 AS current_title,
    visible AS visible_ms,
    views AS page_views,
    if(source.1 = '', 'unknown', source.1) AS source_kind,
    source.2 AS source_name,
    if(device = '', 'unknown', device) AS device_kind,
    place.1 AS country,
    place.2 AS city,
    network.1 AS network_organisation,
    network.2 AS network_domain,
    company.1 AS company_name,
    company.2 AS company_domain,
    email AS contact_email
FROM grouped
COMMENT 'Who is on a site now: visitors with a hit in the last five minutes, and the page they are on. Robots are left out.';

CREATE OR REPLACE VIEW {database}.live_companies{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    company String COMMENT 'Company as in companies: its domain; where none is known, its name in lower case.',
    company_name String COMMENT 'Its name, as a partner or the network tells it; empty where an address tells the company.',
    is_provider Bool COMMENT 'True for whom this internet provider merely connects, as in companies.',
    current_page String COMMENT 'Page that they are on, host and path.',
    visitors UInt64 COMMENT 'Visitors of this company who are on it.',
    contacts Array(String) COMMENT 'E-mail addresses by which they are known, at whatever time they gave them.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit of any of them arrived.'
)
SQL SECURITY DEFINER
AS
WITH
    (SELECT rules FROM {database}.network_rules) AS rules,
    known AS
    (
        SELECT
            l.site AS site,
            l.visitor_id AS visitor_id,
            l.current_page AS page,
            l.last_seen AS seen,
            e.contacts AS people,
            lowerUTF8(l.network_organisation) AS organisation,
            lowerUTF8(l.network_domain) AS organisation_domain,
            multiIf(l.company_domain != '' OR l.company_name != '', 'partner', e.domain != '', 'contact_email', 'network') AS told_by,
            multiIf(told_by = 'partner', (l.company_name, lowerUTF8(l.company_domain)), told_by = 'contact_email', ('', e.domain), (l.network_organisation, organisation_domain)) AS named,
            told_by = 'network' AND {of_provider} AS by_provider
        FROM {database}.live_visitors AS l
        LEFT ANY JOIN
        (
            SELECT site, visitor_id, domain, contacts
            FROM {database}.contact_employers
            WHERE (site, visitor_id) IN (SELECT site, visitor_id FROM {database}.live_visitors)
        ) AS e ON l.site = e.site AND l.visitor_id = e.visitor_id
    )
SELECT
    site,
    if(named.2 != '', named.2, lowerUTF8(named.1)) AS company,
    argMaxIf(named.1, seen, named.1 != '') AS company_name,
    CAST(by_provider, 'Bool') AS is_provider,
    page AS current_page,
    uniqExact(visitor_id) AS visitors,
    arraySort(groupUniqArrayArray(people)) AS contacts,
    max(seen) AS last_seen
FROM known
GROUP BY site, company, by_provider, current_page
COMMENT 'Which pages are looked at now, and by which companies, one row for each page and line of companies: by a partner''s word, else by an address of the visitor, else by their network. Company is empty where none is known. Robots are left out, and who is not named.';
