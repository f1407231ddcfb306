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
    source_kind String COMMENT 'Class of the source, where a hit from outside the site is among them; else unknown.',
    source_name String COMMENT 'Search engine, network, mailer or referring host of that hit.',
    device_kind String COMMENT 'Class of the device.',
    country String COMMENT 'Country, ISO 3166-1 alpha-2.',
    city String COMMENT 'City.',
    network_organisation String COMMENT 'Organisation of the network.',
    company_name String COMMENT 'Company, as a partner names it.',
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
            argMaxIf((concat(page_host, page_path), page_title), (occurred_at, hit_id), page_host != '') AS page,
            arraySum(mapValues(maxMap(map(if(kind = 'page_view', hit_id, page_view_id), duration_ms)))) AS visible,
            uniqExactIf(hit_id, kind = 'page_view') AS views,
            argMinIf((source_kind, source_name), (occurred_at, hit_id), source_kind NOT IN ('internal', 'unknown')) AS source,
            argMaxIf(device_kind, (occurred_at, hit_id), device_kind NOT IN ('', 'unknown')) AS device,
            argMaxIf((country, city), (occurred_at, hit_id), country != '') AS place,
            argMaxIf(network_organisation, (occurred_at, hit_id), network_organisation != '') AS network,
            argMaxIf(company_name, (occurred_at, hit_id), company_name != '') AS company,
            argMaxIf(contact_email, (occurred_at, hit_id), contact_email != '') AS email
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
    network AS network_organisation,
    company AS company_name,
    email AS contact_email
FROM grouped
COMMENT 'Who is on a site now: visitors with a hit in the last five minutes, and the page they are on. Robots are left out.';

CREATE OR REPLACE VIEW {database}.live_companies{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    company String COMMENT 'Company as a partner names it; else the organisation of the network, which may be an internet provider.',
    current_page String COMMENT 'Page that they are on, host and path.',
    visitors UInt64 COMMENT 'Visitors of this company who are on it.',
    contacts Array(String) COMMENT 'E-mail addresses by which they are known, at whatever time they gave them.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit of any of them arrived.'
)
SQL SECURITY DEFINER
AS SELECT
    l.site AS site,
    if(l.company_name != '', l.company_name, l.network_organisation) AS company,
    l.current_page AS current_page,
    count(DISTINCT l.visitor_id) AS visitors,
    arraySort(groupUniqArrayIf(c.contact, c.contact != '')) AS contacts,
    max(l.last_seen) AS last_seen
FROM {database}.live_visitors AS l
LEFT JOIN {database}.contact_visitors AS c ON l.site = c.site AND l.visitor_id = c.visitor_id
GROUP BY l.site, company, l.current_page
COMMENT 'Which pages are looked at now, and by which companies, one row for each page and company. Robots are left out.';
