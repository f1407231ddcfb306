-- What people permitted on the sites themselves, purpose by purpose: whoever serves a purpose asks here first.
--
-- A tab tells with each hit what was answered in it, for as long as it is open, also after something else was answered in
-- another. So the answer of the last hit need not be the last answer: an answer is one for each time of the client's clock
-- at which it was given, and is as old as the first hit that told it, as clients' clocks may be wrong by years. Of answers
-- that were told first in the same minute the client's clock knows better, as hits are on their way for seconds.

CREATE OR REPLACE VIEW {database}.consents{on_cluster}
(
    site LowCardinality(String) COMMENT 'Key of the site.',
    visitor_id String COMMENT 'Who, unique within a site.',
    purpose String COMMENT 'measurement, personalisation, advertising or partner_sharing.',
    is_permitted Bool COMMENT 'What they answered last.',
    wording String COMMENT 'Version of the wording that was shown then.',
    told_at DateTime64(3, 'UTC') COMMENT 'When the first hit happened that told this answer.'
)
SQL SECURITY DEFINER
AS
WITH answers AS
    (
        SELECT
            h.site AS site,
            h.visitor_id AS visitor_id,
            asked.1 AS purpose,
            ifNull(h.consent_given_at, h.occurred_at) AS given_at,
            argMax((assumeNotNull(asked.2), toString(h.consent_wording)), (h.occurred_at, h.hit_id)) AS answer,
            min(h.occurred_at) AS first_told_at
        FROM {database}.hits AS h
        ARRAY JOIN [('measurement', consent_measurement), ('personalisation', consent_personalisation), ('advertising', consent_advertising), ('partner_sharing', consent_partner_sharing)] AS asked
        WHERE h.visitor_id != '' AND asked.2 IS NOT NULL
        GROUP BY site, visitor_id, purpose, given_at
    )
SELECT
    site,
    visitor_id,
    purpose,
    CAST(argMax(answer.1, (toStartOfMinute(first_told_at), given_at) AS recency), 'Bool') AS is_permitted,
    argMax(answer.2, recency) AS wording,
    argMax(first_told_at, recency) AS told_at
FROM answers
GROUP BY site, visitor_id, purpose
COMMENT 'The last answer of each visitor to each purpose. Who was never asked has no row. Audiences of a purpose, and privacy share, leave out who refused.';
