-- Reads all users: ranks change with every batch, and an index on each would cost every write.
SELECT user_id, events, purchases, revenue::double precision AS revenue, sessions,
       (extract(epoch FROM first_seen) * 1000)::bigint AS first_seen,
       (extract(epoch FROM last_seen) * 1000)::bigint AS last_seen
FROM user_stats
ORDER BY CASE $1 WHEN 'revenue' THEN user_stats.revenue WHEN 'events' THEN events ELSE extract(epoch FROM user_stats.last_seen) END DESC, user_id
LIMIT $2
