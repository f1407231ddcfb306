-- What analysts read. Ordinary views: they hold nothing, so they are right about hits that came late, out of order or
-- twice, and about people who were recognised after they came. Each counts with uniqExact(hit_id) and takes the largest
-- duration of a page view, so that a row that is in hits twice changes nothing. A condition on site reaches hits and
-- reads that site only.
--
-- Robots are in hits and in the view bots, nowhere else.

CREATE OR REPLACE VIEW {database}.free_mail_domains{on_cluster}
(
    domain String COMMENT 'Domain that anybody can have an e-mail address in.'
)
AS SELECT arrayJoin([
    '126.com', '163.com', 'aim.com', 'alice.it', 'aol.com', 'arcor.de', 'att.net', 'bellsouth.net', 'bigpond.com',
    'bluewin.ch', 'bol.com.br', 'btinternet.com', 'charter.net', 'comcast.net', 'cox.net', 'daum.net', 'duck.com',
    'earthlink.net', 'email.com', 'fastmail.com', 'fastmail.fm', 'foxmail.com', 'free.fr', 'freenet.de', 'gmail.com',
    'gmx.at', 'gmx.ch', 'gmx.com', 'gmx.de', 'gmx.net', 'googlemail.com', 'hanmail.net', 'hey.com', 'hotmail.co.uk',
    'hotmail.com', 'hotmail.de', 'hotmail.es', 'hotmail.fr', 'hotmail.it', 'hushmail.com', 'icloud.com', 'inbox.com',
    'interia.pl', 'juno.com', 'kakao.com', 'laposte.net', 'libero.it', 'list.ru', 'live.co.uk', 'live.com', 'live.de',
    'live.fr', 'live.nl', 'mac.com', 'mail.com', 'mail.de', 'mail.ru', 'mailbox.org', 'me.com', 'msn.com', 'naver.com',
    'o2.pl', 'onet.pl', 'online.de', 'online.no', 'optonline.net', 'optusnet.com.au', 'orange.fr', 'outlook.com',
    'outlook.de', 'outlook.es', 'outlook.fr', 'pm.me', 'posteo.de', 'proton.me', 'protonmail.com', 'qq.com',
    'rediffmail.com', 'rocketmail.com', 'sbcglobal.net', 'seznam.cz', 'sfr.fr', 'sina.com', 'sky.com', 'skynet.be',
    'swissonline.ch', 't-online.de', 'talktalk.net', 'telenet.be', 'terra.com.br', 'tiscali.it', 'tutanota.com',
    'uol.com.br', 'verizon.net', 'virgilio.it', 'virginmedia.com', 'wanadoo.fr', 'web.de', 'wp.pl', 'yahoo.ca',
    'yahoo.co.in', 'yahoo.co.jp', 'yahoo.co.uk', 'yahoo.com', 'yahoo.com.br', 'yahoo.de', 'yahoo.es', 'yahoo.fr',
    'yahoo.it', 'yandex.com', 'yandex.ru', 'yeah.net', 'ymail.com', 'zoho.com'
]) AS domain
COMMENT 'Domains of mailboxes that tell nothing about a company.';

