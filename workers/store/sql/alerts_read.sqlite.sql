SELECT id, pipeline, detector, metric, key, severity, state, start, size_ms, span_ms, count, value, expected, spread, score,
       summary, resolved, since, until, peak, peak_start, excess, ending, level, raised, early_at, firing_at, resolved_at,
       withdrawn_at, useful, explanation
FROM alerts
LEFT JOIN alert_feedback ON alert_id = id
WHERE rank < 3
  AND (NOT ?1 OR rank < 2)
  AND state IN (SELECT value FROM json_each(?2))
  AND (?3 IS NULL OR detector = ?3)
  AND (?4 IS NULL OR metric = ?4)
  AND (?5 IS NULL OR key = ?5)
  AND (?6 IS NULL OR severity = ?6)
  AND (?7 IS NULL OR start >= ?7)
  AND (?8 IS NULL OR start < ?8)
  AND (?9 IS NULL OR (start, id) < (?9, ?10))
ORDER BY start DESC, id DESC
LIMIT ?11
