-- Companies: which company each visit is, how that is known, and how far it is to be believed.
--
--     settled_sessions ──┐
--     mail_opens ────────┼── encounters
--     unnamed_views ─────┘
--
--     contact_links ── contact_employers ──┐
--     contact_cards ── contact_companies ──┴── settled_employers ──┐
--                                              each minute         │
--                      encounters ─────────────────────────────────┼── companies, companies_between
--     network_kinds ── network_rules ──────────────────────────────┘
--
-- The best evidence of a visit counts: a partner's word; else the domain of an address by which its visitor is known, also
-- for visits before it was given; else the organisation of the network, which for most people is their internet provider.
-- A provider is told by its name, and by network_kinds, where people put right what the name does not tell.
--
-- Hits that name nobody tell a company, too, by their network: what they did counts, though neither as visitor nor as visit.
--
-- Visits are counted by what tells their company before that is looked at: there are some thousand networks, and a million
-- visits. They are grouped by numbers of 64 bits, one for what tells the company and one for a visitor who is known: of a
-- million visitors two have the same one once in 37 million times. Who is known is counted by that number, all others in
-- sets. What tells the company is one text, which is read and grouped by sooner than the seven columns that it is made of: it
-- has few values, but for what a partner knows of single persons.
--
-- What people tell of their company is settled each minute, as putting it together took a fifth of a question. It is told of those
-- of whom a card, a link, a correction or a merge was inserted since the time before, however old these are, and written where it
-- differs; once an hour, and where a row asks for it, as erasing writes one, of everybody, as some things change without a row: what expires, what is
-- deleted by hand, and which mailboxes are free ones.
--
-- companies_between says the same as companies of fewer days and one site, and the rest of its text has to stay the same.

CREATE TABLE IF NOT EXISTS {database}.network_kinds{on_cluster}
(
    network String COMMENT 'Domain of a network''s organisation, or its name, in lower case.',
    is_provider Bool COMMENT 'True for an internet provider, false for a company.',
    told_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When: of several rows the newest counts.'
)
ENGINE = {engine}ReplacingMergeTree(told_at)
ORDER BY network
-- The same may be written again after its contrary: no row is to be taken for a repetition.
SETTINGS replicated_deduplication_window = 0
COMMENT 'Networks whose name misleads, written by hand: INSERT INTO network_kinds (network, is_provider) VALUES (...).';

CREATE OR REPLACE VIEW {database}.network_rules{on_cluster}
(
    rules Tuple(providers Array(String), companies Array(String), words String) COMMENT 'Networks that people wrote down as providers, and as companies; and a regular expression: of the others those are providers whose name in lower case matches.'
)
SQL SECURITY DEFINER
AS SELECT
    CAST((groupArrayIf(network, is_provider), groupArrayIf(network, NOT is_provider),
        '\\b(\\w*tele[ck]om\\w*|telefonica|telenor|telia|telstra|vodafone|orange|verizon|comcast|charter|at&t|swisscom|proximus|telenet|kpn|bouygues|mobile|mobil|cellular|wireless|wifi|broadband|cable|kabel\\w*|fiber|fibre|dsl|isp|internet|communications?|telephone|satellite|starlink|vpn|proxy|hosting|cloud\\w*|datacenter|akamai|fastly|digitalocean|ovh|hetzner|linode|amazon|aws|google|microsoft)\\b'),
        'Tuple(providers Array(String), companies Array(String), words String)') AS rules
FROM {database}.network_kinds FINAL
COMMENT 'By what internet providers are told from companies, in one row.';

