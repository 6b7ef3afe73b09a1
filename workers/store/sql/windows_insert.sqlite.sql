-- A closed window never changes: the first record of it is as good as any.
INSERT INTO windows (metric, key, start, size_ms, count, value, bands, definition)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
       value ->> 7
FROM json_each(?1)
WHERE true
ON CONFLICT (metric, key, start, definition) DO NOTHING
