-- How an alert goes on after its window (null in rows from before alerts said so), when it first was in each of its states, and
-- what people said of it.

ALTER TABLE alerts ADD COLUMN span_ms INTEGER;
ALTER TABLE alerts ADD COLUMN since INTEGER;
ALTER TABLE alerts ADD COLUMN until INTEGER;
ALTER TABLE alerts ADD COLUMN peak REAL;
ALTER TABLE alerts ADD COLUMN peak_start INTEGER;
ALTER TABLE alerts ADD COLUMN excess REAL;
-- usual, or new_level: then `level` is the new expected value of a window.
ALTER TABLE alerts ADD COLUMN ending TEXT;
ALTER TABLE alerts ADD COLUMN level REAL;
ALTER TABLE alerts ADD COLUMN early_at INTEGER;
ALTER TABLE alerts ADD COLUMN firing_at INTEGER;
ALTER TABLE alerts ADD COLUMN resolved_at INTEGER;
ALTER TABLE alerts ADD COLUMN withdrawn_at INTEGER;

-- One row an alert: the last word counts. Without a foreign key, because an alert is seen before it is stored.
CREATE TABLE alert_feedback (
    alert_id TEXT PRIMARY KEY,
    useful   INTEGER NOT NULL,
    time     INTEGER NOT NULL
) WITHOUT ROWID;
