-- What people permitted on the sites themselves, purpose by purpose: whoever serves a purpose asks here first.

CREATE OR REPLACE VIEW {database}.consents{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    purpose String COMMENT 'measurement, personalisation, advertising or partner_sharing.',
    is_permitted Bool COMMENT 'What they answered last.',
    wording String COMMENT 'Version of the wording that was shown then.',
    told_at DateTime64(3, 'UTC') COMMENT 'When the hit happened that told so.'
)
SQL SECURITY DEFINER
AS
SELECT
    h.site AS site,
    h.visitor_id AS visitor_id,
    answer.1 AS purpose,
    CAST(argMax(assumeNotNull(answer.2), (h.occurred_at, h.hit_id)), 'Bool') AS is_permitted,
    argMax(toString(h.consent_wording), (h.occurred_at, h.hit_id)) AS wording,
    max(h.occurred_at) AS told_at
FROM {database}.hits AS h
ARRAY JOIN [('measurement', consent_measurement), ('personalisation', consent_personalisation), ('advertising', consent_advertising), ('partner_sharing', consent_partner_sharing)] AS answer
WHERE h.visitor_id != '' AND answer.2 IS NOT NULL
GROUP BY site, visitor_id, purpose
COMMENT 'The last answer of each visitor to each purpose. Who was never asked has no row. Audiences of a purpose, and privacy share, leave out who refused.';
