-- Sessions of users whose new events fall among old ones: see sessions_recount.postgres.sql.
WITH RECURSIVE batch AS MATERIALIZED (
    SELECT source_partition, min(source_offset) AS low, max(source_offset) AS high
    FROM temp.staging_events
    GROUP BY source_partition
),
new_events AS (
    SELECT s.user_id, s.time, lag(s.time) OVER (PARTITION BY s.user_id ORDER BY s.time) AS before
    FROM temp.staging_events s
    JOIN user_events e
      ON e.event_id = s.event_id AND e.source_partition = s.source_partition AND e.source_offset = s.source_offset
    JOIN user_stats u ON u.user_id = s.user_id AND u.sessions < 0
),
numbered AS (
    SELECT user_id, time,
           sum(before IS NULL OR time - before > 1800000)
               OVER (PARTITION BY user_id ORDER BY time ROWS UNBOUNDED PRECEDING) AS run
    FROM new_events
),
runs AS MATERIALIZED (
    SELECT user_id, run, min(time) AS low, max(time) AS high
    FROM numbered
    GROUP BY user_id, run
),
grid(user_id, run, low, high, piece) AS (
    SELECT user_id, run, low, high, low - 1800000 FROM runs
    UNION ALL
    SELECT user_id, run, low, high, piece + 1800000 FROM grid WHERE piece + 1800000 <= high + 1800000
),
pieces AS (
    SELECT g.user_id, g.run, g.low, g.piece,
           (SELECT e.time FROM user_events e
            WHERE e.user_id = g.user_id
              AND e.time >= g.piece AND e.time < g.piece + 1800000
              AND e.time <= g.high + 1800000
              AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.source_partition = e.source_partition
                                AND e.source_offset BETWEEN b.low AND b.high)
            ORDER BY e.time LIMIT 1) AS first_old,
           (SELECT e.time FROM user_events e
            WHERE e.user_id = g.user_id
              AND e.time >= g.piece AND e.time < g.piece + 1800000
              AND e.time <= g.high + 1800000
              AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.source_partition = e.source_partition
                                AND e.source_offset BETWEEN b.low AND b.high)
            ORDER BY e.time DESC LIMIT 1) AS last_old
    FROM grid g
),
linked AS (
    SELECT user_id, piece < low AS is_before, first_old, last_old,
           lag(last_old) OVER (PARTITION BY user_id, run ORDER BY piece) AS previous_old
    FROM pieces
),
changes AS MATERIALIZED (
    SELECT user_id,
           sum(CASE
               WHEN is_before THEN last_old IS NULL
               WHEN first_old IS NULL THEN 0
               WHEN previous_old IS NULL OR first_old - previous_old > 1800000 THEN -1
               ELSE 0
           END) AS change
    FROM linked
    GROUP BY user_id
)
UPDATE user_stats
SET sessions = -sessions - 1 + (SELECT c.change FROM changes c WHERE c.user_id = user_stats.user_id)
WHERE user_id IN (SELECT user_id FROM changes)
