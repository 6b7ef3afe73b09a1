-- Windows of a metric whose definition was changed are windows of another metric, also where they start together. Rows from
-- before windows said so have a definition of zeros. SQLite cannot change a primary key: the table is made anew.

CREATE TABLE windows_with_definition (
    metric     TEXT NOT NULL,
    key        TEXT NOT NULL,
    start      INTEGER NOT NULL,
    size_ms    INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    value      REAL NOT NULL,
    bands      TEXT NOT NULL,
    definition TEXT NOT NULL DEFAULT '00000000',
    PRIMARY KEY (metric, key, start, definition)
) WITHOUT ROWID;
INSERT INTO windows_with_definition (metric, key, start, size_ms, count, value, bands)
SELECT metric, key, start, size_ms, count, value, bands FROM windows;
DROP TABLE windows;
ALTER TABLE windows_with_definition RENAME TO windows;