CREATE OR REPLACE VIEW {database}.encounters_between{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which it began, UTC.',
    visitor_id String COMMENT 'Who, unique within a site; empty where nothing may be kept.',
    session_id UUID COMMENT 'The visit; zero where it is none.',
    is_visit Bool COMMENT 'True for a visit; false for what happened outside of visits.',
    started_at DateTime64(3, 'UTC') COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') COMMENT 'When its last hit happened.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that its pages were visible, milliseconds.',
    downloads UInt64 COMMENT 'Downloads.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) COMMENT 'Whatever else the partner knows.',
    origin LowCardinality(String) COMMENT 'What tells the company, in one text: company_domain, company_name, partner_matched_by, network_organisation, network_domain, partner, and partner_attributes as JSON, parted by zero bytes.'
)
SQL SECURITY DEFINER
AS
SELECT
    site, day, visitor_id, session_id, true AS is_visit, started_at, ended_at, page_views, visible_duration_ms, downloads, forms, country,
    network_organisation, network_domain, partner, partner_matched_by, company_name, company_domain, partner_attributes, origin
-- The table, not the view of it, which takes longer to plan.
FROM {database}.settled_sessions FINAL
WHERE NOT is_gone AND site != '' AND day BETWEEN {first_day:Date} AND {last_day:Date}
UNION ALL
WITH splitByChar('\0', evidence) AS told
SELECT
    site,
    toDate(first) AS day,
    '' AS visitor_id,
    toUUID('00000000-0000-0000-0000-000000000000') AS session_id,
    false AS is_visit,
    first AS started_at,
    last AS ended_at,
    views AS page_views,
    visible AS visible_duration_ms,
    download_count AS downloads,
    form_count AS forms,
    seen_in AS country,
    toLowCardinality(told[4]) AS network_organisation,
    toLowCardinality(told[5]) AS network_domain,
    toLowCardinality(told[6]) AS partner,
    toLowCardinality(told[3]) AS partner_matched_by,
    toLowCardinality(told[2]) AS company_name,
    toLowCardinality(told[1]) AS company_domain,
    CAST(JSONExtract(told[7], 'Map(String, String)'), 'Map(LowCardinality(String), String)') AS partner_attributes,
    toLowCardinality(evidence) AS origin
FROM
(
    SELECT
        site,
        view,
        min(first_at) AS first,
        max(last_at) AS last,
        max(is_viewed) AS views,
        max(visible_ms) AS visible,
        length(groupUniqArrayArray(downloads)) AS download_count,
        length(groupUniqArrayArray(forms)) AS form_count,
        argMaxIf(country, last_at, country != '') AS seen_in,
        -- Of several networks the last, but rather one of which a partner knows the company, and else one that is known at all.
        argMax(origin, toUnixTimestamp64Milli(last_at) + 1000000000000000 * multiIf(company_name != '' OR company_domain != '', 2, network_organisation != '' OR network_domain != '', 1, 0)) AS evidence
    FROM {database}.unnamed_views
    -- From the day before on, as what a view of that day did after midnight is no view of its own.
    WHERE received_on + 1 >= {first_day:Date} AND received_on <= {last_day:Date} + 8
    GROUP BY site, view
)
WHERE day BETWEEN {first_day:Date} AND {last_day:Date}
    -- Nor is what one of the week before did when its tab woke up: of these the numbers alone are read.
    AND (views > 0 OR (site, view) NOT IN (SELECT site, view FROM {database}.unnamed_views WHERE received_on + 8 >= {first_day:Date} AND received_on + 1 < {first_day:Date}))
UNION ALL
SELECT
    site, toDate(occurred_at), visitor_id, toUUID('00000000-0000-0000-0000-000000000000'), false, occurred_at, occurred_at, 0, 0, 0, 0, country,
    network_organisation, network_domain, partner, partner_matched_by, company_name, company_domain, partner_attributes, origin
FROM {database}.mail_opens
WHERE toDate(received_at) BETWEEN {first_day:Date} AND {last_day:Date} + 8 AND toDate(occurred_at) BETWEEN {first_day:Date} AND {last_day:Date}
COMMENT 'Visits, and what happened outside of visits, that began from one day to another, both included: encounters_between(first_day = ..., last_day = ...). Columns are those of encounters.';

