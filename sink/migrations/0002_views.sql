-- What is read straight from hits: each hit with its session, and what the other views leave out.
--
-- Ordinary views: they hold nothing, so they are right about hits that came late, out of order or twice. A condition on
-- site reaches hits and reads that site only; one on visitor_id reads little of it. One on a time saves
-- nothing: session_hits has to see all hits of a visitor.
--
-- Robots are in hits and in the view bots, nowhere else.

CREATE OR REPLACE VIEW {database}.free_mail_domains{on_cluster}
(
    domain String COMMENT 'Domain that anybody can have an e-mail address in.'
)
SQL SECURITY DEFINER
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

CREATE OR REPLACE VIEW {database}.session_hits{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    session_id UUID COMMENT 'Session of the hit: as given, else computed from 30-minute gaps of its visitor. Zero where the hit belongs to none: a mail that was opened, which makes no visit, or a hit that names nobody. A heartbeat is of the session of its page view, however much later it came.',
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
SQL SECURITY DEFINER
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
        SELECT *, if(kind = 'mail_open', none, session_id) AS found_id, if(found_id = none, 'none', 'given') AS found_by
        FROM marked
        WHERE NOT is_computed
        UNION ALL
        SELECT * EXCEPT (gap_ms, started_ms), reinterpret(sipHash128(site, visitor_id, started_ms), 'UUID') AS found_id, 'computed' AS found_by
        FROM
        (
            SELECT
                *,
                -- RANGE, as rows of one hit come in any order: all of them are in the session that one of them begins.
                max(if(gap_ms > 30 * 60 * 1000, toUnixTimestamp64Milli(occurred_at), -9223372036854775808)) OVER
                    (PARTITION BY site, visitor_id ORDER BY occurred_at, hit_id RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS started_ms
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
    ),
    homed AS
    (
        SELECT
            *,
            first_value((found_id, found_by)) OVER (PARTITION BY site, visitor_id, view_id ORDER BY kind != 'page_view', occurred_at, hit_id) AS home
        FROM (SELECT *, if(kind = 'page_view', hit_id, page_view_id) AS view_id FROM found)
    )
SELECT
    site,
    if(kind = 'heartbeat' AND view_id != none, home.1, found_id) AS session_id,
    if(kind = 'heartbeat' AND view_id != none, home.2, found_by) AS session_id_source,
    visitor_id,
    CAST(visitor_id_source IN ('daily_hash', 'none'), 'Bool') AS is_anonymous,
    hit_id,
    kind,
    event_name,
    occurred_at,
    received_at,
    view_id,
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
FROM homed
COMMENT 'Every hit that is not a robot''s, with its session: what the other views are made of, and where to begin when none of them answers the question.';

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
SQL SECURITY DEFINER
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
