-- How an alert goes on after its window (null in rows from before alerts said so), when it first was in each of its states, and
-- what people said of it.

ALTER TABLE alerts
    ADD COLUMN span_ms      bigint,
    ADD COLUMN since        timestamptz,
    ADD COLUMN until        timestamptz,
    ADD COLUMN peak         double precision,
    ADD COLUMN peak_start   timestamptz,
    ADD COLUMN excess       double precision,
    -- usual, or new_level: then `level` is the new expected value of a window.
    ADD COLUMN ending       text COLLATE "C",
    ADD COLUMN level        double precision,
    ADD COLUMN early_at     timestamptz,
    ADD COLUMN firing_at    timestamptz,
    ADD COLUMN resolved_at  timestamptz,
    ADD COLUMN withdrawn_at timestamptz;

-- One row an alert: the last word counts. Without a foreign key, because an alert is seen before it is stored.
CREATE TABLE alert_feedback (
    alert_id text COLLATE "C" PRIMARY KEY,
    useful   boolean NOT NULL,
    time     timestamptz NOT NULL
);