CREATE OR REPLACE VIEW {database}.encounters{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which it began, UTC.',
    visitor_id String COMMENT 'Who, unique within a site; empty where nothing may be kept.',
    session_id UUID COMMENT 'The visit; zero where it is none.',
    is_visit Bool COMMENT 'True for a visit; false for what happened outside of visits.',
    started_at DateTime64(3, 'UTC') COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') COMMENT 'When its last hit happened.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that its pages were visible, milliseconds.',
    downloads UInt64 COMMENT 'Downloads.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) COMMENT 'Whatever else the partner knows.',
    origin LowCardinality(String) COMMENT 'What tells the company, in one text: company_domain, company_name, partner_matched_by, network_organisation, network_domain, partner, and partner_attributes as JSON, parted by zero bytes.'
)
SQL SECURITY DEFINER
AS SELECT *
FROM {database}.encounters_between(first_day = '1970-01-01', last_day = '2100-01-01')
COMMENT 'Visits, and what happened outside of visits: hits that name nobody, one row for each of their page views, and mails that were opened. Robots are left out.';

CREATE OR REPLACE VIEW {database}.contact_companies{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Visitor.',
    company String COMMENT 'Company that the person submitted or had corrected last; empty where none was.'
)
SQL SECURITY DEFINER
AS
WITH
    -- Which of several counts: a number is compared sooner than a tuple of time and id.
    bitOr(bitShiftLeft(toUInt128(toUnixTimestamp64Milli(submitted_at)), 64), toUInt128(cityHash64(hit_id))) AS rank,
    -- As in visitors: a correction counts for those who gave the contact's address last. There are few, so that they are looked
    -- up in a list, which is planned sooner than a join.
    (
        SELECT (groupArray(place), groupArray(corrected_company), groupArray(corrected_rank))
        FROM
        (
            SELECT concat(site, ' ', contact) AS place, argMaxIf(company, rank, company != '') AS corrected_company, maxIf(rank, company != '') AS corrected_rank
            FROM {database}.contact_cards
            WHERE source = 'correction'
            GROUP BY place
        )
    ) AS corrected,
    given AS
    (
        SELECT site, visitor_id, argMaxIf(contact, rank, contact != '') AS given_contact, argMaxIf(company, rank, company != '') AS given_company, maxIf(rank, company != '') AS given_rank
        FROM {database}.contact_cards
        WHERE source NOT IN ('partner', 'correction') AND visitor_id != ''
        GROUP BY site, visitor_id
    )
SELECT
    site,
    visitor_id,
    if(corrected.3[transform(concat(site, ' ', given_contact), corrected.1, arrayEnumerate(corrected.1), 0) AS found] > given_rank, corrected.2[found], given_company) AS company
FROM given
COMMENT 'Companies that visitors submitted of themselves, or had corrected, the last of each: what companies are named by.';

CREATE OR REPLACE VIEW {database}.contact_employers{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Visitor.',
    domain String COMMENT 'Registrable domain of the address that was told last and is no free mailbox; empty where there is none.',
    contacts Array(String) COMMENT 'Contacts whom the visitor is, see contact_visitors.'
)
SQL SECURITY DEFINER
AS
-- Tells from links what contact_visitors tells, whose parts take longer to plan and to ask. What is rare is looked up: links
-- that were undone, and where merges lead.
WITH
    (SELECT (groupArray(concat(site, ' ', contact)), groupArray(person)) FROM {database}.settled_merges FINAL WHERE person != '') AS merged,
    -- Of whom it was told last that they are not who they were said to be.
    parted AS
    (
        SELECT site, contact, visitor_id
        FROM {database}.contact_links
        WHERE (site, contact, visitor_id) IN (SELECT site, contact, visitor_id FROM {database}.contact_links WHERE NOT is_linked)
        GROUP BY site, contact, visitor_id
        HAVING NOT argMax(is_linked, (linked_at, hit_id))
    )
