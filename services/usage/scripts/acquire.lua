-- Sets tokens aside for a generation.
--
-- ARGV[3] generation. ARGV[4] tokens. ARGV[5] tokens per day. ARGV[6] when the lease expires, milliseconds.
-- ARGV[7] 1 when the rows of the day follow, which the first call of a day needs: generation, tokens, ...
-- Returns {-1} when the rows are needed; {0, used, reserved} when nothing is left; {granted, remaining, expiry}.
if not is_read() then
  if ARGV[7] ~= '1' then return { -1 } end
  take_rows(8)
end
release_expired()
local generation, tokens, limit = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local left = limit - number('used') - number('reserved')
local held = redis.call('HGET', leased, generation)
if held then
  return { tonumber(held), math.max(0, left), redis.call('ZSCORE', expiry, generation) }
end
if left <= 0 then
  keep()
  return { 0, number('used'), number('reserved') }
end
local granted = math.min(tokens, left)
if redis.call('HEXISTS', settled, generation) == 0 then
  redis.call('HSET', leased, generation, granted)
  redis.call('ZADD', expiry, ARGV[6], generation)
  redis.call('HINCRBY', standing, 'reserved', granted)
  left = left - granted
end
keep()
return { granted, left, ARGV[6] }
