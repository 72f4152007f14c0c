-- Settings and effects of transactions.

-- name: tx.plan
-- Planner settings of one transaction, where the connection cannot state them: behind a pooler, and on a pool of the caller's.
-- Without them a plan made while a table was small reads all of it in a burst (see Open). They need jit off: a plan that has
-- only a forbidden path looks expensive and would be compiled. Citus cannot plan an insert of rows from arrays for all arguments
select set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('plan_cache_mode', case when current_setting('citus.version', true) is null then 'force_generic_plan' else 'auto' end, true), set_config('client_min_messages', 'notice', true)

-- name: tx.wait
-- Has the commit wait for a synchronous standby as if it had written. The answer to a repeat may rest on a commit that no standby
-- has confirmed, because PostgreSQL crashed or an operator ended the wait
select pg_logical_emit_message(true, 'pgqueue', '')

-- name: tx.bitmaps
-- For this transaction: bitmaps, which block range indexes need and Open turns off. @other_indexes: whether other indexes count
select set_config('enable_bitmapscan', 'on', true), set_config('enable_indexscan', @other_indexes, true)

-- name: tx.hurry
-- For this transaction: how long a statement may wait for a lock
select set_config('lock_timeout', @patience, true)