SELECT
    site,
    visitor_id,
    cutToFirstSignificantSubdomain(substringIndex(argMaxIf(contact, bitOr(bitShiftLeft(toUInt128(toUnixTimestamp64Milli(linked_at)), 64), toUInt128(cityHash64(contact))),
        is_linked AND position(contact, '@') > 0 AND substringIndex(contact, '@', -1) NOT IN (SELECT domain FROM {database}.free_mail_domains)), '@', -1)) AS domain,
    groupUniqArray(transform(concat(site, ' ', contact), merged.1, merged.2, contact)) AS contacts
FROM {database}.contact_links
WHERE (site, contact, visitor_id) NOT IN parted
GROUP BY site, visitor_id
COMMENT 'What the addresses of visitors tell of their company, one row for each visitor who is known by one.';

CREATE TABLE IF NOT EXISTS {database}.settled_employers{on_cluster}
(
    site LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'Key of the site.',
    visitor_id String CODEC(ZSTD(3)) COMMENT 'Visitor of whom something is known.',
    contact String CODEC(ZSTD(3)) COMMENT 'Contact whom the visitor is, one row for each, see contact_visitors; empty where there is none. With an empty site: changed or all, of whom was settled, or asked, where all are to be.',
    visitor_number UInt64 MATERIALIZED cityHash64(visitor_id) COMMENT 'Number made of visitor_id, by which companies find it.',
    domain LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'As in contact_employers, the same in all rows of a visitor.',
    company LowCardinality(String) CODEC(ZSTD(3)) COMMENT 'As in contact_companies, the same in all rows of a visitor.',
    is_gone Bool COMMENT 'True where that is known no longer.',
    settled_at DateTime64(3, 'UTC') CODEC(ZSTD(3)) COMMENT 'When that was found; of several rows of a visitor and contact the last is true.'
)
ENGINE = {engine}ReplacingMergeTree(settled_at)
ORDER BY (site, visitor_id, contact)
-- What is deleted too early is told again within an hour.
TTL toDate(settled_at) + INTERVAL 25 MONTH, toDate(settled_at) + INTERVAL 2 DAY DELETE WHERE is_gone
SETTINGS min_age_to_force_merge_seconds = 3600
COMMENT 'What visitors tell of their company, as it was found last: what companies are named by. Rows with an empty site tell of settling.';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.settle_employers{on_cluster}
REFRESH EVERY 1 MINUTE APPEND TO {database}.settled_employers
AS
WITH
    now64(3, 'UTC') AS now,
    (
        SELECT (maxIf(settled_at, contact = 'asked'), maxIf(settled_at, contact = 'all'), maxIf(settled_at, contact = 'changed'))
        FROM {database}.settled_employers
        WHERE site = ''
    ) AS last,
    -- Also where a clock that was put back says that it will be.
    last.1 >= last.2 OR last.2 NOT BETWEEN now - INTERVAL 1 HOUR AND now AS is_of_all,
    -- Rows are stamped when their insert begins, and seen when it ends, which takes no three minutes.
    least(last.3, now) - INTERVAL 3 MINUTE AS since,
    changed AS
    (
        SELECT site, visitor_id FROM {database}.contact_cards WHERE inserted_at >= since
        UNION ALL
        SELECT site, visitor_id FROM {database}.contact_links WHERE inserted_at >= since
        UNION ALL
        SELECT site, visitor_id FROM {database}.contact_cards
        WHERE (site, contact) IN (SELECT site, contact FROM {database}.contact_cards WHERE source = 'correction' AND inserted_at >= since)
        UNION ALL
        SELECT site, visitor_id FROM {database}.contact_links
        WHERE (site, contact) IN (SELECT site, contact FROM {database}.settled_merges WHERE settled_at >= since)
    ),
    told AS
    (
        SELECT site, visitor_id, max(told_domain) AS domain, max(told_company) AS company, max(told_contacts) AS contacts
        FROM
        (
            SELECT site, visitor_id, domain AS told_domain, '' AS told_company, contacts AS told_contacts
            FROM {database}.contact_employers
            UNION ALL
            SELECT site, visitor_id, '' AS told_domain, company AS told_company, [] AS told_contacts
            FROM {database}.contact_companies
        )
        WHERE visitor_id != '' AND (is_of_all OR (site, visitor_id) IN changed)
        GROUP BY site, visitor_id
        HAVING company != '' OR notEmpty(contacts)
    ),
    -- What is kept and what cards and links tell, side by side.
    both AS
    (
        SELECT site, visitor_id, arrayJoin(if(empty(contacts), [''], contacts)) AS contact, domain, company, true AS is_told
        FROM told
        UNION ALL
        SELECT site, visitor_id, contact, domain, company, false AS is_told
        FROM {database}.settled_employers FINAL
        WHERE NOT is_gone AND site != '' AND (is_of_all OR (site, visitor_id) IN changed)
    )
