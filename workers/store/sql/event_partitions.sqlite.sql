SELECT max(partition) AS newest FROM offsets WHERE feeds = 'user_events'
