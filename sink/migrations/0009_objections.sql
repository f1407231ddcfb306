-- Who objects. What was stored of them before they did stays; this tells who asks for leads and audiences whom to leave out.
--
-- A name is written down before the first row with it is stored, or where such rows are there already, once the objection is
-- carried out; so also where all hits are loaded again. What comes after an objection is stored without any name.

CREATE TABLE IF NOT EXISTS {database}.objections{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Visitor who objects; empty where the row is about an address or a number.',
    contact String COMMENT 'E-mail address of whom objects, as it was written; else empty.',
    phone String COMMENT 'Telephone number of whom objects, as it was written; else empty.',
    objected_at DateTime64(3, 'UTC') COMMENT 'When they objected.',
    directive_id UUID COMMENT 'Names the request.'
)
ENGINE = {engine}ReplacingMergeTree
ORDER BY (site, visitor_id, contact, phone, directive_id)
-- A month more than the hits from before it.
TTL toDate(objected_at) + INTERVAL 26 MONTH
-- The same may have to be written again after it was erased.
SETTINGS non_replicated_deduplication_window = 0, replicated_deduplication_window = 0
COMMENT 'Names of people who object, one row for each name that the tables know. Written by the sink.';

CREATE OR REPLACE VIEW {database}.objectors{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Visitor who objects, or is linked with an address or a number that does, or with an address that is merged with such a one.',
    objected_at DateTime64(3, 'UTC') COMMENT 'When they objected first.'
)
SQL SECURITY DEFINER
AS
WITH
    addresses AS (SELECT site, lower(trim(contact)) AS address, min(objected_at) AS since FROM {database}.objections WHERE contact != '' GROUP BY site, address),
    -- Who objects is the person, under all addresses that are merged into theirs now, whenever that was said.
    people AS
    (
        SELECT a.site AS site, if(m.person != '', m.person, a.address) AS person, min(a.since) AS since
        FROM addresses AS a
        LEFT ANY JOIN {database}.settled_merges AS m FINAL ON a.site = m.site AND a.address = m.contact
        GROUP BY site, person
    ),
    numbers AS (SELECT site, phone AS number, min(objected_at) AS since FROM {database}.objections WHERE phone != '' GROUP BY site, number)
SELECT o.site AS site, o.visitor_id AS visitor_id, min(o.since) AS objected_at
FROM
(
    SELECT site, visitor_id, objected_at AS since FROM {database}.objections WHERE visitor_id != ''
    UNION ALL
    SELECT l.site AS site, l.visitor_id AS visitor_id, p.since AS since
    FROM {database}.contact_visitors AS l
    INNER JOIN people AS p ON l.site = p.site AND l.contact = p.person
    UNION ALL
    SELECT c.site AS site, c.visitor_id AS visitor_id, n.since AS since
    FROM (SELECT site, visitor_id, phone FROM {database}.contact_cards WHERE visitor_id != '' AND (site, phone) IN (SELECT site, number FROM numbers)) AS c
    INNER JOIN numbers AS n ON c.site = n.site AND c.phone = n.number
) AS o
GROUP BY site, visitor_id
COMMENT 'Visitors who object, one row each. They are in no audience and on no list of leads.';
