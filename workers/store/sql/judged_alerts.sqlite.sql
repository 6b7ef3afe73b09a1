-- Rows from before alerts had an end are over with their window.
SELECT id, metric, key AS alert_key, coalesce(since, start) AS began, coalesce(until, resolved, start + size_ms) AS ended,
       f.useful AS useful
FROM alerts AS a
JOIN alert_feedback AS f ON f.alert_id = a.id
WHERE (?1 IS NULL OR start >= ?1) AND (?2 IS NULL OR start < ?2)
ORDER BY start DESC, id
LIMIT ?3
