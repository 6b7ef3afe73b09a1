-- Windows of a metric whose definition was changed are windows of another metric, also where they start together. Rows from
-- before windows said so have a definition of zeros.

ALTER TABLE windows ADD COLUMN definition text COLLATE "C" NOT NULL DEFAULT '00000000';
ALTER TABLE windows DROP CONSTRAINT windows_pkey, ADD PRIMARY KEY (metric, key, start, definition);
