-- The newest record of an alert wins: the highest state, in it the latest end of the episode, then the most events; score and
-- summary only make the order total, so that the row does not depend on the order of arrival.
INSERT INTO alerts AS a (id, pipeline, detector, metric, key, severity, state, rank, start, size_ms, span_ms, count, value,
                         expected, spread, score, summary, resolved, since, until, peak, peak_start, excess, ending, level,
                         raised)
SELECT j.value ->> 'id', j.value ->> 'pipeline', j.value ->> 'detector', j.value ->> 'metric', j.value ->> 'key',
       j.value ->> 'severity', j.value ->> 'state', j.value ->> 'rank', j.value ->> 'start', j.value ->> 'size_ms',
       nullif(j.value ->> 'span_ms', 0), j.value ->> 'count', j.value ->> 'value', j.value ->> 'expected',
       j.value ->> 'spread', j.value ->> 'score', j.value ->> 'summary', j.value ->> 'resolved', j.value ->> 'since',
       j.value ->> 'until', j.value ->> 'peak', j.value ->> 'peak_start', j.value ->> 'excess', j.value ->> 'ending',
       j.value ->> 'level', j.value ->> 'raised'
FROM json_each(?1) AS j
WHERE true
ORDER BY j.key
ON CONFLICT (id) DO UPDATE SET
    severity = excluded.severity, state = excluded.state, rank = excluded.rank, span_ms = excluded.span_ms,
    count = excluded.count, value = excluded.value, expected = excluded.expected, spread = excluded.spread,
    score = excluded.score, summary = excluded.summary, resolved = excluded.resolved, since = excluded.since,
    until = excluded.until, peak = excluded.peak, peak_start = excluded.peak_start, excess = excluded.excess,
    ending = excluded.ending, level = excluded.level
WHERE (excluded.rank, coalesce(excluded.until, -9223372036854775808), excluded.count, excluded.score, excluded.summary)
    > (a.rank, coalesce(a.until, -9223372036854775808), a.count, a.score, a.summary)
