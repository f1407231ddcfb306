-- What was given to partners. What a person permits, and withdraws, stands in the topic privacy; here stands what was given
-- under it, so that everybody it concerns, and every partner, can be told.

CREATE TABLE IF NOT EXISTS {database}.privacy_shares{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    partner LowCardinality(String) COMMENT 'To whom it was given.',
    purpose LowCardinality(String) COMMENT 'What for.',
    directive_id UUID COMMENT 'Permission under which it was given; the partner knows the person by this id.',
    subject String COMMENT 'Keyed hash of site and e-mail address, lower-case hex.',
    key_name LowCardinality(String) COMMENT 'Name of the key that hashed it.',
    fields Array(LowCardinality(String)) COMMENT 'Names of the contact fields that were given.',
    shared_at DateTime64(3, 'UTC') COMMENT 'When.'
)
ENGINE = {engine}MergeTree
ORDER BY (site, partner, purpose, shared_at, directive_id)
-- Giving the same again is another share.
SETTINGS replicated_deduplication_window = 0
COMMENT 'What was given to whom under which permission, without anything that names a person. Written by `privacy share`.';
