SELECT id, pipeline, detector, metric, key, severity, state,
       (extract(epoch FROM start) * 1000)::bigint AS start, size_ms, span_ms, count, value, expected, spread, score, summary,
       (extract(epoch FROM resolved) * 1000)::bigint AS resolved, (extract(epoch FROM since) * 1000)::bigint AS since,
       (extract(epoch FROM until) * 1000)::bigint AS until, peak,
       (extract(epoch FROM peak_start) * 1000)::bigint AS peak_start, excess, ending, level,
       (extract(epoch FROM raised) * 1000)::bigint AS raised, (extract(epoch FROM early_at) * 1000)::bigint AS early_at,
       (extract(epoch FROM firing_at) * 1000)::bigint AS firing_at,
       (extract(epoch FROM resolved_at) * 1000)::bigint AS resolved_at,
       (extract(epoch FROM withdrawn_at) * 1000)::bigint AS withdrawn_at, useful, explanation::text AS explanation
FROM alerts
LEFT JOIN alert_feedback ON alert_id = id
WHERE rank < 3
  AND (NOT $1::boolean OR rank < 2)
  AND state IN (SELECT jsonb_array_elements_text($2::jsonb))
  AND ($3::text IS NULL OR detector = $3)
  AND ($4::text IS NULL OR metric = $4)
  AND ($5::text IS NULL OR key = $5)
  AND ($6::text IS NULL OR severity = $6)
  AND ($7::bigint IS NULL OR start >= timestamptz 'epoch' + $7 * interval '1 millisecond')
  AND ($8::bigint IS NULL OR start < timestamptz 'epoch' + $8 * interval '1 millisecond')
  AND ($9::bigint IS NULL OR (start, id) < (timestamptz 'epoch' + $9 * interval '1 millisecond', $10::text))
ORDER BY alerts.start DESC, alerts.id DESC
LIMIT $11
