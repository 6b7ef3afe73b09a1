-- When the earliest record of each state was sent, and the earliest of all: also of records that are not the newest.
WITH records AS (
    SELECT id,
           timestamptz 'epoch' + min(raised) * interval '1 millisecond' AS raised,
           timestamptz 'epoch' + min(raised) FILTER (WHERE rank = 0) * interval '1 millisecond' AS early_at,
           timestamptz 'epoch' + min(raised) FILTER (WHERE rank = 1) * interval '1 millisecond' AS firing_at,
           timestamptz 'epoch' + min(raised) FILTER (WHERE rank = 2) * interval '1 millisecond' AS resolved_at,
           timestamptz 'epoch' + min(raised) FILTER (WHERE rank = 3) * interval '1 millisecond' AS withdrawn_at
    FROM jsonb_to_recordset($1::jsonb) AS r (id text, rank smallint, raised bigint)
    GROUP BY id
)
UPDATE alerts AS a SET
    raised = least(a.raised, r.raised),
    early_at = least(a.early_at, r.early_at),
    firing_at = least(a.firing_at, r.firing_at),
    resolved_at = least(a.resolved_at, r.resolved_at),
    withdrawn_at = least(a.withdrawn_at, r.withdrawn_at)
FROM records AS r
WHERE a.id = r.id
  AND (least(a.raised, r.raised), least(a.early_at, r.early_at), least(a.firing_at, r.firing_at),
       least(a.resolved_at, r.resolved_at), least(a.withdrawn_at, r.withdrawn_at))
      IS DISTINCT FROM (a.raised, a.early_at, a.firing_at, a.resolved_at, a.withdrawn_at)
