-- The newest record of an alert wins: the highest state, in it the latest end of the episode, then the most events; score and
-- summary only make the order total, so that the row does not depend on the order of arrival.
WITH records AS (
    SELECT r.*,
           row_number() OVER (
               PARTITION BY id
               ORDER BY rank DESC, until DESC NULLS LAST, count DESC, score DESC, summary COLLATE "C" DESC
           ) AS place
    FROM jsonb_to_recordset($1::jsonb) AS r (
        id text, pipeline text, detector text, metric text, key text, severity text, state text, rank smallint,
        start bigint, size_ms bigint, span_ms bigint, count bigint, value double precision, expected double precision,
        spread double precision, score double precision, summary text, resolved bigint, since bigint, until bigint,
        peak double precision, peak_start bigint, excess double precision, ending text, level double precision,
        raised bigint
    )
)
INSERT INTO alerts AS a (id, pipeline, detector, metric, key, severity, state, rank, start, size_ms, span_ms, count, value,
                         expected, spread, score, summary, resolved, since, until, peak, peak_start, excess, ending, level,
                         raised)
SELECT id, pipeline, detector, metric, key, severity, state, rank,
       timestamptz 'epoch' + start * interval '1 millisecond', size_ms, nullif(span_ms, 0), count, value, expected, spread,
       score, summary, timestamptz 'epoch' + resolved * interval '1 millisecond',
       timestamptz 'epoch' + since * interval '1 millisecond', timestamptz 'epoch' + until * interval '1 millisecond',
       peak, timestamptz 'epoch' + peak_start * interval '1 millisecond', excess, ending, level,
       timestamptz 'epoch' + raised * interval '1 millisecond'
FROM records
WHERE place = 1
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    severity = excluded.severity, state = excluded.state, rank = excluded.rank, span_ms = excluded.span_ms,
    count = excluded.count, value = excluded.value, expected = excluded.expected, spread = excluded.spread,
    score = excluded.score, summary = excluded.summary, resolved = excluded.resolved, since = excluded.since,
    until = excluded.until, peak = excluded.peak, peak_start = excluded.peak_start, excess = excluded.excess,
    ending = excluded.ending, level = excluded.level
WHERE (excluded.rank, coalesce(excluded.until, '-infinity'), excluded.count, excluded.score, excluded.summary COLLATE "C")
    > (a.rank, coalesce(a.until, '-infinity'), a.count, a.score, a.summary COLLATE "C")
