-- Counts one request against several limits at once: all of them or none.
--
-- Generic cell rate algorithm: a key holds the time at which its requests would have been due if they had come evenly
-- ("theoretical arrival time", in microseconds). A request is early by how far that lies ahead, and may be early by
-- at most `burst` intervals. The server's own clock is used, so replicas need not agree on the time.
--
-- KEYS: the counters. ARGV, for each: interval in microseconds, burst, hits.
-- Returns for each: 1 when it fits, what is left of the burst, microseconds until a retry fits, until all is free.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local due, fits = {}, true
for i = 1, #KEYS do
  local interval, burst, hits = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  due[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now)
  if due[i] + hits * interval - now > burst * interval then fits = false end
end
local result = {}
for i = 1, #KEYS do
  local interval, burst, hits = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local over = due[i] + hits * interval - now - burst * interval
  if fits then
    due[i] = due[i] + hits * interval
    redis.call('SET', KEYS[i], string.format('%.0f', due[i]), 'PX', math.ceil((due[i] - now) / 1000) + 1)
  end
  local free = math.max(0, math.floor((burst * interval - (due[i] - now)) / interval + 1e-9))
  result[#result + 1] = { over > 0 and 0 or 1, free, math.max(0, math.ceil(over)), math.ceil(due[i] - now) }
end
return result
