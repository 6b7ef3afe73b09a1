-- Where COPY puts the rows of a batch first, in this connection only.
CREATE TEMPORARY TABLE staging_events (
    event_id         text COLLATE "C",
    type             text COLLATE "C",
    user_id          text COLLATE "C",
    item_id          text COLLATE "C",
    time             timestamptz,
    received         timestamptz,
    properties       jsonb,
    source_partition integer,
    source_offset    bigint,
    purchase         boolean,
    revenue_micros   bigint
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staging_windows (
    metric  text COLLATE "C",
    key     text COLLATE "C",
    start   timestamptz,
    size_ms bigint,
    count   bigint,
    value   double precision,
    bands   jsonb,
    definition text COLLATE "C"
) ON COMMIT DELETE ROWS;
