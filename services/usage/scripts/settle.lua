-- Counts what generations used, each once, and gives back what they had set aside.
--
-- ARGV from 3 on: generation, tokens, generation, tokens ...
-- Before the day was read from the database they are only noted: the rows, and these, make up its sum then.
local read = is_read()
local counted = 0
for i = 3, #ARGV, 2 do
  release(ARGV[i])
  if redis.call('HSETNX', settled, ARGV[i], ARGV[i + 1]) == 1 then
    counted = counted + 1
    if read then redis.call('HINCRBY', standing, 'used', ARGV[i + 1]) end
  end
end
keep()
return counted
