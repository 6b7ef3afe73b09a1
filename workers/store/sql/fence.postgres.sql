-- Moves positions on, each only from where this writer knows it: rows affected tells whether it owned them all.
UPDATE offsets o
SET next_offset = n.next
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) AS n (topic, partition, expected, next)
WHERE o.topic = n.topic AND o.partition = n.partition AND o.next_offset = n.expected
