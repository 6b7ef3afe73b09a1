SELECT (extract(epoch FROM start) * 1000)::bigint AS start, size_ms, count, value, bands::text AS bands
FROM windows
WHERE metric = $1 AND key = $2 AND definition IN ($6, '00000000')
  AND ($3::bigint IS NULL OR start >= timestamptz 'epoch' + $3 * interval '1 millisecond')
  AND ($4::bigint IS NULL OR start < timestamptz 'epoch' + $4 * interval '1 millisecond')
ORDER BY windows.start DESC
LIMIT $5