SELECT
    site,
    visitor_id,
    contact,
    anyIf(both.domain, is_told) AS domain,
    anyIf(both.company, is_told) AS company,
    NOT max(is_told) AS is_gone,
    now AS settled_at
FROM both
GROUP BY site, visitor_id, contact
HAVING count() = 1 OR domain != anyIf(both.domain, NOT is_told) OR company != anyIf(both.company, NOT is_told)
UNION ALL
SELECT '', '', arrayJoin(if(is_of_all, ['changed', 'all'], ['changed'])), '', '', false, now
SETTINGS
    max_threads = 1,
    os_threads_nice_value_query = 10,
    max_bytes_before_external_group_by = 500000000
COMMENT 'Each minute, writes what visitors tell of their company, where it is another than before.';

CREATE OR REPLACE VIEW {database}.companies{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    company String COMMENT 'Domain of the company; where none is known, its name in lower case.',
    company_name String COMMENT 'Name, from the best evidence.',
    company_domain String COMMENT 'Domain; empty where none is known.',
    evidence Array(String) COMMENT 'How it is known, best first: partner, contact_email (domain of an address that a visitor submitted, no free mailbox), network (organisation of the network, which may be an internet provider).',
    confidence UInt8 COMMENT 'How far the best evidence is to be believed, percent. partner: 95 by the person, 90 by a domain, 80 by a range of addresses. contact_email: 75. network: 50 of a company, 5 of an internet provider. These are ranks, not measured frequencies.',
    is_provider Bool COMMENT 'True for whom this internet provider merely connects: nothing but the network tells. Who is known to be of a provider by more than that is in a row of its own.',
    first_seen DateTime64(3, 'UTC') COMMENT 'When the first visit began.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit of a visit happened.',
    days UInt64 COMMENT 'Days on which visits began: a company of more than one came back.',
    is_returning Bool COMMENT 'True for a company that came back: its visits began on more than one day. False for a new one.',
    visitors UInt64 COMMENT 'Visitors.',
    sessions UInt64 COMMENT 'Visits.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible, milliseconds.',
    downloads UInt64 COMMENT 'Downloads.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    contacts Array(String) COMMENT 'Contacts whom its visitors are, see contact_visitors.',
    country String COMMENT 'Country last seen in, ISO 3166-1 alpha-2.',
    partner String COMMENT 'Partner who told the company last.',
    partner_attributes Map(String, String) COMMENT 'Whatever else that partner knows.'
)
SQL SECURITY DEFINER
AS
WITH
    (SELECT rules FROM {database}.network_rules) AS rules,
    counted AS
    (
        SELECT
            site,
            cityHash64(e.origin) AS what,
            if((site, cityHash64(visitor_id)) IN (SELECT site, visitor_number FROM {database}.settled_employers), cityHash64(visitor_id), 0) AS known_visitor,
            {told},
            min(started_at) AS start,
            max(ended_at) AS end,
            groupUniqArrayIf(day, is_visit) AS days_seen,
            uniqExactIfState(cityHash64(visitor_id), visitor_id != '' AND known_visitor = 0) AS visitor_state,
            countIf(is_visit) AS session_count,
            sum(page_views) AS views,
            sum(visible_duration_ms) AS visible,
            sum(downloads) AS download_count,
            sum(forms) AS form_count,
            argMaxIf(country, ended_at, country != '') AS seen_in
        FROM {database}.encounters AS e
        GROUP BY site, what, known_visitor
    ),
    employers AS
    (
        SELECT site, visitor_number AS who, any(domain) AS employer_domain, any(company) AS last_company, groupArrayIf(contact, contact != '') AS people
        FROM {database}.settled_employers FINAL
        WHERE NOT is_gone
        GROUP BY site, who
    ),
    known AS
    (
        SELECT
            c.* EXCEPT (site),
            c.site AS site,
            e.last_company AS last_company,
            e.people AS people,
            e.employer_domain AS employer_domain,
            lowerUTF8(c.network_organisation) AS organisation,
            lowerUTF8(c.network_domain) AS organisation_domain,
            multiIf(c.company_domain != '' OR c.company_name != '', 'partner', e.employer_domain != '', 'contact_email', 'network') AS told_by,
            told_by = 'network' AND {of_provider} AS by_provider,
            multiIf(told_by = 'partner', (c.company_name, lowerUTF8(c.company_domain)), told_by = 'contact_email', (e.last_company, e.employer_domain), (c.network_organisation, organisation_domain)) AS named,
            multiIf(
                told_by = 'partner', multiIf(c.partner_matched_by IN ('visitor_id', 'email_hash'), 95, c.partner_matched_by IN ('email_domain', 'company_domain'), 90, 80),
                told_by = 'contact_email', 75,
                by_provider, 5, 50) AS belief
        FROM counted AS c
        LEFT ANY JOIN employers AS e ON c.site = e.site AND c.known_visitor = e.who
    )
