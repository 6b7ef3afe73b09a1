-- Sessions of users whose new events fall among old ones: how many session starts there are more, or fewer, than before.
-- A session start is an event with none in the 30 minutes before it. Let a run be new events of a user, each within 30
-- minutes of the one before, from `low` to `high`. With the run, `low` is a start if no old event is in the 30 minutes
-- before it, and none of the old events in [low, high + 30 min] is one any more. So:
--   change = (low is a start now) − (old starts in [low, high + 30 min])
-- Of the old events in a piece of 30 minutes only the first can have been a start, namely if the last old one of the piece
-- before is absent or too far: hence two index probes a piece, however many events a user has.
WITH batch AS (
    SELECT source_partition, min(source_offset) AS low, max(source_offset) AS high
    FROM staging_events
    GROUP BY source_partition
),
new_events AS (
    SELECT s.user_id, s.time, lag(s.time) OVER (PARTITION BY s.user_id ORDER BY s.time) AS before
    FROM staging_events s
    JOIN user_events e USING (event_id, source_partition, source_offset)
    WHERE s.user_id = ANY ($1)
),
numbered AS (
    SELECT user_id, time,
           count(*) FILTER (WHERE before IS NULL OR time - before > interval '30 minutes')
               OVER (PARTITION BY user_id ORDER BY time ROWS UNBOUNDED PRECEDING) AS run
    FROM new_events
),
runs AS (
    SELECT user_id, run, min(time) AS low, max(time) AS high
    FROM numbered
    GROUP BY user_id, run
),
pieces AS (
    SELECT r.user_id, r.run, r.low, piece,
           (SELECT e.time FROM user_events e
            WHERE e.user_id = r.user_id
              AND e.time >= piece AND e.time < piece + interval '30 minutes'
              AND e.time <= r.high + interval '30 minutes'
              AND NOT EXISTS (SELECT FROM batch b WHERE b.source_partition = e.source_partition
                                AND e.source_offset BETWEEN b.low AND b.high)
            ORDER BY e.time LIMIT 1) AS first_old,
           (SELECT e.time FROM user_events e
            WHERE e.user_id = r.user_id
              AND e.time >= piece AND e.time < piece + interval '30 minutes'
              AND e.time <= r.high + interval '30 minutes'
              AND NOT EXISTS (SELECT FROM batch b WHERE b.source_partition = e.source_partition
                                AND e.source_offset BETWEEN b.low AND b.high)
            ORDER BY e.time DESC LIMIT 1) AS last_old
    FROM runs r,
         generate_series(r.low - interval '30 minutes', r.high + interval '30 minutes', interval '30 minutes') AS piece
),
linked AS (
    SELECT user_id, piece < low AS is_before, first_old, last_old,
           lag(last_old) OVER (PARTITION BY user_id, run ORDER BY piece) AS previous_old
    FROM pieces
),
changes AS (
    SELECT user_id,
           sum(CASE
               WHEN is_before THEN (last_old IS NULL)::integer
               WHEN first_old IS NULL THEN 0
               WHEN previous_old IS NULL OR first_old - previous_old > interval '30 minutes' THEN -1
               ELSE 0
           END) AS change
    FROM linked
    GROUP BY user_id
)
UPDATE user_stats u
SET sessions = -u.sessions - 1 + c.change
FROM changes c
WHERE u.user_id = c.user_id
