SELECT (SELECT coalesce(sum(stored), 0)::bigint FROM offsets WHERE feeds = 'user_events') AS events,
       (SELECT coalesce(sum(stored), 0)::bigint FROM offsets WHERE feeds = 'windows') AS windows,
       (SELECT count(*) FROM alerts) AS alerts,
       (SELECT count(*) FROM alerts WHERE rank < 2) AS alerts_firing
