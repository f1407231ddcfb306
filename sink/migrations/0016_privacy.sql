-- What people had erased: which places of the topic have no row on purpose, and who did what, when. Neither names anybody.

CREATE TABLE IF NOT EXISTS {database}.erased_offsets{on_cluster}
(
    kafka_partition Int32 COMMENT 'Partition of hits.enriched.',
    first_offset Int64 COMMENT 'First offset there that has no row on purpose.',
    last_offset Int64 COMMENT 'Last offset of those that follow it.',
    erased_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When that was written down.'
)
ENGINE = {engine}ReplacingMergeTree
ORDER BY (kafka_partition, first_offset, last_offset)
TTL toDate(erased_at) + INTERVAL 25 MONTH
SETTINGS non_replicated_deduplication_window = 10000, replicated_deduplication_window = 10000
COMMENT 'Places of hits.enriched whose hits somebody had erased: by these, sink audit knows that nothing is missing.';

CREATE TABLE IF NOT EXISTS {database}.privacy_trail{on_cluster}
(
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When.',
    operator String COMMENT 'Who entered the request.',
    action LowCardinality(String) COMMENT 'The right, such as erase, or the command, such as share.',
    site LowCardinality(String) COMMENT 'Key of the site.',
    directive_id UUID COMMENT 'Names the request.',
    rows UInt64 COMMENT 'Rows that the step was about.',
    stage LowCardinality(String) COMMENT 'The step: found, found_again, recorded, hits, sessions, others, hidden, removed or done; privacy where the request was entered.'
)
ENGINE = {engine}MergeTree
ORDER BY (site, directive_id, at)
COMMENT 'What was done about the requests of people, a row a step. Only added to.';

CREATE TABLE IF NOT EXISTS {database}.erasing{on_cluster}
(
    pass UUID COMMENT 'Names the pass over the tables.',
    site LowCardinality(String) COMMENT 'Key of the site.',
    kind LowCardinality(String) COMMENT 'visitor_id, email or phone; touched for a visitor whose sessions are told anew.',
    value String COMMENT 'What names the person, as the tables have it.',
    until Int64 COMMENT 'Rows up to then go, Unix milliseconds.'
)
ENGINE = {engine}MergeTree
ORDER BY (pass, site, kind, value)
-- The same may have to be written again after the table was emptied.
SETTINGS non_replicated_deduplication_window = 0, replicated_deduplication_window = 0
COMMENT 'Whose rows are being erased at this moment: here rather than in statements, which ClickHouse keeps. Empty otherwise.';
