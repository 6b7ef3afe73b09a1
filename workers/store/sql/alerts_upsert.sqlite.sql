-- The highest state of an alert wins, of equal ones the later; it was raised when its earliest record was sent.
INSERT INTO alerts AS a (id, pipeline, detector, metric, key, severity, state, rank, start, size_ms, count, value,
                         expected, spread, score, summary, resolved, raised)
SELECT j.value ->> 'id', j.value ->> 'pipeline', j.value ->> 'detector', j.value ->> 'metric', j.value ->> 'key',
       j.value ->> 'severity', j.value ->> 'state', j.value ->> 'rank', j.value ->> 'start', j.value ->> 'size_ms',
       j.value ->> 'count', j.value ->> 'value', j.value ->> 'expected', j.value ->> 'spread', j.value ->> 'score',
       j.value ->> 'summary', j.value ->> 'resolved', j.value ->> 'raised'
FROM json_each(?1) AS j
WHERE true
ORDER BY j.key
ON CONFLICT (id) DO UPDATE SET
    severity = CASE WHEN excluded.rank >= a.rank THEN excluded.severity ELSE a.severity END,
    state = CASE WHEN excluded.rank >= a.rank THEN excluded.state ELSE a.state END,
    rank = max(excluded.rank, a.rank),
    count = CASE WHEN excluded.rank >= a.rank THEN excluded.count ELSE a.count END,
    value = CASE WHEN excluded.rank >= a.rank THEN excluded.value ELSE a.value END,
    expected = CASE WHEN excluded.rank >= a.rank THEN excluded.expected ELSE a.expected END,
    spread = CASE WHEN excluded.rank >= a.rank THEN excluded.spread ELSE a.spread END,
    score = CASE WHEN excluded.rank >= a.rank THEN excluded.score ELSE a.score END,
    summary = CASE WHEN excluded.rank >= a.rank THEN excluded.summary ELSE a.summary END,
    resolved = CASE WHEN excluded.rank >= a.rank THEN excluded.resolved ELSE a.resolved END,
    raised = min(a.raised, excluded.raised)
