SELECT min(time) AS first, max(time) AS last FROM user_events
