-- People: what they submitted of themselves, and which visitors they are.
--
--     hits ── write_contact_cards ── contact_cards ──┐
--     imports, by hand ──────────────┤               ├── contact_history ── contacts
--     corrections, by the sink ──────┘               │
--     hits ── write_contact_links ── contact_links ──┤
--     links undone, by hand ─────────┘               ├── contact_visitors
--     contact_merges, by hand ── settled_merges ─────┘
--                                each minute
--
-- A contact is an e-mail address in lower case, within a site. Which visitors a contact is, is resolved at each question
-- from contact_links: recognising somebody rewrites no hit, also not those from before. Links and merges are never changed
-- but answered by a newer row, which counts: so each can be undone, and done again. Where merges lead is settled each
-- minute, as following them takes longer to plan than all else of a question.
--
-- What a person had corrected is a card of the time when they asked for it: it wins over older cards, whenever these come,
-- and a newer card of their own wins over it. What partners and imports say of a field that was corrected does not count.
--
-- Cards and links are named by their hit, so that a hit that is there twice writes the same row. To forget somebody, delete
-- by site and visitor_id, and by site and contact, from all three tables.

CREATE TABLE IF NOT EXISTS {database}.contact_cards{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'E-mail address in lower case; empty where the card tells none: it is then that of whom its visitor is.',
    visitor_id String COMMENT 'Visitor who submitted it; empty for imports.',
    hit_id UUID DEFAULT generateUUIDv7() COMMENT 'Hit that it came with; an id of its own for imports, the request for corrections.',
    submitted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it was submitted, imported, or asked to be corrected.',
    source LowCardinality(String) DEFAULT 'import' COMMENT 'form, identify or another kind of hit; partner for what a partner adds to such a hit; import; correction for what a person had corrected.',
    source_name String COMMENT 'Which partner, which import, or who entered the correction; else empty.',
    name String COMMENT 'Full name; empty where not told, like all that follow.',
    email String COMMENT 'E-mail address as it was written.',
    phone String COMMENT 'Telephone number.',
    job_title String COMMENT 'Job title.',
    company String COMMENT 'Company.',
    address String COMMENT 'Mailing address.',
    inserted_at DateTime('UTC') MATERIALIZED now('UTC') CODEC(ZSTD(3)) COMMENT 'When it was inserted.',
    INDEX by_visitor visitor_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_insertion inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = {engine}ReplacingMergeTree
PARTITION BY toYYYYMM(submitted_at)
ORDER BY (site, contact, visitor_id, submitted_at, hit_id, source)
TTL toDate(submitted_at) + INTERVAL 25 MONTH
SETTINGS
    ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 3600,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000
COMMENT 'Business cards as submitted, one row each. Imports are inserted here.';

-- What is no address names nobody: two who leave the field blank, or write there that they have none, are not one person.
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.write_contact_cards{on_cluster} TO {database}.contact_cards
AS
WITH position(contact_email, '@') > 0 AS has_address
SELECT
    site,
    if(has_address, lower(trim(contact_email)), '') AS contact,
    visitor_id,
    hit_id,
    occurred_at AS submitted_at,
    if(of_partner, 'partner', toString(kind)) AS source,
    if(of_partner, toString(partner), '') AS source_name,
    if(of_partner, '', contact_name) AS name,
    if(of_partner OR NOT has_address, '', contact_email) AS email,
    if(of_partner, '', contact_phone) AS phone,
    if(of_partner, '', contact_job_title) AS job_title,
    if(of_partner, toString(company_name), contact_company) AS company,
    if(of_partner, '', contact_address) AS address
FROM {database}.hits
ARRAY JOIN if(has_address AND company_name != '', [false, true], [false]) AS of_partner
WHERE NOT is_bot AND (has_address OR contact_name != '' OR contact_phone != '' OR contact_job_title != '' OR contact_company != '' OR contact_address != '')
COMMENT 'Writes the cards of inserted hits.';

CREATE TABLE IF NOT EXISTS {database}.contact_links{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'E-mail address in lower case.',
    visitor_id String COMMENT 'Visitor who is, or is not, this contact.',
    is_linked Bool DEFAULT true COMMENT 'True: they are one. False: they are not, whatever older rows say.',
    evidence LowCardinality(String) COMMENT 'Kind of the hit that tells so; else whatever who inserted it writes.',
    linked_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When that was told: of several rows the newest counts.',
    hit_id UUID COMMENT 'Hit that tells so; zero where it was written by hand.',
    inserted_at DateTime('UTC') MATERIALIZED now('UTC') CODEC(ZSTD(3)) COMMENT 'When it was inserted.',
    INDEX by_visitor visitor_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_insertion inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = {engine}ReplacingMergeTree
PARTITION BY toYYYYMM(linked_at)
ORDER BY (site, contact, visitor_id, linked_at, hit_id)
TTL toDate(linked_at) + INTERVAL 25 MONTH
SETTINGS
    ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 3600,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000
COMMENT 'Which visitors are which contacts, one row for each time that was told.';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.write_contact_links{on_cluster} TO {database}.contact_links
AS SELECT
    site,
    lower(trim(contact_email)) AS contact,
    visitor_id,
    true AS is_linked,
    kind AS evidence,
    occurred_at AS linked_at,
    hit_id
FROM {database}.hits
WHERE NOT is_bot AND position(contact_email, '@') > 0 AND visitor_id != ''
COMMENT 'Writes the links of inserted hits.';

CREATE TABLE IF NOT EXISTS {database}.contact_merges{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'Contact that is the same person as another, in lower case.',
    merged_into String COMMENT 'That other contact, in lower case.',
    is_merged Bool DEFAULT true COMMENT 'False takes the merge back.',
    reason String COMMENT 'Why, for people.',
    decided_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When: of several rows of a contact the newest counts.'
)
ENGINE = {engine}ReplacingMergeTree
ORDER BY (site, contact, decided_at, merged_into)
-- Kept for good: a decision that expired would part what cards that are newer still belong to.
-- The same may be written again after its contrary: no row is to be taken for a repetition.
SETTINGS replicated_deduplication_window = 0
COMMENT 'Contacts that are one person, written by hand: INSERT INTO contact_merges (site, contact, merged_into) VALUES (...).';

CREATE TABLE IF NOT EXISTS {database}.settled_merges{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'Contact that is merged into another.',
    person String COMMENT 'Contact at the end of all merges; empty where it is merged no longer.',
    settled_at DateTime64(3, 'UTC') COMMENT 'When that was found; of several rows of a contact the last is true.'
)
ENGINE = {engine}ReplacingMergeTree(settled_at)
ORDER BY (site, contact)
COMMENT 'Where merges lead, as it was found last: read the view merged_contacts.';

-- Where one contact is merged into another, which is merged into a third, all end at the last. Of a circle the oldest
-- decision is passed over, as the newer ones contradict it: after A into B, and then B into A, both are A.
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.settle_merges{on_cluster}
REFRESH EVERY 1 MINUTE APPEND TO {database}.settled_merges
AS
WITH RECURSIVE
    current AS
    (
        SELECT site, contact, argMax(merged_into, (decided_at, merged_into)) AS next, max(decided_at) AS decided
        FROM {database}.contact_merges
        GROUP BY site, contact
        HAVING argMax(is_merged, (decided_at, merged_into)) AND next != contact
    ),
    chain AS
    (
        SELECT site, contact, next, [(decided, contact)] AS passed
        FROM current
        UNION ALL
        SELECT chain.site, chain.contact, current.next, arrayPushBack(chain.passed, (current.decided, current.contact))
        FROM chain
        INNER JOIN current ON chain.site = current.site AND chain.next = current.contact
        WHERE NOT has(chain.passed.2, chain.next) AND length(chain.passed) < 32
    ),
    longest AS
    (
        SELECT site, contact, argMax((next, passed), length(passed)) AS way, indexOf(way.2.2, way.1) AS circle_begins
        FROM chain
        GROUP BY site, contact
    ),
    -- What is kept and what the decisions tell, side by side.
    both AS
    (
        SELECT site, contact, if(circle_begins = 0, way.1, arraySort(arraySlice(way.2, circle_begins))[1].2) AS person, true AS is_told
        FROM longest
        WHERE contact != person
        UNION ALL
        SELECT site, contact, person, false AS is_told
        FROM {database}.settled_merges FINAL
    )
SELECT site, contact, anyIf(both.person, is_told) AS person, now64(3, 'UTC') AS settled_at
FROM both
GROUP BY site, contact
HAVING person != anyIf(both.person, NOT is_told)
COMMENT 'Each minute, writes where merges lead for those contacts of whom it is another than before.';

CREATE OR REPLACE VIEW {database}.merged_contacts{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'Contact that is merged into another.',
    person String COMMENT 'Contact at the end of all merges.'
)
SQL SECURITY DEFINER
AS SELECT site, contact, person
FROM {database}.settled_merges FINAL
WHERE person != ''
COMMENT 'Where merges lead, one row for each contact that is merged. Right up to a minute ago.';

-- In two parts: where nobody ever merged an address, the contact is a column of the table, and a condition on it reaches the
-- key.
CREATE OR REPLACE VIEW {database}.contact_visitors{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Visitor.',
    contact String COMMENT 'Contact that the visitor is: the address at the end of all merges.',
    submitted_as String COMMENT 'Address by which they were recognised, in lower case.',
    evidence String COMMENT 'What told so last: the kind of a hit, or what somebody wrote.',
    linked_since DateTime64(3, 'UTC') COMMENT 'When it was told first.',
    linked_at DateTime64(3, 'UTC') COMMENT 'When it was told last.'
)
SQL SECURITY DEFINER
AS
WITH addresses AS
    (
        SELECT
            l.site AS site,
            l.contact AS address,
            l.visitor_id AS visitor_id,
            argMax(l.evidence, (l.linked_at, l.hit_id)) AS evidence,
            minIf(l.linked_at, l.is_linked) AS linked_since,
            max(l.linked_at) AS linked_at
        FROM {database}.contact_links AS l
        GROUP BY site, address, visitor_id
        HAVING argMax(l.is_linked, (l.linked_at, l.hit_id))
    )
SELECT site, visitor_id, address AS contact, address AS submitted_as, evidence, linked_since, linked_at
FROM addresses
WHERE (site, address) NOT IN (SELECT site, contact FROM {database}.settled_merges)
UNION ALL
SELECT l.site, l.visitor_id, if(m.person != '', m.person, l.address), l.address, l.evidence, l.linked_since, l.linked_at
FROM (SELECT * FROM addresses WHERE (site, address) IN (SELECT site, contact FROM {database}.settled_merges)) AS l
LEFT ANY JOIN {database}.settled_merges AS m FINAL ON l.site = m.site AND l.address = m.contact
COMMENT 'Which visitors are which contacts now, one row for each visitor and address: submitted_as, which may be merged with others of the contact. A visitor may be several contacts, as on a shared computer. Merges are right up to a minute ago.';

CREATE OR REPLACE VIEW {database}.contact_history{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'Contact: the address at the end of all merges.',
    field String COMMENT 'name, email, phone, job_title, company or address.',
    value String COMMENT 'What was told.',
    source String COMMENT 'Who told it last: form, identify or another kind of hit; partner; import; correction.',
    source_name String COMMENT 'Which partner, which import, or who entered the correction.',
    visitor_id String COMMENT 'Visitor who told it last; empty for imports and corrections.',
    first_told_at DateTime64(3, 'UTC') COMMENT 'When it was told first.',
    last_told_at DateTime64(3, 'UTC') COMMENT 'When it was told last.',
    times_told UInt64 COMMENT 'How often.',
    is_overruled Bool COMMENT 'True for what partners and imports say of a field that the person had corrected: it does not count.'
)
SQL SECURITY DEFINER
AS
WITH
    -- A card without an address is that of whom the visitor had told to be last, as on a shared computer another may come
    -- after; of who told it later only where nobody had before.
    owners AS
    (
        SELECT site, visitor_id, arraySort(groupUniqArrayArray(arrayMap(at -> (at, contact), times))) AS tellings
        FROM
        (
            SELECT site, contact, visitor_id, groupUniqArrayIf(linked_at, is_linked) AS times
            FROM {database}.contact_links
            WHERE (site, visitor_id) IN (SELECT site, visitor_id FROM {database}.contact_cards WHERE contact = '')
            GROUP BY site, contact, visitor_id
            HAVING argMax(is_linked, (linked_at, hit_id))
        )
        GROUP BY site, visitor_id
    ),
    -- In two parts, as contact_visitors is.
    cards AS
    (
        SELECT site, contact AS whose, visitor_id, hit_id, submitted_at, source, source_name, name, email, phone, job_title, company, address
        FROM {database}.contact_cards
        WHERE contact != '' AND (site, contact) NOT IN (SELECT site, contact FROM {database}.settled_merges)
        UNION ALL
        SELECT c.site, if(m.person != '', m.person, c.of_address), c.visitor_id, c.hit_id, c.submitted_at, c.source, c.source_name, c.name, c.email, c.phone, c.job_title, c.company, c.address
        FROM
        (
            SELECT *, contact AS of_address FROM {database}.contact_cards WHERE (site, contact) IN (SELECT site, contact FROM {database}.settled_merges)
            UNION ALL
            SELECT c.*, if(o.tellings[1].1 > c.submitted_at, o.tellings[1], arrayLast(told -> told.1 <= c.submitted_at, o.tellings)).2 AS of_address
            FROM (SELECT * FROM {database}.contact_cards WHERE contact = '') AS c
            INNER JOIN owners AS o ON c.site = o.site AND c.visitor_id = o.visitor_id
        ) AS c
        LEFT ANY JOIN {database}.settled_merges AS m FINAL ON c.site = m.site AND c.of_address = m.contact
    ),
    fields AS
    (
        SELECT
            site, whose, visitor_id, hit_id, submitted_at, source, source_name, told,
            source IN ('partner', 'import') AND countIf(source = 'correction') OVER (PARTITION BY site, whose, told.1) > 0 AS overruled
        FROM cards
        ARRAY JOIN [('name', name), ('email', email), ('phone', phone), ('job_title', job_title), ('company', company), ('address', address)] AS told
        WHERE told.2 != ''
    )
SELECT
    site,
    whose AS contact,
    told.1 AS field,
    told.2 AS value,
    argMax(f.source, (submitted_at, f.source != 'partner', hit_id)) AS source,
    argMax(f.source_name, (submitted_at, f.source != 'partner', hit_id)) AS source_name,
    argMax(f.visitor_id, (submitted_at, f.source != 'partner', hit_id)) AS visitor_id,
    min(submitted_at) AS first_told_at,
    max(submitted_at) AS last_told_at,
    uniqExact(hit_id) AS times_told,
    CAST(overruled, 'Bool') AS is_overruled
FROM fields AS f
GROUP BY site, whose, told, overruled
COMMENT 'What each contact ever told or had corrected, one row for each value of each field, with who told it and when.';

CREATE OR REPLACE VIEW {database}.contacts{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'E-mail address in lower case: who. Of merged contacts, the one that the others are merged into.',
    name String COMMENT 'Name that was told last.',
    name_source String COMMENT 'Who told it: form, identify or another kind of hit; partner; import; correction where the person had it corrected.',
    email String COMMENT 'Address as it was written last.',
    email_source String COMMENT 'Who told it.',
    phone String COMMENT 'Telephone number that was told last.',
    phone_source String COMMENT 'Who told it.',
    job_title String COMMENT 'Job title that was told last.',
    job_title_source String COMMENT 'Who told it.',
    company String COMMENT 'Company that was told last; where the person and a partner told it at once, what the person told.',
    company_source String COMMENT 'Who told it.',
    address String COMMENT 'Mailing address that was told last.',
    address_source String COMMENT 'Who told it.',
    emails Array(String) COMMENT 'All addresses, in lower case.',
    first_told_at DateTime64(3, 'UTC') COMMENT 'When the first of their cards came.',
    last_told_at DateTime64(3, 'UTC') COMMENT 'When the last of their cards, or a correction, came.'
)
SQL SECURITY DEFINER
AS
WITH grouped AS
    (
        SELECT
            site,
            contact AS whose,
            argMaxIf((value, source), (NOT is_overruled, last_told_at, source != 'partner', value), field = 'name') AS said_name,
            argMaxIf((value, source), (NOT is_overruled, last_told_at, source != 'partner', value), field = 'email') AS said_email,
            argMaxIf((value, source), (NOT is_overruled, last_told_at, source != 'partner', value), field = 'phone') AS said_phone,
            argMaxIf((value, source), (NOT is_overruled, last_told_at, source != 'partner', value), field = 'job_title') AS said_title,
            argMaxIf((value, source), (NOT is_overruled, last_told_at, source != 'partner', value), field = 'company') AS said_company,
            argMaxIf((value, source), (NOT is_overruled, last_told_at, source != 'partner', value), field = 'address') AS said_address,
            arraySort(groupUniqArrayIf(lower(trim(value)), field = 'email')) AS all_emails,
            min(first_told_at) AS first_told,
            max(last_told_at) AS last_told
        FROM {database}.contact_history
        GROUP BY site, whose
    )
SELECT
    site,
    whose AS contact,
    said_name.1 AS name,
    said_name.2 AS name_source,
    said_email.1 AS email,
    said_email.2 AS email_source,
    said_phone.1 AS phone,
    said_phone.2 AS phone_source,
    said_title.1 AS job_title,
    said_title.2 AS job_title_source,
    said_company.1 AS company,
    said_company.2 AS company_source,
    said_address.1 AS address,
    said_address.2 AS address_source,
    all_emails AS emails,
    first_told AS first_told_at,
    last_told AS last_told_at
FROM grouped
COMMENT 'People who gave an e-mail address, one row each, with the latest of each field and who told it. What they did: contact_sessions, contact_activity.';

-- Who a visitor is to be asked of all of their sessions, of the mails they opened, and of their own cards. A correction is
-- about a contact: it counts for those visitors who gave the contact's address last.
--
-- Tables are read, not the views of them: each view costs as much to plan as reading one visitor.
CREATE OR REPLACE VIEW {database}.visitors{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    is_anonymous Bool COMMENT 'True where the visitor cannot be recognised on another day; the same person is then another visitor tomorrow.',
    first_seen DateTime64(3, 'UTC') COMMENT 'When the first hit happened.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit happened.',
    sessions UInt64 COMMENT 'Visits.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible, milliseconds.',
    downloads UInt64 COMMENT 'Downloads.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    searches UInt64 COMMENT 'Searches on the site.',
    mail_opens UInt64 COMMENT 'Mails that were opened.',
    first_source_kind String COMMENT 'Class of the source of the first visit or opened mail that has one.',
    first_source_name String COMMENT 'Search engine, network, mailer or referring host of that hit.',
    first_campaign_name String COMMENT 'utm_campaign of that hit.',
    last_source_kind String COMMENT 'Class of the source of the last visit or opened mail that has one.',
    last_source_name String COMMENT 'Search engine, network, mailer or referring host of that hit.',
    last_campaign_name String COMMENT 'utm_campaign of that hit.',
    devices Array(String) COMMENT 'Classes of all devices that were used.',
    device_kind String COMMENT 'Class of the device last used.',
    os String COMMENT 'Operating system last used.',
    browser String COMMENT 'Browser last used.',
    language String COMMENT 'Primary language last told, ISO 639.',
    country String COMMENT 'Country last seen in, ISO 3166-1 alpha-2.',
    region String COMMENT 'Region or state last seen in.',
    city String COMMENT 'City last seen in.',
    network_organisation String COMMENT 'Organisation of the network last used.',
    company_name String COMMENT 'Company, as a partner named it last.',
    company_domain String COMMENT 'Domain of the company, as a partner told it last.',
    contact_name String COMMENT 'Name that the person submitted or had corrected last.',
    contact_email String COMMENT 'E-mail address that the person submitted or had corrected last.',
    contact_phone String COMMENT 'Telephone number that the person submitted or had corrected last.',
    contact_job_title String COMMENT 'Job title that the person submitted or had corrected last.',
    contact_company String COMMENT 'Company that the person submitted or had corrected last.',
    contact_address String COMMENT 'Mailing address that the person submitted or had corrected last.'
)
SQL SECURITY DEFINER
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    seen AS
    (
        SELECT
            site, visitor_id, is_anonymous, started_at, ended_at, session_id, page_views, visible_duration_ms, downloads, forms,
            searches, source_kind, source_name, campaign_name, last_source_kind, last_source_name, last_campaign_name, device_kind, os, browser, language, country, region, city,
            network_organisation, company_name, company_domain, none AS mail
        FROM {database}.settled_sessions FINAL
        WHERE NOT is_gone AND site != ''
        UNION ALL
        SELECT
            site, visitor_id, is_anonymous, occurred_at, occurred_at, none, 0, 0, 0, 0,
            0, source_kind, source_name, campaign_name, source_kind, source_name, campaign_name, device_kind, os, browser, language, country, region, city,
            network_organisation, company_name, company_domain, hit_id
        FROM {database}.mail_opens
    ),
    grouped AS
    (
        SELECT
            site,
            visitor_id,
            max(is_anonymous) AS anonymous,
            min(started_at) AS start,
            max(ended_at) AS end,
            countIf(session_id != none) AS session_count,
            sum(page_views) AS views,
            sum(visible_duration_ms) AS visible,
            sum(downloads) AS download_count,
            sum(forms) AS form_count,
            sum(searches) AS search_count,
            uniqExactIf(mail, mail != none) AS mail_count,
            argMinIf((source_kind, source_name, campaign_name), (started_at, session_id), source_kind != 'unknown') AS first_source,
            argMaxIf((last_source_kind, last_source_name, last_campaign_name), (ended_at, session_id), last_source_kind != 'unknown') AS last_source,
            arraySort(groupUniqArrayIf(device_kind, device_kind NOT IN ('', 'unknown'))) AS all_devices,
            argMaxIf(device_kind, (ended_at, session_id), device_kind NOT IN ('', 'unknown')) AS device,
            argMaxIf(os, (ended_at, session_id), os != '') AS system,
            argMaxIf(browser, (ended_at, session_id), browser != '') AS browser_name,
            argMaxIf(language, (ended_at, session_id), language != '') AS spoken,
            argMaxIf((country, region, city), (ended_at, session_id), country != '') AS place,
            argMaxIf(network_organisation, (ended_at, session_id), network_organisation != '') AS network,
            argMaxIf((company_name, company_domain), (ended_at, session_id), company_name != '' OR company_domain != '') AS company_told
        FROM seen
        GROUP BY site, visitor_id
    ),
    given AS
    (
        SELECT
            site,
            visitor_id,
            argMaxIf(contact, (submitted_at, hit_id), contact != '') AS given_contact,
            argMaxIf((name, submitted_at, hit_id), (submitted_at, hit_id), name != '') AS given_name,
            argMaxIf((email, submitted_at, hit_id), (submitted_at, hit_id), email != '') AS given_email,
            argMaxIf((phone, submitted_at, hit_id), (submitted_at, hit_id), phone != '') AS given_phone,
            argMaxIf((job_title, submitted_at, hit_id), (submitted_at, hit_id), job_title != '') AS given_job_title,
            argMaxIf((company, submitted_at, hit_id), (submitted_at, hit_id), company != '') AS given_company,
            argMaxIf((address, submitted_at, hit_id), (submitted_at, hit_id), address != '') AS given_address
        FROM {database}.contact_cards
        WHERE source NOT IN ('partner', 'correction') AND visitor_id != ''
        GROUP BY site, visitor_id
    ),
    corrected AS
    (
        SELECT
            site,
            contact,
            argMaxIf((name, submitted_at, hit_id), (submitted_at, hit_id), name != '') AS corrected_name,
            argMaxIf((email, submitted_at, hit_id), (submitted_at, hit_id), email != '') AS corrected_email,
            argMaxIf((phone, submitted_at, hit_id), (submitted_at, hit_id), phone != '') AS corrected_phone,
            argMaxIf((job_title, submitted_at, hit_id), (submitted_at, hit_id), job_title != '') AS corrected_job_title,
            argMaxIf((company, submitted_at, hit_id), (submitted_at, hit_id), company != '') AS corrected_company,
            argMaxIf((address, submitted_at, hit_id), (submitted_at, hit_id), address != '') AS corrected_address
        FROM {database}.contact_cards
        WHERE source = 'correction'
        GROUP BY site, contact
    )
SELECT
    g.site AS site,
    g.visitor_id AS visitor_id,
    g.anonymous AS is_anonymous,
    g.start AS first_seen,
    g.end AS last_seen,
    g.session_count AS sessions,
    g.views AS page_views,
    g.visible AS visible_duration_ms,
    g.download_count AS downloads,
    g.form_count AS forms,
    g.search_count AS searches,
    g.mail_count AS mail_opens,
    if(g.first_source.1 = '', 'unknown', g.first_source.1) AS first_source_kind,
    g.first_source.2 AS first_source_name,
    g.first_source.3 AS first_campaign_name,
    if(g.last_source.1 = '', 'unknown', g.last_source.1) AS last_source_kind,
    g.last_source.2 AS last_source_name,
    g.last_source.3 AS last_campaign_name,
    g.all_devices AS devices,
    if(g.device = '', 'unknown', g.device) AS device_kind,
    g.system AS os,
    g.browser_name AS browser,
    g.spoken AS language,
    g.place.1 AS country,
    g.place.2 AS region,
    g.place.3 AS city,
    g.network AS network_organisation,
    g.company_told.1 AS company_name,
    g.company_told.2 AS company_domain,
    if((k.corrected_name.2, k.corrected_name.3) > (c.given_name.2, c.given_name.3), k.corrected_name.1, c.given_name.1) AS contact_name,
    if((k.corrected_email.2, k.corrected_email.3) > (c.given_email.2, c.given_email.3), k.corrected_email.1, c.given_email.1) AS contact_email,
    if((k.corrected_phone.2, k.corrected_phone.3) > (c.given_phone.2, c.given_phone.3), k.corrected_phone.1, c.given_phone.1) AS contact_phone,
    if((k.corrected_job_title.2, k.corrected_job_title.3) > (c.given_job_title.2, c.given_job_title.3), k.corrected_job_title.1, c.given_job_title.1) AS contact_job_title,
    if((k.corrected_company.2, k.corrected_company.3) > (c.given_company.2, c.given_company.3), k.corrected_company.1, c.given_company.1) AS contact_company,
    if((k.corrected_address.2, k.corrected_address.3) > (c.given_address.2, c.given_address.3), k.corrected_address.1, c.given_address.1) AS contact_address
FROM grouped AS g
LEFT ANY JOIN given AS c ON g.site = c.site AND g.visitor_id = c.visitor_id
LEFT ANY JOIN corrected AS k ON c.site = k.site AND c.given_contact = k.contact
COMMENT 'Visitors, one row each, with what they submitted of themselves. Those under an objection are anonymous and last one day. Robots are left out, see bots.';

CREATE OR REPLACE VIEW {database}.contact_activity{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    contact String COMMENT 'Contact: the address at the end of all merges.',
    visitors Array(String) COMMENT 'Visitors that the contact is.',
    first_seen DateTime64(3, 'UTC') COMMENT 'When their first visit began, also before they were recognised.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit of their visits happened.',
    sessions UInt64 COMMENT 'Visits.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible, milliseconds.',
    downloads UInt64 COMMENT 'Downloads.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    searches UInt64 COMMENT 'Searches on the site.',
    first_source_kind String COMMENT 'Class of the source of the first visit that has one.',
    first_source_name String COMMENT 'Search engine, network, mailer or referring host of that visit.',
    first_campaign_name String COMMENT 'utm_campaign of that visit.'
)
SQL SECURITY DEFINER
AS
WITH
    visits AS
    (
        SELECT
            site, visitor_id, session_id, started_at, ended_at, page_views, visible_duration_ms, downloads, forms, searches,
            source_kind, source_name, campaign_name
        FROM {database}.sessions
        WHERE (site, visitor_id) IN (SELECT site, visitor_id FROM {database}.contact_links)
    ),
    grouped AS
    (
        SELECT
            l.site AS site,
            l.contact AS whose,
            arraySort(groupUniqArray(l.visitor_id)) AS ids,
            min(v.started_at) AS start,
            max(v.ended_at) AS end,
            count() AS session_count,
            sum(v.page_views) AS views,
            sum(v.visible_duration_ms) AS visible,
            sum(v.downloads) AS download_count,
            sum(v.forms) AS form_count,
            sum(v.searches) AS search_count,
            argMinIf((v.source_kind, v.source_name, v.campaign_name), (v.started_at, v.session_id), v.source_kind != 'unknown') AS source
        FROM visits AS v
        INNER JOIN (SELECT DISTINCT site, contact, visitor_id FROM {database}.contact_visitors) AS l
            ON v.site = l.site AND v.visitor_id = l.visitor_id
        GROUP BY site, whose
    )
SELECT
    site,
    whose AS contact,
    ids AS visitors,
    start AS first_seen,
    end AS last_seen,
    session_count AS sessions,
    views AS page_views,
    visible AS visible_duration_ms,
    download_count AS downloads,
    form_count AS forms,
    search_count AS searches,
    if(source.1 = '', 'unknown', source.1) AS first_source_kind,
    source.2 AS first_source_name,
    source.3 AS first_campaign_name
FROM grouped
COMMENT 'What contacts did, one row each, in all visits of all visitors that they are. For one contact, contact_sessions is quicker.';

CREATE OR REPLACE VIEW {database}.contact_sessions{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which it began, UTC.',
    visitor_id String COMMENT 'Who, unique within a site.',
    session_id UUID COMMENT 'Session, as the cookie or the tag told, else computed.',
    session_id_source LowCardinality(String) COMMENT 'given; or computed from 30-minute gaps of the visitor.',
    is_anonymous Bool COMMENT 'True where the visitor cannot be recognised on another day.',
    started_at DateTime64(3, 'UTC') COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') COMMENT 'When its last hit happened; not that of a tab that woke up in a later visit.',
    visible_duration_ms UInt64 COMMENT 'Time that its pages were visible, milliseconds: the sum over its page views of what each was visible.',
    page_views UInt64 COMMENT 'Page views.',
    events UInt64 COMMENT 'What else was done: downloads, outlinks, searches, forms, custom events. No heartbeats, no answers to a banner for consent, no calls that say who it is.',
    downloads UInt64 COMMENT 'Downloads.',
    outlinks UInt64 COMMENT 'Links to other sites that were followed.',
    searches UInt64 COMMENT 'Searches on the site.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    is_bounce Bool COMMENT 'True where one page was viewed at most, and nothing else was done.',
    entry_page LowCardinality(String) COMMENT 'First page, host and path.',
    exit_page LowCardinality(String) COMMENT 'Last page, host and path.',
    viewed_pages Array(LowCardinality(String)) COMMENT 'Pages in the order in which they were viewed, host and path, one for each page view.',
    viewed_at_ms Array(UInt64) COMMENT 'When each was viewed, milliseconds after started_at.',
    viewed_for_ms Array(UInt32) COMMENT 'How long each was visible, milliseconds; 0 where not told.',
    source_kind LowCardinality(String) COMMENT 'Class of the source that brought the visitor: that of the first page view that came from outside the site; direct where all came directly.',
    source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    source_term String COMMENT 'Search term of that hit, where the referrer tells.',
    campaign_source LowCardinality(String) COMMENT 'utm_source of that hit.',
    campaign_medium LowCardinality(String) COMMENT 'utm_medium of that hit.',
    campaign_name LowCardinality(String) COMMENT 'utm_campaign of that hit.',
    campaign_term LowCardinality(String) COMMENT 'utm_term of that hit.',
    campaign_content LowCardinality(String) COMMENT 'utm_content of that hit.',
    campaign_id LowCardinality(String) COMMENT 'utm_id of that hit.',
    click_id_kind LowCardinality(String) COMMENT 'Parameter that held its click id: gclid, fbclid, msclkid, ...',
    last_source_kind LowCardinality(String) COMMENT 'Class of the source of the last page view that came from outside the site, direct ones passed over: another than source_kind where they came again in the same visit.',
    last_source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host of that hit.',
    last_campaign_name LowCardinality(String) COMMENT 'utm_campaign of that hit.',
    device_kind LowCardinality(String) COMMENT 'Class of the device.',
    os LowCardinality(String) COMMENT 'Operating system.',
    browser LowCardinality(String) COMMENT 'Browser.',
    language LowCardinality(String) COMMENT 'Primary language, ISO 639.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    region LowCardinality(String) COMMENT 'Region or state.',
    city LowCardinality(String) COMMENT 'City.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network: the internet provider, or the company itself.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched: ip_range, email_hash, email_domain, company_domain or visitor_id.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) COMMENT 'Whatever else the partner knows.',
    contact_name String COMMENT 'Name that the person submitted in this session, the last one.',
    contact_email String COMMENT 'E-mail address that the person submitted in this session, the last one.'
)
SQL SECURITY DEFINER
AS
-- Arrays, as what stands in IN would be planned twice; and tables, not the views contact_visitors and sessions of them, which
-- say the same, for they cost as much to plan as all of this.
WITH
    -- None where the contact is merged into another, and is none by itself.
    (
        SELECT if(countIf(contact = {contact:String} AND person != '') > 0, [], arrayPushBack(groupArrayIf(contact, person = {contact:String}), {contact:String}))
        FROM {database}.settled_merges FINAL
        WHERE site = {site:String} AND (contact = {contact:String} OR person = {contact:String})
    ) AS addresses,
    (
        SELECT groupUniqArray(visitor_id)
        FROM
        (
            SELECT visitor_id
            FROM {database}.contact_links
            WHERE site = {site:String} AND has(addresses, contact)
            GROUP BY contact, visitor_id
            HAVING argMax(is_linked, (linked_at, hit_id))
        )
    ) AS visitors
SELECT
    site, day, visitor_id, session_id, session_id_source, is_anonymous, started_at, ended_at, visible_duration_ms, page_views, events, downloads,
    outlinks, searches, forms, CAST(page_views <= 1 AND events = 0, 'Bool') AS is_bounce, toLowCardinality(viewed_pages[1]) AS entry_page,
    toLowCardinality(viewed_pages[-1]) AS exit_page,
    viewed_pages, viewed_at_ms, viewed_for_ms, source_kind, source_name, source_term, campaign_source, campaign_medium, campaign_name,
    campaign_term, campaign_content, campaign_id, click_id_kind, last_source_kind, last_source_name, last_campaign_name, device_kind, os, browser,
    language, country, region, city, network_organisation, network_domain, partner, partner_matched_by, company_name, company_domain,
    partner_attributes, contact_name, contact_email
FROM {database}.settled_sessions FINAL
WHERE NOT is_gone AND site = {site:String} AND has(visitors, visitor_id)
COMMENT 'The visits of one contact, also from before they were recognised: contact_sessions(site = ..., contact = ...), the address in lower case. Columns are those of sessions.';

CREATE TABLE IF NOT EXISTS {database}.customer_sites{on_cluster}
(
    customer LowCardinality(String) COMMENT 'Whose site it is.',
    site LowCardinality(String) COMMENT 'Key of the site.'
)
ENGINE = {engine}ReplacingMergeTree
ORDER BY (customer, site)
-- The same may be written again after it was deleted: no row is to be taken for a repetition.
SETTINGS replicated_deduplication_window = 0
COMMENT 'Sites of one customer that share visitor ids, as by a cookie of their common domain: written by hand.';

CREATE OR REPLACE VIEW {database}.customer_visitors{on_cluster}
(
    customer LowCardinality(String) COMMENT 'Whose sites they visited.',
    visitor_id String COMMENT 'Who, unique within the sites of the customer.',
    sites Array(String) COMMENT 'Sites on which they were.',
    first_seen DateTime64(3, 'UTC') COMMENT 'When the first visit began.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit of a visit happened.',
    sessions UInt64 COMMENT 'Visits. One that goes on at another of the sites, under the cookie that they share, is one; where there is none, it is one for each site.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible, milliseconds.',
    first_site String COMMENT 'Site of the first visit.',
    first_source_kind String COMMENT 'Class of the source of the first visit that has one.',
    first_source_name String COMMENT 'Search engine, network, mailer or referring host of that visit.',
    last_source_kind String COMMENT 'Class of the source of the last visit that has one.',
    last_source_name String COMMENT 'Search engine, network, mailer or referring host of that visit.',
    devices Array(String) COMMENT 'Classes of all devices that were used.'
)
SQL SECURITY DEFINER
AS
WITH grouped AS
    (
        SELECT
            c.customer AS owner,
            s.visitor_id AS visitor_id,
            arraySort(groupUniqArray(s.site)) AS seen_on,
            min(s.started_at) AS start,
            max(s.ended_at) AS end,
            uniqExact(s.session_id) AS session_count,
            sum(s.page_views) AS views,
            sum(s.visible_duration_ms) AS visible,
            argMin(s.site, (s.started_at, s.session_id)) AS entered,
            argMinIf((s.source_kind, s.source_name), (s.started_at, s.session_id), s.source_kind != 'unknown') AS source,
            argMaxIf((s.last_source_kind, s.last_source_name), (s.ended_at, s.session_id), s.last_source_kind != 'unknown') AS last_source,
            arraySort(groupUniqArrayIf(toString(s.device_kind), s.device_kind NOT IN ('', 'unknown'))) AS all_devices
        FROM {database}.sessions AS s
        INNER JOIN (SELECT DISTINCT customer, site FROM {database}.customer_sites) AS c ON s.site = c.site
        WHERE NOT s.is_anonymous
        GROUP BY owner, visitor_id
    )
SELECT
    owner AS customer,
    visitor_id,
    seen_on AS sites,
    start AS first_seen,
    end AS last_seen,
    session_count AS sessions,
    views AS page_views,
    visible AS visible_duration_ms,
    entered AS first_site,
    if(source.1 = '', 'unknown', source.1) AS first_source_kind,
    source.2 AS first_source_name,
    if(last_source.1 = '', 'unknown', last_source.1) AS last_source_kind,
    last_source.2 AS last_source_name,
    all_devices AS devices
FROM grouped
COMMENT 'Visitors over all sites of a customer, one row each. Anonymous ones are left out: their ids differ from site to site.';
