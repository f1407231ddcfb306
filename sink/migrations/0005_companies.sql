-- Companies: which company each visit is, how that is known, and how far it is to be believed.
--
--     sessions ──────────┐
--     contact_visitors ──┼── companies, companies_between
--     network_kinds ─────┘
--
-- The best evidence of a visit counts: a partner's word; else the domain of an address by which its visitor is known, also
-- for visits before it was given; else the organisation of the network, which for most people is their internet provider.
-- A provider is told by its name, and by network_kinds, where people put right what the name does not tell.
--
-- Visits are counted by what tells their company before that is looked at: there are some thousand networks, and a million
-- visits. companies_between says the same as companies of fewer days, and its text has to stay the same.

CREATE TABLE IF NOT EXISTS {database}.network_kinds{on_cluster}
(
    network String COMMENT 'Domain of a network''s organisation, or its name, in lower case.',
    is_provider Bool COMMENT 'True for an internet provider, false for a company.',
    told_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When: of several rows the newest counts.'
)
ENGINE = {engine}ReplacingMergeTree(told_at)
ORDER BY network
SETTINGS non_replicated_deduplication_window = 10000, replicated_deduplication_window = 10000
COMMENT 'Networks whose name misleads, written by hand: INSERT INTO network_kinds (network, is_provider) VALUES (...).';

CREATE OR REPLACE VIEW {database}.companies{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    company String COMMENT 'Domain of the company; where none is known, its name in lower case.',
    company_name String COMMENT 'Name, from the best evidence.',
    company_domain String COMMENT 'Domain; empty where none is known.',
    evidence Array(String) COMMENT 'How it is known, best first: partner, contact_email (domain of an address that a visitor submitted, no free mailbox), network (organisation of the network, which may be an internet provider).',
    confidence UInt8 COMMENT 'How far the best evidence is to be believed, percent. partner: 95 by the person, 90 by a domain, 80 by a range of addresses. contact_email: 75. network: 50 of a company, 5 of an internet provider. These are ranks, not measured frequencies.',
    is_provider Bool COMMENT 'True where nothing but the network tells, and that is an internet provider''s.',
    first_seen DateTime64(3, 'UTC') COMMENT 'When the first visit began.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit of a visit happened.',
    days UInt64 COMMENT 'Days on which visits began: a company of more than one came back.',
    visitors UInt64 COMMENT 'Visitors.',
    sessions UInt64 COMMENT 'Visits.',
    page_views UInt64 COMMENT 'Page views.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible, milliseconds.',
    downloads UInt64 COMMENT 'Downloads.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    contacts Array(String) COMMENT 'E-mail addresses that its visitors submitted.',
    country String COMMENT 'Country last seen in, ISO 3166-1 alpha-2.',
    partner String COMMENT 'Partner who told the company last.',
    partner_attributes Map(String, String) COMMENT 'Whatever else that partner knows.'
)
SQL SECURITY DEFINER
AS
WITH
    (SELECT groupArrayIf(network, is_provider) FROM {database}.network_kinds FINAL) AS providers,
    (SELECT groupArrayIf(network, NOT is_provider) FROM {database}.network_kinds FINAL) AS no_providers,
    counted AS
    (
        SELECT
            site,
            company_domain,
            company_name,
            partner_matched_by,
            network_organisation,
            network_domain,
            if((site, visitor_id) IN (SELECT site, visitor_id FROM {database}.contact_cards), visitor_id, '') AS known_visitor,
            min(started_at) AS start,
            max(ended_at) AS end,
            groupUniqArray(day) AS days_seen,
            uniqExactState(cityHash64(visitor_id)) AS visitor_state,
            count() AS session_count,
            sum(page_views) AS views,
            sum(visible_duration_ms) AS visible,
            sum(downloads) AS download_count,
            sum(forms) AS form_count,
            argMaxIf(country, ended_at, country != '') AS seen_in,
            argMaxIf((partner, partner_attributes), ended_at, partner != '') AS told
        FROM {database}.sessions
        GROUP BY site, company_domain, company_name, partner_matched_by, network_organisation, network_domain, known_visitor
    ),
    addresses AS
    (
        SELECT site, visitor_id, argMaxIf(company, (submitted_at, hit_id), company != '') AS last_company, groupUniqArrayIf(email, email != '') AS written
        FROM {database}.contact_cards
        WHERE visitor_id != '' AND source != 'partner'
        GROUP BY site, visitor_id
    ),
    employers AS
    (
        SELECT
            site,
            visitor_id,
            argMaxIf(cutToFirstSignificantSubdomain(substringIndex(submitted_as, '@', -1)), (linked_at, submitted_as),
                substringIndex(submitted_as, '@', -1) NOT IN (SELECT domain FROM {database}.free_mail_domains)) AS employer_domain
        FROM {database}.contact_visitors
        WHERE position(submitted_as, '@') > 0
        GROUP BY site, visitor_id
    ),
    known AS
    (
        SELECT
            c.* EXCEPT (site),
            c.site AS site,
            a.last_company AS last_company,
            a.written AS written,
            e.employer_domain AS employer_domain,
            lower(c.network_organisation) AS organisation,
            lower(c.network_domain) AS organisation_domain,
            multiIf(c.company_domain != '' OR c.company_name != '', 'partner', e.employer_domain != '', 'contact_email', 'network') AS told_by,
            told_by = 'network' AND NOT has(no_providers, organisation) AND NOT has(no_providers, organisation_domain)
                AND (has(providers, organisation) OR has(providers, organisation_domain) OR match(organisation,
                    '\\b(\\w*tele[ck]om\\w*|telefonica|telenor|telia|telstra|vodafone|orange|verizon|comcast|charter|at&t|swisscom|proximus|telenet|kpn|bouygues|mobile|mobil|cellular|wireless|wifi|broadband|cable|kabel\\w*|fiber|fibre|dsl|isp|internet|communications?|telephone|satellite|starlink|vpn|proxy|hosting|cloud\\w*|datacenter|akamai|fastly|digitalocean|ovh|hetzner|linode|amazon|aws|google|microsoft)\\b')) AS by_provider,
            multiIf(told_by = 'partner', (toString(c.company_name), lower(c.company_domain)), told_by = 'contact_email', (a.last_company, e.employer_domain), (toString(c.network_organisation), lower(c.network_domain))) AS named,
            multiIf(
                told_by = 'partner', multiIf(c.partner_matched_by IN ('visitor_id', 'email_hash'), 95, c.partner_matched_by IN ('email_domain', 'company_domain'), 90, 80),
                told_by = 'contact_email', 75,
                by_provider, 5, 50) AS belief
        FROM counted AS c
        LEFT ANY JOIN addresses AS a ON c.site = a.site AND c.known_visitor = a.visitor_id
        LEFT ANY JOIN employers AS e ON c.site = e.site AND c.known_visitor = e.visitor_id
    )
