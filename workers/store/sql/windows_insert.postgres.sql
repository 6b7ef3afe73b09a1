-- A closed window never changes: the first record of it is as good as any.
INSERT INTO windows (metric, key, start, size_ms, count, value, bands)
SELECT metric, key, start, size_ms, count, value, bands
FROM staging_windows
ON CONFLICT (metric, key, start) DO NOTHING
