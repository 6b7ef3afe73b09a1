SELECT start, size_ms, count, value, bands
FROM windows
WHERE metric = ?1 AND key = ?2 AND definition IN (?6, '00000000')
  AND (?3 IS NULL OR start >= ?3)
  AND (?4 IS NULL OR start < ?4)
ORDER BY start DESC
LIMIT ?5
