-- A closed window never changes: the first record of it is as good as any.
INSERT INTO windows (metric, key, start, size_ms, count, value, bands, definition)
SELECT metric, key, start, size_ms, count, value, bands, definition
FROM staging_windows
ON CONFLICT (metric, key, start, definition) DO NOTHING
