-- The tokens of one user on one day. Prepended to the scripts below.
--
-- KEYS[1] hash: `reserved`, and `used`, which is missing until the day was read from the database.
-- KEYS[2] sorted set: generation -> when its lease expires, milliseconds.
-- KEYS[3] hash: generation -> tokens of its lease.
-- KEYS[4] hash: generation -> tokens that it used. Its sum is `used`; each generation is in it once.
-- ARGV[1] now, milliseconds. ARGV[2] seconds after which the keys may be forgotten.
local standing, expiry, leased, settled = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = tonumber(ARGV[1])

local function release(generation)
  local tokens = redis.call('HGET', leased, generation)
  if tokens then
    redis.call('HINCRBY', standing, 'reserved', -tonumber(tokens))
    redis.call('HDEL', leased, generation)
    redis.call('ZREM', expiry, generation)
  end
end

local function release_expired()
  for _, generation in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', now)) do release(generation) end
end

local function number(field)
  return tonumber(redis.call('HGET', standing, field) or 0)
end

local function is_read()
  return redis.call('HEXISTS', standing, 'used') == 1
end

-- From ARGV[first] on: generation, tokens, generation, tokens ...
local function take_rows(first)
  for i = first, #ARGV, 2 do redis.call('HSETNX', settled, ARGV[i], ARGV[i + 1]) end
  local used = 0
  for _, tokens in ipairs(redis.call('HVALS', settled)) do used = used + tonumber(tokens) end
  redis.call('HSET', standing, 'used', used)
end

local function keep()
  for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
end

