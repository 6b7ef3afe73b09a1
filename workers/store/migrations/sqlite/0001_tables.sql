-- The tables of a pipeline, as in PostgreSQL: times are integer milliseconds since 1970 UTC, JSON is text, money is whole
-- millionths.

CREATE TABLE user_events (
    event_id         TEXT PRIMARY KEY,
    type             TEXT NOT NULL,
    user_id          TEXT,
    item_id          TEXT,
    time             INTEGER NOT NULL,
    received         INTEGER NOT NULL,
    properties       TEXT NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset    INTEGER NOT NULL
);
-- What a user did, newest first; also finds the neighbours of an event that came late.
CREATE INDEX user_events_by_user ON user_events (user_id, time) WHERE user_id IS NOT NULL;

-- Closed windows only: these never change.
CREATE TABLE windows (
    metric  TEXT NOT NULL,
    key     TEXT NOT NULL,
    start   INTEGER NOT NULL,
    size_ms INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    value   REAL NOT NULL,
    bands   TEXT NOT NULL,
    PRIMARY KEY (metric, key, start)
) WITHOUT ROWID;

-- One row an alert: its highest state (rank) so far.
CREATE TABLE alerts (
    id       TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    detector TEXT NOT NULL,
    metric   TEXT NOT NULL,
    key      TEXT NOT NULL,
    severity TEXT NOT NULL,
    state    TEXT NOT NULL,
    rank     INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    size_ms  INTEGER NOT NULL,
    count    INTEGER NOT NULL,
    value    REAL NOT NULL,
    expected REAL NOT NULL,
    spread   REAL NOT NULL,
    score    REAL NOT NULL,
    summary  TEXT NOT NULL,
    resolved INTEGER,
    raised   INTEGER NOT NULL
);
CREATE INDEX alerts_by_start ON alerts (start DESC, id DESC);
CREATE INDEX alerts_by_key ON alerts (metric, key, start DESC);
CREATE INDEX alerts_firing ON alerts (start DESC, id DESC) WHERE rank < 2;

CREATE TABLE user_stats (
    user_id        TEXT PRIMARY KEY,
    events         INTEGER NOT NULL,
    purchases      INTEGER NOT NULL,
    revenue_micros INTEGER NOT NULL,
    sessions       INTEGER NOT NULL,
    first_seen     INTEGER NOT NULL,
    last_seen      INTEGER NOT NULL
) WITHOUT ROWID;

-- How far each partition has been stored; moved in the transaction that stores. `stored` counts the rows it brought.
CREATE TABLE offsets (
    topic       TEXT NOT NULL,
    partition   INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    feeds       TEXT NOT NULL,
    stored      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
