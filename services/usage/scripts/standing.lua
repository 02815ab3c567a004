-- Says what was used and what is set aside; {-1} before the day was read from the database.
if not is_read() then return { -1 } end
release_expired()
return { number('used'), number('reserved') }
