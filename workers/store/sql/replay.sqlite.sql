-- Of a partition in the order of offsets; of several partitions first the one that has not got as far.
SELECT source_partition, event_id, type AS event_type, user_id, item_id, time, received, properties
FROM (
    SELECT *, max(time) OVER (PARTITION BY source_partition ORDER BY source_offset) AS reached
    FROM user_events
    WHERE (?1 IS NULL OR time >= ?1) AND (?2 IS NULL OR time < ?2)
)
ORDER BY reached, source_partition, source_offset
