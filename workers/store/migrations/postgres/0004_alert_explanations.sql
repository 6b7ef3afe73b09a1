-- What the events of an alert have in common that usual events do not: the record's `explanation`, as it was sent. Null where none
-- was sent.

ALTER TABLE alerts ADD COLUMN explanation jsonb;
