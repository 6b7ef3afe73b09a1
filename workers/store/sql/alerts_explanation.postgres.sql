-- The explanation of the latest end is kept, of several with this end the one of most events: also that of a record that is not the
-- newest. Users and summary make the order total, so that the row does not depend on the order of arrival.
WITH records AS (
    SELECT id, explanation,
           row_number() OVER (
               PARTITION BY id
               ORDER BY (explanation ->> 'until')::bigint DESC, (explanation ->> 'events')::bigint DESC,
                        (explanation ->> 'users')::bigint DESC, (explanation ->> 'summary') COLLATE "C" DESC
           ) AS place
    FROM jsonb_to_recordset($1::jsonb) AS r (id text, explanation jsonb)
    WHERE explanation IS NOT NULL
)
UPDATE alerts AS a SET explanation = r.explanation
FROM records AS r
WHERE a.id = r.id
  AND place = 1
  AND (a.explanation IS NULL
       OR ((r.explanation ->> 'until')::bigint, (r.explanation ->> 'events')::bigint, (r.explanation ->> 'users')::bigint,
           (r.explanation ->> 'summary') COLLATE "C")
        > ((a.explanation ->> 'until')::bigint, (a.explanation ->> 'events')::bigint, (a.explanation ->> 'users')::bigint,
           (a.explanation ->> 'summary') COLLATE "C"))
