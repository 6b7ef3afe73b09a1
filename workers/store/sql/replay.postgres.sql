-- Of a partition in the order of offsets; of several partitions first the one that has not got as far.
SELECT source_partition, event_id, type AS event_type, user_id, item_id,
       (extract(epoch FROM time) * 1000)::bigint AS time, (extract(epoch FROM received) * 1000)::bigint AS received,
       properties::text AS properties
FROM (
    SELECT *, max(time) OVER (PARTITION BY source_partition ORDER BY source_offset) AS reached
    FROM user_events
    WHERE ($1::bigint IS NULL OR time >= timestamptz 'epoch' + $1 * interval '1 millisecond')
      AND ($2::bigint IS NULL OR time < timestamptz 'epoch' + $2 * interval '1 millisecond')
) AS events
ORDER BY reached, source_partition, source_offset