SELECT
    site,
    if(named.2 != '', named.2, lower(named.1)) AS company,
    argMaxIf(named.1, (belief, end), named.1 != '') AS company_name,
    max(named.2) AS company_domain,
    arrayMap(reason -> reason.2, arrayReverseSort(groupUniqArray((multiIf(told_by = 'partner', 3, told_by = 'contact_email', 2, 1), told_by)))) AS evidence,
    max(belief) AS confidence,
    min(by_provider) AS is_provider,
    min(start) AS first_seen,
    max(end) AS last_seen,
    length(groupUniqArrayArray(days_seen)) AS days,
    uniqExactMerge(visitor_state) AS visitors,
    sum(session_count) AS sessions,
    sum(views) AS page_views,
    sum(visible) AS visible_duration_ms,
    sum(download_count) AS downloads,
    sum(form_count) AS forms,
    arraySort(groupUniqArrayArray(written)) AS contacts,
    argMaxIf(seen_in, end, seen_in != '') AS country,
    argMaxIf(told.1, end, told.1 != '') AS partner,
    argMaxIf(told.2, end, told.1 != '') AS partner_attributes
FROM known
WHERE named.1 != '' OR named.2 != ''
GROUP BY site, company
COMMENT 'Companies that visited, one row each, with how they are known. Those that are but internet providers are marked. New ones are those first seen lately, returning ones those of several days. Robots are left out.';

