-- What every transaction is told where the connection cannot be: behind a pooler, and on a pool of the caller's.

-- name: tx.plan
-- See Open: without these a plan that was made while a table was small reads all of it in a burst. They need jit off: a plan
-- without another way than a forbidden one looks dear, and would be compiled.
select set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)
