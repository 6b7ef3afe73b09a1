SELECT user_id, events, purchases, revenue::double precision AS revenue, sessions,
       (extract(epoch FROM first_seen) * 1000)::bigint AS first_seen,
       (extract(epoch FROM last_seen) * 1000)::bigint AS last_seen
FROM user_stats
WHERE user_id = $1
