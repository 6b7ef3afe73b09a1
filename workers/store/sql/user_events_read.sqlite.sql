-- Events of one millisecond stay together: a page ends after those of its last one's.
SELECT event_id, type AS event_type, user_id, item_id, time, received, properties
FROM user_events
WHERE user_id = ?1
  AND (?2 IS NULL OR time < ?2)
  AND time >= coalesce(
      (SELECT time FROM user_events
       WHERE user_id = ?1 AND (?2 IS NULL OR time < ?2)
       ORDER BY time DESC LIMIT 1 OFFSET ?3 - 1),
      -9223372036854775808)
ORDER BY time DESC, event_id
LIMIT ?4
