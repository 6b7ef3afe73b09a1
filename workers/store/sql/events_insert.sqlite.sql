INSERT INTO user_events (event_id, type, user_id, item_id, time, received, properties, source_partition, source_offset)
SELECT event_id, type, user_id, item_id, time, received, properties, source_partition, source_offset
FROM temp.staging_events
WHERE true
ON CONFLICT (event_id) DO NOTHING
