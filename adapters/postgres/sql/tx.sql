-- What transactions are told.

-- name: tx.plan
-- Where the connection cannot be told: behind a pooler, and on a pool of the caller's.
-- See Open: without these a plan that was made while a table was small reads all of it in a burst. They need jit off: a plan
-- without another way than a forbidden one looks dear, and would be compiled.
select set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('plan_cache_mode', 'force_generic_plan', true), set_config('client_min_messages', 'notice', true)

-- name: tx.wait
-- Has the commit wait as if it had written: what a repeat is answered may have been committed here by a transaction that no
-- standby has confirmed, since PostgreSQL crashed or was told to wait no longer.
select pg_logical_emit_message(true, 'pgqueue', '')

-- name: tx.bitmaps
-- Block range indexes work by bitmaps only, which Open turns off. For this transaction; $1 whether other indexes may be walked.
select set_config('enable_bitmapscan', 'on', true), set_config('enable_indexscan', $1, true)

-- name: tx.hurry
-- For this transaction: how long a statement may wait for a lock
select set_config('lock_timeout', $1, true)
