-- The highest state of an alert wins, of equal ones the later; it was raised when its earliest record was sent.
WITH records AS (
    SELECT r.*,
           row_number() OVER (PARTITION BY id ORDER BY rank DESC, ordinal DESC) AS place,
           min(raised) OVER (PARTITION BY id) AS first_raised
    FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (
        id text, pipeline text, detector text, metric text, key text, severity text, state text, rank smallint,
        start bigint, size_ms bigint, count bigint, value double precision, expected double precision,
        spread double precision, score double precision, summary text, resolved bigint, raised bigint
    )) WITH ORDINALITY AS r (
        id, pipeline, detector, metric, key, severity, state, rank, start, size_ms, count, value, expected, spread, score,
        summary, resolved, raised, ordinal
    )
)
INSERT INTO alerts AS a (id, pipeline, detector, metric, key, severity, state, rank, start, size_ms, count, value,
                         expected, spread, score, summary, resolved, raised)
SELECT id, pipeline, detector, metric, key, severity, state, rank,
       timestamptz 'epoch' + start * interval '1 millisecond', size_ms, count, value, expected, spread, score, summary,
       timestamptz 'epoch' + resolved * interval '1 millisecond',
       timestamptz 'epoch' + first_raised * interval '1 millisecond'
FROM records
WHERE place = 1
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    severity = CASE WHEN excluded.rank >= a.rank THEN excluded.severity ELSE a.severity END,
    state = CASE WHEN excluded.rank >= a.rank THEN excluded.state ELSE a.state END,
    rank = greatest(excluded.rank, a.rank),
    count = CASE WHEN excluded.rank >= a.rank THEN excluded.count ELSE a.count END,
    value = CASE WHEN excluded.rank >= a.rank THEN excluded.value ELSE a.value END,
    expected = CASE WHEN excluded.rank >= a.rank THEN excluded.expected ELSE a.expected END,
    spread = CASE WHEN excluded.rank >= a.rank THEN excluded.spread ELSE a.spread END,
    score = CASE WHEN excluded.rank >= a.rank THEN excluded.score ELSE a.score END,
    summary = CASE WHEN excluded.rank >= a.rank THEN excluded.summary ELSE a.summary END,
    resolved = CASE WHEN excluded.rank >= a.rank THEN excluded.resolved ELSE a.resolved END,
    raised = least(a.raised, excluded.raised)
