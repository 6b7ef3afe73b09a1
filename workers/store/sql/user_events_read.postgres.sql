-- Events of one millisecond stay together: a page ends after those of its last one's.
SELECT event_id, type AS event_type, user_id, item_id,
       (extract(epoch FROM time) * 1000)::bigint AS time, (extract(epoch FROM received) * 1000)::bigint AS received,
       properties::text AS properties
FROM user_events
WHERE user_id = $1
  AND ($2::bigint IS NULL OR time < timestamptz 'epoch' + $2 * interval '1 millisecond')
  AND time >= coalesce(
      (SELECT time FROM user_events
       WHERE user_id = $1 AND ($2::bigint IS NULL OR time < timestamptz 'epoch' + $2 * interval '1 millisecond')
       ORDER BY time DESC LIMIT 1 OFFSET $3 - 1),
      '-infinity')
ORDER BY user_events.time DESC, event_id
LIMIT $4
