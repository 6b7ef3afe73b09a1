-- Rows from before alerts had an end are over with their window.
SELECT id, metric, key AS alert_key,
       (extract(epoch FROM coalesce(since, start)) * 1000)::bigint AS began,
       (extract(epoch FROM coalesce(until, resolved, start + size_ms * interval '1 millisecond')) * 1000)::bigint AS ended,
       f.useful AS useful
FROM alerts AS a
JOIN alert_feedback AS f ON f.alert_id = a.id
WHERE ($1::bigint IS NULL OR start >= timestamptz 'epoch' + $1 * interval '1 millisecond')
  AND ($2::bigint IS NULL OR start < timestamptz 'epoch' + $2 * interval '1 millisecond')
ORDER BY start DESC, id
LIMIT $3
