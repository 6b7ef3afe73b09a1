-- The tables of a pipeline. They stand in a schema of their own, which the search path names.
-- Text that is a key compares by its bytes (COLLATE "C"): faster, and the same on every server.

CREATE TABLE user_events (
    event_id         text COLLATE "C" PRIMARY KEY,
    type             text COLLATE "C" NOT NULL,
    user_id          text COLLATE "C",
    item_id          text COLLATE "C",
    time             timestamptz NOT NULL,
    received         timestamptz NOT NULL,
    properties       jsonb NOT NULL,
    source_partition integer NOT NULL,
    source_offset    bigint NOT NULL
);
-- What a user did, newest first; also finds the neighbours of an event that came late.
CREATE INDEX user_events_by_user ON user_events (user_id, time) WHERE user_id IS NOT NULL;

-- Closed windows only: these never change.
CREATE TABLE windows (
    metric  text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    start   timestamptz NOT NULL,
    size_ms bigint NOT NULL,
    count   bigint NOT NULL,
    value   double precision NOT NULL,
    bands   jsonb NOT NULL,
    PRIMARY KEY (metric, key, start)
);

-- One row an alert: its highest state (rank) so far.
CREATE TABLE alerts (
    id       text COLLATE "C" PRIMARY KEY,
    pipeline text COLLATE "C" NOT NULL,
    detector text COLLATE "C" NOT NULL,
    metric   text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    severity text COLLATE "C" NOT NULL,
    state    text COLLATE "C" NOT NULL,
    rank     smallint NOT NULL,
    start    timestamptz NOT NULL,
    size_ms  bigint NOT NULL,
    count    bigint NOT NULL,
    value    double precision NOT NULL,
    expected double precision NOT NULL,
    spread   double precision NOT NULL,
    score    double precision NOT NULL,
    summary  text NOT NULL,
    resolved timestamptz,
    raised   timestamptz NOT NULL
);
CREATE INDEX alerts_by_start ON alerts (start DESC, id DESC);
CREATE INDEX alerts_by_key ON alerts (metric, key, start DESC);
CREATE INDEX alerts_firing ON alerts (start DESC, id DESC) WHERE rank < 2;

-- Every batch updates the rows of its users. No index on what changes: so updates stay on their page (fillfactor leaves
-- room), and ranking users reads the table, which is done rarely.
CREATE TABLE user_stats (
    user_id    text COLLATE "C" PRIMARY KEY,
    events     bigint NOT NULL,
    purchases  bigint NOT NULL,
    revenue    numeric NOT NULL,
    sessions   bigint NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL
) WITH (fillfactor = 70);

-- How far each partition has been stored; moved in the transaction that stores. `stored` counts the rows it brought.
CREATE TABLE offsets (
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    feeds       text COLLATE "C" NOT NULL,
    stored      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
