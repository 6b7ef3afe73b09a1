-- Stores the batch's new events and adds just those to their users' statistics. Answers how many were new, and the users
-- for whom an event came before one that is stored already: their sessions are negative (-n - 1) until they are recounted.
WITH new_events AS (
    INSERT INTO user_events (event_id, type, user_id, item_id, time, received, properties, source_partition, source_offset)
    SELECT event_id, type, user_id, item_id, time, received, properties, source_partition, source_offset
    FROM staging_events
    ON CONFLICT (event_id) DO NOTHING
    RETURNING source_partition, source_offset
),
by_time AS (
    SELECT s.user_id, s.time, s.purchase, s.revenue_micros,
           lag(s.time) OVER (PARTITION BY s.user_id ORDER BY s.time) AS before
    FROM new_events
    JOIN staging_events s USING (source_partition, source_offset)
    WHERE s.user_id IS NOT NULL
),
touched AS (
    INSERT INTO user_stats AS u (user_id, events, purchases, revenue, sessions, first_seen, last_seen)
    SELECT user_id,
           count(*),
           count(*) FILTER (WHERE purchase),
           sum(revenue_micros) * 0.000001,
           count(*) FILTER (WHERE before IS NULL OR time - before > interval '30 minutes'),
           min(time),
           max(time)
    FROM by_time
    GROUP BY user_id
    ORDER BY user_id -- all writers lock users in one order
    ON CONFLICT (user_id) DO UPDATE SET
        events = u.events + excluded.events,
        purchases = u.purchases + excluded.purchases,
        revenue = u.revenue + excluded.revenue,
        sessions = CASE
            WHEN excluded.first_seen >= u.last_seen THEN u.sessions + excluded.sessions
                - (excluded.first_seen - u.last_seen <= interval '30 minutes')::integer
            WHEN excluded.last_seen <= u.first_seen THEN u.sessions + excluded.sessions
                - (u.first_seen - excluded.last_seen <= interval '30 minutes')::integer
            ELSE -u.sessions - 1
        END,
        first_seen = least(u.first_seen, excluded.first_seen),
        last_seen = greatest(u.last_seen, excluded.last_seen)
    RETURNING u.user_id, u.sessions
)
SELECT (SELECT count(*) FROM new_events) AS inserted,
       ARRAY(SELECT user_id FROM touched WHERE sessions < 0) AS recount
