local n=0
function request()
  local t={}
  for i=1,50 do n=n+1
  t[i]='{"event_id":"00000000-0000-4000-8000-'..string.format("%012d",n)..'","user_id":"user-'..math.random(50000)..'","event_type":"view","product_id":"p-'..math.random(1000)..'","timestamp":"2026-11-21T04:00:00.000Z"}' end
  return wrk.format("POST",os.getenv("BATCH_PATH") or "/events",{["Content-Type"]="application/json"},"["..table.concat(t,",").."]")
end