-- The session of each hit: as given, else computed. Computed sessions are numbered by the time of their first hit, so
-- that their id stays when hits are added after it.
CREATE OR REPLACE VIEW {database}.session_hits{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    session_id UUID COMMENT 'Session of the hit: as given, else computed from 30-minute gaps of its visitor. Zero where the hit belongs to none: a mail that was opened, or a hit that names nobody.',
    session_id_source String COMMENT 'given, computed, or none.',
    visitor_id String COMMENT 'Who, unique within a site; empty where nothing may be kept.',
    is_anonymous Bool COMMENT 'True where the visitor cannot be recognised on another day.',
    hit_id UUID COMMENT 'Names the hit. A row that is here twice under one id is one hit.',
    kind LowCardinality(String) COMMENT 'What happened: page_view, event, download, outlink, form, identify, heartbeat, mail_open or search.',
    event_name LowCardinality(String) COMMENT 'Name of a custom event.',
    occurred_at DateTime64(3, 'UTC') COMMENT 'When it happened.',
    received_at DateTime64(3, 'UTC') COMMENT 'When it arrived.',
    view_id UUID COMMENT 'Page view that the hit belongs to, which is its own id for a page view; zero where not told.',
    duration_ms UInt32 COMMENT 'Visible time on that page view so far, milliseconds.',
    page_host LowCardinality(String) COMMENT 'Host of the page.',
    page_path LowCardinality(String) COMMENT 'Path of the page.',
    page_title LowCardinality(String) COMMENT 'Title of the page.',
    target_url String COMMENT 'File of a download, or page of an outlink.',
    search_term String COMMENT 'What was searched for on the site.',
    source_kind LowCardinality(String) COMMENT 'Class of the source.',
    source_name LowCardinality(String) COMMENT 'Search engine, network, mailer or referring host.',
    source_term String COMMENT 'Search term, where the referrer tells.',
    campaign_source LowCardinality(String) COMMENT 'utm_source.',
    campaign_medium LowCardinality(String) COMMENT 'utm_medium.',
    campaign_name LowCardinality(String) COMMENT 'utm_campaign.',
    device_kind LowCardinality(String) COMMENT 'Class of the device.',
    os LowCardinality(String) COMMENT 'Operating system.',
    browser LowCardinality(String) COMMENT 'Browser.',
    language LowCardinality(String) COMMENT 'Primary language, ISO 639.',
    country LowCardinality(String) COMMENT 'Country, ISO 3166-1 alpha-2.',
    region LowCardinality(String) COMMENT 'Region or state.',
    city LowCardinality(String) COMMENT 'City.',
    network_organisation LowCardinality(String) COMMENT 'Organisation of the network.',
    network_domain LowCardinality(String) COMMENT 'Domain of that organisation.',
    partner LowCardinality(String) COMMENT 'Who supplied the partner data.',
    company_name LowCardinality(String) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) COMMENT 'Domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) COMMENT 'Whatever else the partner knows.',
    contact_name String COMMENT 'Name that the person submitted.',
    contact_email String COMMENT 'E-mail address that the person submitted.',
    contact_phone String COMMENT 'Telephone number that the person submitted.',
    contact_job_title String COMMENT 'Job title that the person submitted.',
    contact_company String COMMENT 'Company that the person submitted.',
    contact_address String COMMENT 'Mailing address that the person submitted.'
)
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    marked AS
    (
        SELECT
            *,
            h.session_id = none AND visitor_id != '' AND kind != 'mail_open' AS is_computed
        FROM {database}.hits AS h
        WHERE NOT is_bot
    ),
    found AS
    (
        SELECT *, session_id AS found_id, if(session_id = none, 'none', 'given') AS found_by
        FROM marked
        WHERE NOT is_computed
        UNION ALL
        SELECT * EXCEPT (gap_ms, started_ms), reinterpret(sipHash128(site, visitor_id, started_ms), 'UUID') AS found_id, 'computed' AS found_by
        FROM
        (
            SELECT
                *,
                max(if(gap_ms > 30 * 60 * 1000, toUnixTimestamp64Milli(occurred_at), -9223372036854775808)) OVER
                    (PARTITION BY site, visitor_id ORDER BY occurred_at, hit_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS started_ms
            FROM
            (
                SELECT
                    *,
                    toUnixTimestamp64Milli(occurred_at) - lagInFrame(toUnixTimestamp64Milli(occurred_at), 1, -1000000000000000) OVER
                        (PARTITION BY site, visitor_id ORDER BY occurred_at, hit_id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS gap_ms
                FROM marked
                WHERE is_computed
            )
        )
    )
SELECT
    site,
    found_id AS session_id,
    found_by AS session_id_source,
    visitor_id,
    CAST(visitor_id_source IN ('daily_hash', 'none'), 'Bool') AS is_anonymous,
    hit_id,
    kind,
    event_name,
    occurred_at,
    received_at,
    if(kind = 'page_view', hit_id, page_view_id) AS view_id,
    duration_ms,
    page_host,
    page_path,
    page_title,
    target_url,
    search_term,
    source_kind,
    source_name,
    source_term,
    campaign_source,
    campaign_medium,
    campaign_name,
    device_kind,
    os,
    browser,
    language,
    country,
    region,
    city,
    network_organisation,
    network_domain,
    partner,
    company_name,
    company_domain,
    partner_attributes,
    contact_name,
    contact_email,
    contact_phone,
    contact_job_title,
    contact_company,
    contact_address
FROM found
COMMENT 'Every hit that is not a robot''s, with its session: what the other views are made of, and where to begin when none of them answers the question.';

CREATE OR REPLACE VIEW {database}.sessions{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    session_id UUID COMMENT 'Session, as the cookie or the tag told, else computed.',
    session_id_source String COMMENT 'given; or computed from 30-minute gaps of the visitor.',
    visitor_id String COMMENT 'Who, unique within a site.',
    is_anonymous Bool COMMENT 'True where the visitor cannot be recognised on another day.',
    day Date COMMENT 'Day on which it began, UTC.',
    started_at DateTime64(3, 'UTC') COMMENT 'When its first hit happened.',
    ended_at DateTime64(3, 'UTC') COMMENT 'When its last hit happened.',
    visible_duration_ms UInt64 COMMENT 'Time that its pages were visible, milliseconds: the sum over its page views of what each was visible.',
    page_views UInt64 COMMENT 'Page views.',
    events UInt64 COMMENT 'All other hits that the visitor caused: downloads, outlinks, searches, forms, custom events. No heartbeats.',
    downloads UInt64 COMMENT 'Downloads.',
    outlinks UInt64 COMMENT 'Links to other sites that were followed.',
    searches UInt64 COMMENT 'Searches on the site.',
    forms UInt64 COMMENT 'Forms that were submitted.',
    is_bounce Bool COMMENT 'True where one page was viewed at most, and nothing else was done.',
    entry_page String COMMENT 'First page, host and path.',
    exit_page String COMMENT 'Last page, host and path.',
    source_kind String COMMENT 'Class of the source that brought the visitor: that of the first hit that came from outside the site.',
    source_name String COMMENT 'Search engine, network, mailer or referring host of that hit.',
    source_term String COMMENT 'Search term of that hit, where the referrer tells.',
    campaign_source String COMMENT 'utm_source of that hit.',
    campaign_medium String COMMENT 'utm_medium of that hit.',
    campaign_name String COMMENT 'utm_campaign of that hit.',
    device_kind String COMMENT 'Class of the device.',
    os String COMMENT 'Operating system.',
    browser String COMMENT 'Browser.',
    language String COMMENT 'Primary language, ISO 639.',
    country String COMMENT 'Country, ISO 3166-1 alpha-2.',
    region String COMMENT 'Region or state.',
    city String COMMENT 'City.',
    network_organisation String COMMENT 'Organisation of the network: the internet provider, or the company itself.',
    company_name String COMMENT 'Company, as a partner names it.',
    company_domain String COMMENT 'Domain of the company, as a partner tells it.',
    contact_name String COMMENT 'Name that the person submitted in this session, the last one.',
    contact_email String COMMENT 'E-mail address that the person submitted in this session, the last one.'
)
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    grouped AS
    (
        SELECT
            site,
            session_id,
            min(session_id_source) AS told_by,
            argMin(visitor_id, (occurred_at, hit_id)) AS who,
            max(is_anonymous) AS anonymous,
            min(occurred_at) AS start,
            max(occurred_at) AS end,
            arraySum(mapValues(maxMap(map(view_id, duration_ms)))) AS visible,
            uniqExactIf(hit_id, kind = 'page_view') AS views,
            uniqExactIf(hit_id, kind NOT IN ('page_view', 'heartbeat')) AS others,
            uniqExactIf(hit_id, kind = 'download') AS download_count,
            uniqExactIf(hit_id, kind = 'outlink') AS outlink_count,
            uniqExactIf(hit_id, kind = 'search') AS search_count,
            uniqExactIf(hit_id, kind = 'form') AS form_count,
            argMinIf(concat(page_host, page_path), (occurred_at, hit_id), kind = 'page_view') AS entry,
            argMaxIf(concat(page_host, page_path), (occurred_at, hit_id), kind = 'page_view') AS exit,
            argMinIf((source_kind, source_name, source_term, campaign_source, campaign_medium, campaign_name), (occurred_at, hit_id), source_kind NOT IN ('internal', 'unknown')) AS source,
            argMinIf(device_kind, (occurred_at, hit_id), device_kind NOT IN ('', 'unknown')) AS device,
            argMinIf(os, (occurred_at, hit_id), os != '') AS system,
            argMinIf(browser, (occurred_at, hit_id), browser != '') AS browser_name,
            argMinIf(language, (occurred_at, hit_id), language != '') AS spoken,
            argMinIf((country, region, city), (occurred_at, hit_id), country != '') AS place,
            argMinIf(network_organisation, (occurred_at, hit_id), network_organisation != '') AS network,
            argMaxIf((company_name, company_domain), (occurred_at, hit_id), company_name != '' OR company_domain != '') AS company,
            argMaxIf(contact_name, (occurred_at, hit_id), contact_name != '') AS contact,
            argMaxIf(contact_email, (occurred_at, hit_id), contact_email != '') AS email
        FROM {database}.session_hits
        WHERE session_id != none
        GROUP BY site, session_id
    )
SELECT
    site,
    session_id,
    told_by AS session_id_source,
    who AS visitor_id,
    anonymous AS is_anonymous,
    toDate(start) AS day,
    start AS started_at,
    end AS ended_at,
    visible AS visible_duration_ms,
    views AS page_views,
    others AS events,
    download_count AS downloads,
    outlink_count AS outlinks,
    search_count AS searches,
    form_count AS forms,
    CAST(views <= 1 AND others = 0, 'Bool') AS is_bounce,
    entry AS entry_page,
    exit AS exit_page,
    if(source.1 = '', 'unknown', source.1) AS source_kind,
    source.2 AS source_name,
    source.3 AS source_term,
    source.4 AS campaign_source,
    source.5 AS campaign_medium,
    source.6 AS campaign_name,
    if(device = '', 'unknown', device) AS device_kind,
    system AS os,
    browser_name AS browser,
    spoken AS language,
    place.1 AS country,
    place.2 AS region,
    place.3 AS city,
    network AS network_organisation,
    company.1 AS company_name,
    company.2 AS company_domain,
    contact AS contact_name,
    email AS contact_email
FROM grouped
COMMENT 'Visits, one row each: when, how long, what was viewed and done, where the visitor came from and is. Hits that came without a session are put together by 30-minute gaps. Robots are left out, see bots.';

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
    first_source_kind String COMMENT 'Class of the source of the first hit that came from outside the site.',
    first_source_name String COMMENT 'Search engine, network, mailer or referring host of that hit.',
    first_campaign_name String COMMENT 'utm_campaign of that hit.',
    last_source_kind String COMMENT 'Class of the source of the last hit that came from outside the site.',
    last_source_name String COMMENT 'Search engine, network, mailer or referring host of that hit.',
    last_campaign_name String COMMENT 'utm_campaign of that hit.',
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
    contact_name String COMMENT 'Name that the person submitted last.',
    contact_email String COMMENT 'E-mail address that the person submitted last.',
    contact_phone String COMMENT 'Telephone number that the person submitted last.',
    contact_job_title String COMMENT 'Job title that the person submitted last.',
    contact_company String COMMENT 'Company that the person submitted last.',
    contact_address String COMMENT 'Mailing address that the person submitted last.'
)
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    grouped AS
    (
        SELECT
            site,
            visitor_id,
            max(is_anonymous) AS anonymous,
            min(occurred_at) AS start,
            max(occurred_at) AS end,
            uniqExactIf(session_id, session_id != none) AS session_count,
            uniqExactIf(hit_id, kind = 'page_view') AS views,
            arraySum(mapValues(maxMap(map(view_id, duration_ms)))) AS visible,
            uniqExactIf(hit_id, kind = 'download') AS download_count,
            uniqExactIf(hit_id, kind = 'form') AS form_count,
            uniqExactIf(hit_id, kind = 'search') AS search_count,
            uniqExactIf(hit_id, kind = 'mail_open') AS mail_count,
            argMinIf((source_kind, source_name, campaign_name), (occurred_at, hit_id), source_kind NOT IN ('internal', 'unknown')) AS first_source,
            argMaxIf((source_kind, source_name, campaign_name), (occurred_at, hit_id), source_kind NOT IN ('internal', 'unknown')) AS last_source,
            argMaxIf(device_kind, (occurred_at, hit_id), device_kind NOT IN ('', 'unknown')) AS device,
            argMaxIf(os, (occurred_at, hit_id), os != '') AS system,
            argMaxIf(browser, (occurred_at, hit_id), browser != '') AS browser_name,
            argMaxIf(language, (occurred_at, hit_id), language != '') AS spoken,
            argMaxIf((country, region, city), (occurred_at, hit_id), country != '') AS place,
            argMaxIf(network_organisation, (occurred_at, hit_id), network_organisation != '') AS network,
            argMaxIf((company_name, company_domain), (occurred_at, hit_id), company_name != '' OR company_domain != '') AS company,
            argMaxIf(contact_name, (occurred_at, hit_id), contact_name != '') AS name,
            argMaxIf(contact_email, (occurred_at, hit_id), contact_email != '') AS email,
            argMaxIf(contact_phone, (occurred_at, hit_id), contact_phone != '') AS phone,
            argMaxIf(contact_job_title, (occurred_at, hit_id), contact_job_title != '') AS job_title,
            argMaxIf(contact_company, (occurred_at, hit_id), contact_company != '') AS employer,
            argMaxIf(contact_address, (occurred_at, hit_id), contact_address != '') AS address
        FROM {database}.session_hits
        WHERE visitor_id != ''
        GROUP BY site, visitor_id
    )
SELECT
    site,
    visitor_id,
    anonymous AS is_anonymous,
    start AS first_seen,
    end AS last_seen,
    session_count AS sessions,
    views AS page_views,
    visible AS visible_duration_ms,
    download_count AS downloads,
    form_count AS forms,
    search_count AS searches,
    mail_count AS mail_opens,
    if(first_source.1 = '', 'unknown', first_source.1) AS first_source_kind,
    first_source.2 AS first_source_name,
    first_source.3 AS first_campaign_name,
    if(last_source.1 = '', 'unknown', last_source.1) AS last_source_kind,
    last_source.2 AS last_source_name,
    last_source.3 AS last_campaign_name,
    if(device = '', 'unknown', device) AS device_kind,
    system AS os,
    browser_name AS browser,
    spoken AS language,
    place.1 AS country,
    place.2 AS region,
    place.3 AS city,
    network AS network_organisation,
    company.1 AS company_name,
    company.2 AS company_domain,
    name AS contact_name,
    email AS contact_email,
    phone AS contact_phone,
    job_title AS contact_job_title,
    employer AS contact_company,
    address AS contact_address
FROM grouped
COMMENT 'Visitors, one row each, with what they submitted of themselves. Those under an objection are anonymous and last one day. Robots are left out, see bots.';

-- The company of each hit, from the best that is known: a partner; else the domain of the visitor's e-mail address, also
-- for hits before it was submitted; else the network.
CREATE OR REPLACE VIEW {database}.companies{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    company String COMMENT 'Domain of the company; where none is known, its name in lower case.',
    company_name String COMMENT 'Name, from the best evidence.',
    company_domain String COMMENT 'Domain; empty where none is known.',
    evidence Array(String) COMMENT 'How it is known, best first: partner, contact_email (domain of an address that a visitor submitted, no free mailbox), network (organisation of the network, which may be an internet provider).',
    first_seen DateTime64(3, 'UTC') COMMENT 'When the first hit happened.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit happened.',
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
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    known_by_email AS
    (
        SELECT
            site,
            visitor_id,
            argMax(cutToFirstSignificantSubdomain(lower(substringIndex(contact_email, '@', -1))), (occurred_at, hit_id)) AS email_domain,
            argMax(contact_company, (occurred_at, hit_id)) AS email_company
        FROM {database}.hits
        WHERE NOT is_bot AND visitor_id != '' AND position(contact_email, '@') > 0
            AND lower(substringIndex(contact_email, '@', -1)) NOT IN (SELECT domain FROM {database}.free_mail_domains)
        GROUP BY site, visitor_id
    ),
    attributed AS
    (
        SELECT
            h.*,
            multiIf(
                h.company_domain != '' OR h.company_name != '', ('partner', h.company_domain, h.company_name, 3),
                e.email_domain != '', ('contact_email', e.email_domain, e.email_company, 2),
                ('network', h.network_domain, h.network_organisation, 1)) AS known
        FROM {database}.session_hits AS h
        LEFT ANY JOIN known_by_email AS e ON h.site = e.site AND h.visitor_id = e.visitor_id
    ),
    grouped AS
    (
        SELECT
            site,
            if(known.2 != '', lower(known.2), lower(known.3)) AS key,
            argMaxIf(known.3, (known.4, occurred_at, hit_id), known.3 != '') AS name,
            max(lower(known.2)) AS domain,
            arrayMap(pair -> pair.2, arrayReverseSort(groupUniqArray((known.4, known.1)))) AS reasons,
            min(occurred_at) AS start,
            max(occurred_at) AS end,
            uniqExactIf(visitor_id, visitor_id != '') AS visitor_count,
            uniqExactIf(session_id, session_id != none) AS session_count,
            uniqExactIf(hit_id, kind = 'page_view') AS views,
            arraySum(mapValues(maxMap(map(view_id, duration_ms)))) AS visible,
            uniqExactIf(hit_id, kind = 'download') AS download_count,
            uniqExactIf(hit_id, kind = 'form') AS form_count,
            arraySort(groupUniqArrayIf(contact_email, contact_email != '')) AS emails,
            argMaxIf(country, (occurred_at, hit_id), country != '') AS seen_in,
            argMaxIf((partner, partner_attributes), (occurred_at, hit_id), partner != '') AS told
        FROM attributed
        GROUP BY site, key
        HAVING key != ''
    )
SELECT
    site,
    key AS company,
    name AS company_name,
    domain AS company_domain,
    reasons AS evidence,
    start AS first_seen,
    end AS last_seen,
    visitor_count AS visitors,
    session_count AS sessions,
    views AS page_views,
    visible AS visible_duration_ms,
    download_count AS downloads,
    form_count AS forms,
    emails AS contacts,
    seen_in AS country,
    told.1 AS partner,
    told.2 AS partner_attributes
FROM grouped
COMMENT 'Companies that visited, one row each, with how they are known. Where the evidence is the network alone, the company may be an internet provider. Robots are left out.';

CREATE OR REPLACE VIEW {database}.pages{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    page_host String COMMENT 'Host of the page.',
    page_path String COMMENT 'Path of the page.',
    page_title String COMMENT 'Title, as told last.',
    views UInt64 COMMENT 'Page views.',
    visitors UInt64 COMMENT 'Visitors who viewed it.',
    sessions UInt64 COMMENT 'Visits in which it was viewed.',
    average_visible_ms Float64 COMMENT 'Time that a view of it was visible, milliseconds, over the views that told; 0 where none did.',
    total_visible_ms UInt64 COMMENT 'Time that all views of it were visible, milliseconds.',
    first_viewed_at DateTime64(3, 'UTC') COMMENT 'When it was viewed first.',
    last_viewed_at DateTime64(3, 'UTC') COMMENT 'When it was viewed last.'
)
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    page_views AS
    (
        SELECT
            site,
            view_id,
            argMinIf((page_host, page_path, page_title), (occurred_at, received_at), kind = 'page_view') AS page,
            minIf(occurred_at, kind = 'page_view') AS viewed_at,
            argMinIf((visitor_id, session_id), (occurred_at, received_at), kind = 'page_view') AS viewer,
            max(duration_ms) AS visible
        FROM {database}.session_hits
        WHERE view_id != none
        GROUP BY site, view_id
        HAVING countIf(kind = 'page_view') > 0
    )
SELECT
    site,
    page.1 AS page_host,
    page.2 AS page_path,
    argMaxIf(page.3, viewed_at, page.3 != '') AS page_title,
    count() AS views,
    uniqExactIf(viewer.1, viewer.1 != '') AS visitors,
    uniqExactIf(viewer.2, viewer.2 != none) AS sessions,
    if(countIf(visible > 0) = 0, 0, sum(visible) / countIf(visible > 0)) AS average_visible_ms,
    sum(visible) AS total_visible_ms,
    min(viewed_at) AS first_viewed_at,
    max(viewed_at) AS last_viewed_at
FROM page_views
GROUP BY site, page_host, page_path
COMMENT 'Pages, one row each: how often, by how many and how long they were viewed. The time of a page view is the largest that any of its hits told. Robots are left out.';

CREATE OR REPLACE VIEW {database}.downloads{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    target_url String COMMENT 'Address of the file.',
    file_name String COMMENT 'Last part of its path.',
    downloads UInt64 COMMENT 'Downloads.',
    visitors UInt64 COMMENT 'Visitors who downloaded it.',
    sessions UInt64 COMMENT 'Visits in which it was downloaded.',
    contacts Array(String) COMMENT 'E-mail addresses that these visitors submitted, at whatever time.',
    first_downloaded_at DateTime64(3, 'UTC') COMMENT 'When it was downloaded first.',
    last_downloaded_at DateTime64(3, 'UTC') COMMENT 'When it was downloaded last.'
)
AS
WITH
    toUUID('00000000-0000-0000-0000-000000000000') AS none,
    known AS
    (
        SELECT site, visitor_id, argMax(contact_email, (occurred_at, hit_id)) AS email
        FROM {database}.hits
        WHERE NOT is_bot AND visitor_id != '' AND contact_email != ''
        GROUP BY site, visitor_id
    )
SELECT
    h.site AS site,
    h.target_url AS target_url,
    decodeURLComponent(arrayElement(splitByChar('/', path(h.target_url)), -1)) AS file_name,
    uniqExact(h.hit_id) AS downloads,
    uniqExactIf(h.visitor_id, h.visitor_id != '') AS visitors,
    uniqExactIf(h.session_id, h.session_id != none) AS sessions,
    arraySort(groupUniqArrayIf(k.email, k.email != '')) AS contacts,
    min(h.occurred_at) AS first_downloaded_at,
    max(h.occurred_at) AS last_downloaded_at
FROM {database}.session_hits AS h
LEFT ANY JOIN known AS k ON h.site = k.site AND h.visitor_id = k.visitor_id
WHERE h.kind = 'download'
GROUP BY h.site, h.target_url
COMMENT 'Files that were downloaded, one row each. Robots are left out.';

CREATE OR REPLACE VIEW {database}.sources{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    day Date COMMENT 'Day on which the visits began, UTC.',
    source_kind String COMMENT 'direct, campaign, search, social, mail, assistant, referral or unknown.',
    source_name String COMMENT 'Search engine, network, mailer or referring host.',
    campaign_source String COMMENT 'utm_source.',
    campaign_medium String COMMENT 'utm_medium.',
    campaign_name String COMMENT 'utm_campaign.',
    sessions UInt64 COMMENT 'Visits that it brought.',
    visitors UInt64 COMMENT 'Visitors that it brought.',
    bounces UInt64 COMMENT 'Visits among them in which one page was viewed at most, and nothing else done.',
    page_views UInt64 COMMENT 'Page views in these visits.',
    downloads UInt64 COMMENT 'Downloads in these visits.',
    forms UInt64 COMMENT 'Forms that were submitted in these visits.',
    visible_duration_ms UInt64 COMMENT 'Time that pages were visible in these visits, milliseconds.'
)
AS SELECT
    s.site AS site,
    s.day AS day,
    s.source_kind AS source_kind,
    s.source_name AS source_name,
    s.campaign_source AS campaign_source,
    s.campaign_medium AS campaign_medium,
    s.campaign_name AS campaign_name,
    count() AS sessions,
    uniqExact(s.visitor_id) AS visitors,
    countIf(s.is_bounce) AS bounces,
    sum(s.page_views) AS page_views,
    sum(s.downloads) AS downloads,
    sum(s.forms) AS forms,
    sum(s.visible_duration_ms) AS visible_duration_ms
FROM {database}.sessions AS s
GROUP BY s.site, s.day, s.source_kind, s.source_name, s.campaign_source, s.campaign_medium, s.campaign_name
COMMENT 'Where visits came from, one row for each day and source. Robots are left out.';

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
        WHERE received_at > now64(3, 'UTC') - INTERVAL 5 MINUTE
            AND NOT is_bot AND visitor_id != '' AND kind != 'mail_open'
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

CREATE OR REPLACE VIEW {database}.bots{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    bot_name String COMMENT 'Which robot; its user agent where no name is known.',
    hits UInt64 COMMENT 'Hits.',
    pages UInt64 COMMENT 'Different pages.',
    first_seen DateTime64(3, 'UTC') COMMENT 'When the first hit happened.',
    last_seen DateTime64(3, 'UTC') COMMENT 'When the last hit happened.',
    networks Array(String) COMMENT 'Organisations of the networks it came from, ten at most.'
)
AS SELECT
    h.site AS site,
    if(h.bot_name != '', h.bot_name, h.user_agent) AS bot_name,
    uniqExact(h.hit_id) AS hits,
    uniqExact(h.page_host, h.page_path) AS pages,
    min(h.occurred_at) AS first_seen,
    max(h.occurred_at) AS last_seen,
    arraySort(groupUniqArrayIf(10)(h.network_organisation, h.network_organisation != '')) AS networks
FROM {database}.hits AS h
WHERE h.is_bot
GROUP BY site, bot_name
COMMENT 'Robots, one row each: what the other views leave out.';