SELECT
    site,
    if(named.2 != '', named.2, lowerUTF8(named.1)) AS company,
    argMaxIf(named.1, (belief, end), named.1 != '') AS company_name,
    max(named.2) AS company_domain,
    arrayMap(reason -> reason.2, arrayReverseSort(groupUniqArray((multiIf(told_by = 'partner', 3, told_by = 'contact_email', 2, 1), told_by)))) AS evidence,
    max(belief) AS confidence,
    CAST(by_provider, 'Bool') AS is_provider,
    min(start) AS first_seen,
    max(end) AS last_seen,
    length(groupUniqArrayArray(days_seen)) AS days,
    CAST(days > 1, 'Bool') AS is_returning,
    uniqExactIfMerge(visitor_state) + uniqExactIf(known_visitor, known_visitor != 0) AS visitors,
    sum(session_count) AS sessions,
    sum(views) AS page_views,
    sum(visible) AS visible_duration_ms,
    sum(download_count) AS downloads,
    sum(form_count) AS forms,
    arraySort(groupUniqArrayArray(people)) AS contacts,
    argMaxIf(seen_in, end, seen_in != '') AS country,
    argMaxIf(partner_name, end, partner_name != '') AS partner,
    JSONExtract(argMaxIf(attributes, end, partner_name != ''), 'Map(String, String)') AS partner_attributes
FROM known
WHERE named.1 != '' OR named.2 != ''
GROUP BY site, company, by_provider
COMMENT 'Companies that visited, one row each, with how they are known; and, marked as such, internet providers with all whom they connect. New ones are those first seen lately, returning ones those of several days. Robots are left out.';