CREATE OR REPLACE VIEW {database}.companies_between{on_cluster}
SQL SECURITY DEFINER
AS
WITH
    (SELECT groupArrayIf(network, is_provider) FROM {database}.network_kinds FINAL) AS providers,
    (SELECT groupArrayIf(network, NOT is_provider) FROM {database}.network_kinds FINAL) AS no_providers,
    counted AS
    (
        SELECT
            site,
            company_domain,
            company_name,
            partner_matched_by,
            network_organisation,
            network_domain,
            if((site, visitor_id) IN (SELECT site, visitor_id FROM {database}.contact_cards), visitor_id, '') AS known_visitor,
            min(started_at) AS start,
            max(ended_at) AS end,
            groupUniqArray(day) AS days_seen,
            uniqExactState(cityHash64(visitor_id)) AS visitor_state,
            count() AS session_count,
            sum(page_views) AS views,
            sum(visible_duration_ms) AS visible,
            sum(downloads) AS download_count,
            sum(forms) AS form_count,
            argMaxIf(country, ended_at, country != '') AS seen_in,
            argMaxIf((partner, partner_attributes), ended_at, partner != '') AS told
        FROM {database}.sessions
        WHERE site = {site:String} AND day BETWEEN {first_day:Date} AND {last_day:Date}
        GROUP BY site, company_domain, company_name, partner_matched_by, network_organisation, network_domain, known_visitor
    ),
    addresses AS
    (
        SELECT site, visitor_id, argMaxIf(company, (submitted_at, hit_id), company != '') AS last_company, groupUniqArrayIf(email, email != '') AS written
        FROM {database}.contact_cards
        WHERE visitor_id != '' AND source != 'partner'
        GROUP BY site, visitor_id
    ),
    employers AS
    (
        SELECT
            site,
            visitor_id,
            argMaxIf(cutToFirstSignificantSubdomain(substringIndex(submitted_as, '@', -1)), (linked_at, submitted_as),
                substringIndex(submitted_as, '@', -1) NOT IN (SELECT domain FROM {database}.free_mail_domains)) AS employer_domain
        FROM {database}.contact_visitors
        WHERE position(submitted_as, '@') > 0
        GROUP BY site, visitor_id
    ),
    known AS
    (
        SELECT
            c.* EXCEPT (site),
            c.site AS site,
            a.last_company AS last_company,
            a.written AS written,
            e.employer_domain AS employer_domain,
            lower(c.network_organisation) AS organisation,
            lower(c.network_domain) AS organisation_domain,
            multiIf(c.company_domain != '' OR c.company_name != '', 'partner', e.employer_domain != '', 'contact_email', 'network') AS told_by,
            told_by = 'network' AND NOT has(no_providers, organisation) AND NOT has(no_providers, organisation_domain)
                AND (has(providers, organisation) OR has(providers, organisation_domain) OR match(organisation,
                    '\\b(\\w*tele[ck]om\\w*|telefonica|telenor|telia|telstra|vodafone|orange|verizon|comcast|charter|at&t|swisscom|proximus|telenet|kpn|bouygues|mobile|mobil|cellular|wireless|wifi|broadband|cable|kabel\\w*|fiber|fibre|dsl|isp|internet|communications?|telephone|satellite|starlink|vpn|proxy|hosting|cloud\\w*|datacenter|akamai|fastly|digitalocean|ovh|hetzner|linode|amazon|aws|google|microsoft)\\b')) AS by_provider,
            multiIf(told_by = 'partner', (toString(c.company_name), lower(c.company_domain)), told_by = 'contact_email', (a.last_company, e.employer_domain), (toString(c.network_organisation), lower(c.network_domain))) AS named,
            multiIf(
                told_by = 'partner', multiIf(c.partner_matched_by IN ('visitor_id', 'email_hash'), 95, c.partner_matched_by IN ('email_domain', 'company_domain'), 90, 80),
                told_by = 'contact_email', 75,
                by_provider, 5, 50) AS belief
        FROM counted AS c
        LEFT ANY JOIN addresses AS a ON c.site = a.site AND c.known_visitor = a.visitor_id
        LEFT ANY JOIN employers AS e ON c.site = e.site AND c.known_visitor = e.visitor_id
    )
SELECT
    if(named.2 != '', named.2, lower(named.1)) AS company,
    argMaxIf(named.1, (belief, end), named.1 != '') AS company_name,
    max(named.2) AS company_domain,
    arrayMap(reason -> reason.2, arrayReverseSort(groupUniqArray((multiIf(told_by = 'partner', 3, told_by = 'contact_email', 2, 1), told_by)))) AS evidence,
    max(belief) AS confidence,
    min(by_provider) AS is_provider,
    min(start) AS first_seen,
    max(end) AS last_seen,
    length(groupUniqArrayArray(days_seen)) AS days,
    uniqExactMerge(visitor_state) AS visitors,
    sum(session_count) AS sessions,
    sum(views) AS page_views,
    sum(visible) AS visible_duration_ms,
    sum(download_count) AS downloads,
    sum(form_count) AS forms,
    arraySort(groupUniqArrayArray(written)) AS contacts,
    argMaxIf(seen_in, end, seen_in != '') AS country,
    argMaxIf(told.1, end, told.1 != '') AS partner,
    argMaxIf(told.2, end, told.1 != '') AS partner_attributes
FROM known
WHERE named.1 != '' OR named.2 != ''
GROUP BY company
COMMENT 'Companies that visited from one day to another, both included: companies_between(site = ..., first_day = ..., last_day = ...). Columns are those of companies, of the visits of these days.';
