SELECT user_id, events, purchases, revenue_micros / 1e6 AS revenue, sessions, first_seen, last_seen
FROM user_stats
WHERE user_id = ?1
