-- Reads all users: ranks change with every batch, and an index on each would cost every write.
SELECT user_id, events, purchases, revenue_micros / 1e6 AS revenue, sessions, first_seen, last_seen
FROM user_stats
ORDER BY CASE ?1 WHEN 'revenue' THEN revenue_micros WHEN 'events' THEN events ELSE last_seen END DESC, user_id
LIMIT ?2
