-- Batches of 50 events, built before the load begins.
local bodies = {}
local n = 0
function init(args)
  for b = 1, 128 do
    local events = {}
    for i = 1, 50 do
      events[i] = '{"event_id":"00000000-0000-4000-8000-' .. string.format("%012d", b * 50 + i) .. '","user_id":"user-' .. math.random(50000)
        .. '","event_type":"view","product_id":"p-' .. math.random(1000) .. '","timestamp":"2026-11-21T04:00:00.000Z"}'
    end
    bodies[b] = wrk.format("POST", os.getenv("BATCH_PATH") or "/events", {["Content-Type"] = "application/json"},
      "[" .. table.concat(events, ",") .. "]")
  end
end
function request()
  n = n % 128 + 1
  return bodies[n]
end