CREATE OR REPLACE VIEW {database}.companies_between{on_cluster}
(
    company String COMMENT 'Domain of the company; where none is known, its name in lower case.',
    company_name String COMMENT 'Name, from the best evidence.',
    company_domain String COMMENT 'Domain; empty where none is known.',
    evidence Array(String) COMMENT 'How it is known, best first: partner, contact_email (domain of an address that a visitor submitted, no free mailbox), network (organisation of the network, which may be an internet provider).',
    confidence UInt8 COMMENT 'How far the best evidence is to be believed, percent. partner: 95 by the person, 90 by a domain, 80 by a range of addresses. contact_email: 75. network: 50 of a company, 5 of an internet provider. These are ranks, not measured frequencies.',
    is_provider Bool COMMENT 'True for whom this internet provider merely connects: nothing but the network tells. Who is known to be of a provider by more than that is in a row of its own.',
    first_seen DateTime64(3, 'UTC') COMMENT 'When the first visit began.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit of a visit happened.',
    days UInt64 COMMENT 'Days on which visits began: a company of more than one came back.',
    visitors UInt64 COMMENT 'Visitors.',
    sessions UInt64 COMMENT 'Visits.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible, milliseconds.',
    downloads UInt64 COMMENT 'Downloads.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    contacts Array(String) COMMENT 'Contacts whom its visitors are, see contact_visitors.',
    country String COMMENT 'Country last seen in, ISO 3166-1 alpha-2.',
    partner String COMMENT 'Partner who told the company last.',
    partner_attributes Map(String, String) COMMENT 'Whatever else that partner knows.'
)
SQL SECURITY DEFINER
AS
WITH
    (SELECT rules FROM {database}.network_rules) AS rules,
    counted AS
    (
        SELECT
            cityHash64(e.origin) AS what,
            if(cityHash64(visitor_id) IN (SELECT visitor_number FROM {database}.settled_employers WHERE site = {site:String}), cityHash64(visitor_id), 0) AS known_visitor,
            {told},
            min(started_at) AS start,
            max(ended_at) AS end,
            groupUniqArrayIf(day, is_visit) AS days_seen,
            uniqExactIfState(cityHash64(visitor_id), visitor_id != '' AND known_visitor = 0) AS visitor_state,
            countIf(is_visit) AS session_count,
            sum(page_views) AS views,
            sum(visible_duration_ms) AS visible,
            sum(downloads) AS download_count,
            sum(forms) AS form_count,
            argMaxIf(country, ended_at, country != '') AS seen_in
        FROM {database}.encounters_between(first_day = {first_day:Date}, last_day = {last_day:Date}) AS e
        WHERE site = {site:String}
        GROUP BY what, known_visitor
    ),
    employers AS
    (
        SELECT visitor_number AS who, any(domain) AS employer_domain, any(company) AS last_company, groupArrayIf(contact, contact != '') AS people
        FROM {database}.settled_employers FINAL
        WHERE NOT is_gone AND site = {site:String}
        GROUP BY who
    ),
    known AS
    (
        SELECT
            c.*,
            e.last_company AS last_company,
            e.people AS people,
            e.employer_domain AS employer_domain,
            lowerUTF8(c.network_organisation) AS organisation,
            lowerUTF8(c.network_domain) AS organisation_domain,
            multiIf(c.company_domain != '' OR c.company_name != '', 'partner', e.employer_domain != '', 'contact_email', 'network') AS told_by,
            told_by = 'network' AND {of_provider} AS by_provider,
            multiIf(told_by = 'partner', (c.company_name, lowerUTF8(c.company_domain)), told_by = 'contact_email', (e.last_company, e.employer_domain), (c.network_organisation, organisation_domain)) AS named,
            multiIf(
                told_by = 'partner', multiIf(c.partner_matched_by IN ('visitor_id', 'email_hash'), 95, c.partner_matched_by IN ('email_domain', 'company_domain'), 90, 80),
                told_by = 'contact_email', 75,
                by_provider, 5, 50) AS belief
        FROM counted AS c
        LEFT ANY JOIN employers AS e ON c.known_visitor = e.who
    )
