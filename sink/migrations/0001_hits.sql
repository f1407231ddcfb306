-- Every hit, one row each, flat, with everything that is known about it.
--
-- Partitioned by the month it was received in: retention drops whole partitions, and a batch, which never spans two
-- months, becomes one part. Ordered for the questions that are asked: one site, a span of days, one visitor in order of
-- time. A visitor's hits of a day lie side by side, which is also what compresses them; the filter by_visitor finds them in
-- all days. The primary key stops at the visitor, which keeps it small in memory.
--
-- Text that is not known is empty; ids that are not known are zero; counts and durations that were not told are 0.
-- Nullable is kept for what can be nothing and still be told: skew, coordinates, consent, clock readings.
CREATE DATABASE IF NOT EXISTS {database}{on_cluster};

CREATE TABLE IF NOT EXISTS {database}.hits{on_cluster}
(
    hit_id UUID COMMENT 'Names the hit for ever. A row that is here twice under one id is one hit: count with uniqExact(hit_id).',
    site LowCardinality(String) COMMENT 'Key of the site, as in sites.toml.',
    protocol LowCardinality(String) COMMENT 'How the hit came in: pixel, api or tag.',
    kind LowCardinality(String) COMMENT 'What happened: page_view, event, download, outlink, form, identify, heartbeat, mail_open or search.',
    event_name LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Name of a custom event; empty for every other kind.',
    received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)) COMMENT 'Collector''s clock on arrival.',
    occurred_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)) COMMENT 'When it happened: the client''s time corrected by its skew and clamped, else received_at.',
    enriched_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)) COMMENT 'Enricher''s clock.',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)) COMMENT 'ClickHouse''s clock when the row was inserted.',
    client_time Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) COMMENT 'Client''s clock when it happened, not corrected; null where not told.',
    sent_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) COMMENT 'Client''s clock when it was sent; null where not told.',
    clock_skew_ms Nullable(Int64) CODEC(ZSTD(1)) COMMENT 'How far the client''s clock is behind ours, milliseconds; null where not known.',

    visitor_id String CODEC(ZSTD(1)) COMMENT 'Who, unique within a site. Under an objection signal a hash that is forgotten after the day; empty where nothing may be kept.',
    visitor_id_source LowCardinality(String) COMMENT 'Where visitor_id comes from: cookie, client, daily_hash or none.',
    session_id UUID CODEC(ZSTD(1)) COMMENT 'Session as the cookie or the tag tells; zero where the view sessions computes it from 30-minute gaps.',
    page_view_id UUID CODEC(ZSTD(1)) COMMENT 'hit_id of the page view that this hit belongs to; zero where not told. A page view itself is named by its hit_id.',

    page_url String CODEC(ZSTD(1)) COMMENT 'Address of the page.',
    page_title LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Title of the page.',
    page_host LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Host of page_url, lower case, without port.',
    page_path LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Path of page_url.',
    page_query String CODEC(ZSTD(1)) COMMENT 'Query of page_url, without the question mark.',
    referrer String CODEC(ZSTD(1)) COMMENT 'Address the visitor came from.',
    referrer_host LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Host of referrer, lower case.',
    target_url String CODEC(ZSTD(1)) COMMENT 'Address of the file of a download, or of the page of an outlink.',
    search_term String CODEC(ZSTD(1)) COMMENT 'What was searched for on the site.',
    duration_ms UInt32 CODEC(ZSTD(1)) COMMENT 'Visible time on this page view so far, milliseconds; 0 where not told. The duration of a page view is the largest over its hits.',

    screen_width UInt16 CODEC(ZSTD(1)) COMMENT 'Screen width, CSS pixels; 0 where not told.',
    screen_height UInt16 CODEC(ZSTD(1)) COMMENT 'Screen height, CSS pixels; 0 where not told.',
    language LowCardinality(String) COMMENT 'Primary language subtag (ISO 639), lower case.',
    language_tag LowCardinality(String) COMMENT 'Language tag (BCP 47) as the client sent it.',
    time_zone LowCardinality(String) COMMENT 'Client''s time zone, IANA name.',
    user_agent LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'The User-Agent header.',
    client_hints Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'Sec-CH-UA-* headers by lower-case name, values as sent.',
    ip IPv6 CODEC(ZSTD(1)) COMMENT 'Client''s address as far as the site keeps it: IPv4 as ::ffff:a.b.c.d, :: where none is kept.',
    ip_policy LowCardinality(String) COMMENT 'What the site keeps of the address: full, truncated or none.',
    signal LowCardinality(String) COMMENT 'The objection under which the hit was made anonymous: global_privacy_control, do_not_track, opt_out, no_consent; none where there is none.',

    source_kind LowCardinality(String) COMMENT 'Class of the source: direct, internal, campaign, search, social, mail, assistant, referral or unknown.',
    source_name LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Name of the search engine, network or mailer; else the referring host.',
    source_term String CODEC(ZSTD(1)) COMMENT 'Search term, where the referrer tells.',
    campaign_source LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'utm_source of page_url.',
    campaign_medium LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'utm_medium of page_url.',
    campaign_name LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'utm_campaign of page_url.',
    campaign_term LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'utm_term of page_url.',
    campaign_content LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'utm_content of page_url.',
    campaign_id LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'utm_id of page_url.',
    click_id_kind LowCardinality(String) COMMENT 'Parameter that holds the click id: gclid, fbclid, msclkid, ...',
    click_id String CODEC(ZSTD(1)) COMMENT 'Click id of the advertising network.',

    device_kind LowCardinality(String) COMMENT 'desktop, mobile, tablet, television, console, wearable, other or unknown.',
    device_brand LowCardinality(String) COMMENT 'Maker of the device.',
    device_model LowCardinality(String) COMMENT 'Model of the device.',
    os LowCardinality(String) COMMENT 'Operating system.',
    os_version LowCardinality(String) COMMENT 'Version of the operating system.',
    browser LowCardinality(String) COMMENT 'Browser.',
    browser_version LowCardinality(String) COMMENT 'Version of the browser.',
    is_bot Bool COMMENT 'True for a robot. Robots are stored and marked; the analysts'' views leave them out, the view bots shows them.',
    bot_name LowCardinality(String) COMMENT 'Which robot, where known.',

    country LowCardinality(String) COMMENT 'Country of the address, ISO 3166-1 alpha-2.',
    region LowCardinality(String) COMMENT 'Region or state of the address.',
    city LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'City of the address.',
    latitude Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'Degrees north; null where not known.',
    longitude Nullable(Float64) CODEC(ZSTD(1)) COMMENT 'Degrees east; null where not known.',
    place_time_zone LowCardinality(String) COMMENT 'Time zone of the place, IANA name.',
    network_number UInt32 CODEC(ZSTD(1)) COMMENT 'Autonomous system of the address (RFC 1930); 0 where not known.',
    network_organisation LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Organisation of the network: the internet provider, or the company itself.',
    network_domain LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Registrable domain of that organisation, where known.',

    partner LowCardinality(String) COMMENT 'Who supplied the partner data; empty where no partner knows the hit.',
    partner_matched_by LowCardinality(String) COMMENT 'How partner data matched: ip_range, email_hash, email_domain, company_domain or visitor_id.',
    company_name LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Company, as a partner names it.',
    company_domain LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'Registrable domain of the company, as a partner tells it.',
    partner_attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'Whatever else the partner knows.',
    partner_permitted_uses Array(LowCardinality(String)) CODEC(ZSTD(1)) COMMENT 'Purposes the partner data may be used for.',

    contact_name String CODEC(ZSTD(1)) COMMENT 'Full name, as the person submitted it.',
    contact_email String CODEC(ZSTD(1)) COMMENT 'E-mail address, as the person submitted it.',
    contact_phone String CODEC(ZSTD(1)) COMMENT 'Telephone number, as the person submitted it.',
    contact_job_title String CODEC(ZSTD(1)) COMMENT 'Job title, as the person submitted it.',
    contact_company String CODEC(ZSTD(1)) COMMENT 'Company, as the person submitted it.',
    contact_address String CODEC(ZSTD(1)) COMMENT 'Mailing address, as the person submitted it.',

    consent_measurement Nullable(Bool) COMMENT 'Whether measuring visits was permitted; null where not asked.',
    consent_personalisation Nullable(Bool) COMMENT 'Whether fitting content to the person was permitted; null where not asked.',
    consent_advertising Nullable(Bool) COMMENT 'Whether advertising was permitted; null where not asked.',
    consent_partner_sharing Nullable(Bool) COMMENT 'Whether sharing with partners was permitted; null where not asked.',
    consent_wording LowCardinality(String) COMMENT 'Version of the wording that was shown.',
    consent_given_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) COMMENT 'Client''s clock when the choice was made; null where not told.',

    properties Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'Free properties, as sent.',
    tag_version LowCardinality(String) COMMENT 'Version of the JavaScript tag; empty for other clients.',
    geoip_version LowCardinality(String) COMMENT 'Build times of the GeoIP databases that were used.',
    enrichment_errors Array(LowCardinality(String)) COMMENT 'All that went wrong while enriching, as names.',
    kafka_partition Int32 CODEC(ZSTD(1)) COMMENT 'Partition of hits.enriched that the row was read from.',
    kafka_offset Int64 CODEC(Delta(8), ZSTD(1)) COMMENT 'Its offset there.',

    INDEX by_visitor visitor_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_insertion inserted_at TYPE minmax GRANULARITY 1,
    INDEX by_time occurred_at TYPE minmax GRANULARITY 1,

    CONSTRAINT received_in_this_century CHECK received_at >= toDateTime64('2020-01-01 00:00:00', 3, 'UTC') AND received_at < toDateTime64('2100-01-01 00:00:00', 3, 'UTC'),
    CONSTRAINT site_is_named CHECK site != '',
    CONSTRAINT coordinates_on_earth CHECK abs(ifNull(latitude, 0)) <= 90 AND abs(ifNull(longitude, 0)) <= 180
)
ENGINE = {engine}MergeTree
PARTITION BY toYYYYMM(received_at)
PRIMARY KEY (site, toDate(received_at), visitor_id)
ORDER BY (site, toDate(received_at), visitor_id, received_at, hit_id)
TTL toDate(received_at) + INTERVAL 25 MONTH
SETTINGS
    -- Merging is what a hit costs most. Some million hits lie in one file instead of in five hundred, one of each stream of a
    -- column, which are made and deleted with each merge; and ten parts are merged into one instead of five.
    min_bytes_for_wide_part = 1073741824,
    merge_selector_base = 10,
    ttl_only_drop_parts = 1,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000
COMMENT 'Every hit, robots included, one row each. For everyday questions see the views: sessions, visitors, contacts, companies, pages, downloads, sources, live_visitors, bots.';
