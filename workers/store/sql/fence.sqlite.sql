-- Moves a position on, only from where this writer knows it.
UPDATE offsets SET next_offset = ?4 WHERE topic = ?1 AND partition = ?2 AND next_offset = ?3
