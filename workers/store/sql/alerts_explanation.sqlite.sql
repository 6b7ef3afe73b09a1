-- The explanation of the latest end is kept, of several with this end the one of most events: also that of a record that is not the
-- newest. Users and summary make the order total, so that the row does not depend on the order of arrival.
UPDATE alerts AS a SET explanation = r.explanation
FROM (
    SELECT id, explanation,
           row_number() OVER (
               PARTITION BY id
               ORDER BY explanation ->> 'until' DESC, explanation ->> 'events' DESC, explanation ->> 'users' DESC,
                        explanation ->> 'summary' DESC
           ) AS place
    FROM (
        SELECT j.value ->> 'id' AS id, j.value ->> 'explanation' AS explanation
        FROM json_each(?1) AS j
    )
    WHERE explanation IS NOT NULL
) AS r
WHERE a.id = r.id
  AND r.place = 1
  AND (a.explanation IS NULL
       OR (r.explanation ->> 'until', r.explanation ->> 'events', r.explanation ->> 'users', r.explanation ->> 'summary')
        > (a.explanation ->> 'until', a.explanation ->> 'events', a.explanation ->> 'users', a.explanation ->> 'summary'))
