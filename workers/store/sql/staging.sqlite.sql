-- Where the rows of a batch go first, in this connection only.
CREATE TEMPORARY TABLE IF NOT EXISTS staging_events (
    event_id         TEXT,
    type             TEXT,
    user_id          TEXT,
    item_id          TEXT,
    time             INTEGER,
    received         INTEGER,
    properties       TEXT,
    source_partition INTEGER,
    source_offset    INTEGER,
    purchase         INTEGER,
    revenue_micros   INTEGER
);
