-- The last word counts, whichever replica took it.
INSERT INTO alert_feedback AS known (alert_id, useful, time)
VALUES ($1, $2, timestamptz 'epoch' + $3 * interval '1 millisecond')
ON CONFLICT (alert_id) DO UPDATE SET useful = excluded.useful, time = excluded.time
WHERE excluded.time >= known.time
