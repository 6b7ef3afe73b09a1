-- Adds the batch's new events to their users' statistics. Users for whom an event came before one that is stored already
-- have negative sessions (-n - 1) until they are recounted.
WITH by_time AS (
    SELECT s.user_id, s.time, s.purchase, s.revenue_micros,
           lag(s.time) OVER (PARTITION BY s.user_id ORDER BY s.time) AS before
    FROM temp.staging_events s
    JOIN user_events e
      ON e.event_id = s.event_id AND e.source_partition = s.source_partition AND e.source_offset = s.source_offset
    WHERE s.user_id IS NOT NULL
)
INSERT INTO user_stats AS u (user_id, events, purchases, revenue_micros, sessions, first_seen, last_seen)
SELECT user_id,
       count(*),
       sum(purchase),
       -- in two sums, which cannot overflow: SQLite fails on a sum that does, but not on + and *
       sum(revenue_micros / 1000000) * 1000000 + sum(revenue_micros % 1000000),
       sum(before IS NULL OR time - before > 1800000),
       min(time),
       max(time)
FROM by_time
WHERE true
GROUP BY user_id
ON CONFLICT (user_id) DO UPDATE SET
    events = u.events + excluded.events,
    purchases = u.purchases + excluded.purchases,
    revenue_micros = u.revenue_micros + excluded.revenue_micros,
    sessions = CASE
        WHEN excluded.first_seen >= u.last_seen THEN u.sessions + excluded.sessions
            - (excluded.first_seen - u.last_seen <= 1800000)
        WHEN excluded.last_seen <= u.first_seen THEN u.sessions + excluded.sessions
            - (u.first_seen - excluded.last_seen <= 1800000)
        ELSE -u.sessions - 1
    END,
    first_seen = min(u.first_seen, excluded.first_seen),
    last_seen = max(u.last_seen, excluded.last_seen)