SELECT
    if(named.2 != '', named.2, lowerUTF8(named.1)) AS company,
    argMaxIf(named.1, (belief, end), named.1 != '') AS company_name,
    max(named.2) AS company_domain,
    arrayMap(reason -> reason.2, arrayReverseSort(groupUniqArray((multiIf(told_by = 'partner', 3, told_by = 'contact_email', 2, 1), told_by)))) AS evidence,
    max(belief) AS confidence,
    CAST(by_provider, 'Bool') AS is_provider,
    min(start) AS first_seen,
    max(end) AS last_seen,
    length(groupUniqArrayArray(days_seen)) AS days,
    uniqExactIfMerge(visitor_state) + uniqExactIf(known_visitor, known_visitor != 0) AS visitors,
    sum(session_count) AS sessions,
    sum(views) AS page_views,
    sum(visible) AS visible_duration_ms,
    sum(download_count) AS downloads,
    sum(form_count) AS forms,
    arraySort(groupUniqArrayArray(people)) AS contacts,
    argMaxIf(seen_in, end, seen_in != '') AS country,
    argMaxIf(partner_name, end, partner_name != '') AS partner,
    JSONExtract(argMaxIf(attributes, end, partner_name != ''), 'Map(String, String)') AS partner_attributes
FROM known
WHERE named.1 != '' OR named.2 != ''
GROUP BY company, by_provider
COMMENT 'Companies that visited from one day to another, both included: companies_between(site = ..., first_day = ..., last_day = ...). Columns are those of companies, of the visits of these days.';

CREATE OR REPLACE VIEW {database}.company_sessions{on_cluster}
(
    day Date COMMENT 'Day on which it began, UTC.',
    visitor_id String COMMENT 'Who, unique within a site.',
    session_id UUID COMMENT 'Session, as in sessions.',
    started_at DateTime64(3, 'UTC') COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') COMMENT 'When its last hit happened.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that its pages were visible, milliseconds.',
    viewed_pages Array(LowCardinality(String)) COMMENT 'Pages in the order in which they were viewed, host and path, one for each page view.',
    source_kind LowCardinality(String) COMMENT 'Class of the source that brought the visitor.',
    source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    told_by String COMMENT 'How the company is known: partner, contact_email or network.',
    is_provider Bool COMMENT 'True where it merely connects the visitor, as an internet provider.'
)
SQL SECURITY DEFINER
AS
WITH
    (SELECT rules FROM {database}.network_rules) AS rules,
    lowerUTF8(s.network_organisation) AS organisation,
    lowerUTF8(s.network_domain) AS organisation_domain
SELECT
    s.day AS day,
    s.visitor_id AS visitor_id,
    s.session_id AS session_id,
    s.started_at AS started_at,
    s.ended_at AS ended_at,
    s.page_views AS page_views,
    s.visible_duration_ms AS visible_duration_ms,
    s.viewed_pages AS viewed_pages,
    s.source_kind AS source_kind,
    s.source_name AS source_name,
    s.country AS country,
    multiIf(s.company_domain != '' OR s.company_name != '', 'partner', e.domain != '', 'contact_email', 'network') AS told_by,
    CAST(told_by = 'network' AND {of_provider}, 'Bool') AS is_provider
FROM {database}.sessions AS s
LEFT ANY JOIN (SELECT visitor_id, domain FROM {database}.settled_employers FINAL WHERE NOT is_gone AND site = {site:String}) AS e ON s.visitor_id = e.visitor_id
WHERE s.site = {site:String} AND s.day BETWEEN {first_day:Date} AND {last_day:Date}
    AND multiIf(
        s.company_domain != '', lowerUTF8(s.company_domain),
        s.company_name != '', lowerUTF8(s.company_name),
        e.domain != '', e.domain,
        organisation_domain != '', organisation_domain,
        organisation) = {company:String}
COMMENT 'The visits of a company that began from one day to another, both included: company_sessions(site = ..., company = ..., first_day = ..., last_day = ...), the company as companies names it.';
