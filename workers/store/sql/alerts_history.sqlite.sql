-- When the earliest record of each state was sent, and the earliest of all: also of records that are not the newest.
UPDATE alerts AS a SET
    raised = min(a.raised, r.raised),
    early_at = coalesce(min(a.early_at, r.early_at), a.early_at, r.early_at),
    firing_at = coalesce(min(a.firing_at, r.firing_at), a.firing_at, r.firing_at),
    resolved_at = coalesce(min(a.resolved_at, r.resolved_at), a.resolved_at, r.resolved_at),
    withdrawn_at = coalesce(min(a.withdrawn_at, r.withdrawn_at), a.withdrawn_at, r.withdrawn_at)
FROM (
    SELECT j.value ->> 'id' AS id,
           min(j.value ->> 'raised') AS raised,
           min(j.value ->> 'raised') FILTER (WHERE j.value ->> 'rank' = 0) AS early_at,
           min(j.value ->> 'raised') FILTER (WHERE j.value ->> 'rank' = 1) AS firing_at,
           min(j.value ->> 'raised') FILTER (WHERE j.value ->> 'rank' = 2) AS resolved_at,
           min(j.value ->> 'raised') FILTER (WHERE j.value ->> 'rank' = 3) AS withdrawn_at
    FROM json_each(?1) AS j
    GROUP BY j.value ->> 'id'
) AS r
WHERE a.id = r.id
