-- Create: what is born is computed by the domain; these statements only write rows. Large batches are copied instead.

-- name: create.begin
-- Ids are taken before the rows are written, one sequence for ids and turns. $1 how many
select pgqueue.clock(), array(select nextval('pgqueue.turn') from generate_series(1, $1::integer))

-- name: create.task
insert into pgqueue.task (id, created_at, delayed_at, dies_at, queue_id, priority, retries, key, headers, payload)
select id, $1, delayed_at, dies_at, queue_id, priority, retries, key, headers, payload
from unnest($2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::integer[], $6::smallint[], $7::smallint[], $8::text[],
            $9::json[], $10::json[])
    i (id, delayed_at, dies_at, queue_id, priority, retries, key, headers, payload)

-- name: create.ready
insert into pgqueue.ready (turn, task_id, queue_id, priority, attempt, n, dies_at)
select * from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[], $5::smallint[], $6::smallint[], $7::timestamptz[])

-- name: create.delayed
insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt, dies_at)
select * from unnest($1::timestamptz[], $2::bigint[], $3::integer[], $4::smallint[], $5::smallint[], $6::timestamptz[])

-- name: create.lane
insert into pgqueue.lane (queue_id, priority)
select i.queue_id, i.priority from unnest($1::integer[], $2::smallint[]) i (queue_id, priority)
where not exists (select 1 from pgqueue.lane l where l.queue_id = i.queue_id and l.priority = i.priority)

-- name: create.keys
-- In the order of the key, so that two batches cannot deadlock. Answers those that are new.
insert into pgqueue.task_key (queue_id, key, task_id, fingerprint)
select queue_id, key, task_id, fingerprint
from unnest($1::integer[], $2::text[], $3::bigint[], $4::bytea[]) i (queue_id, key, task_id, fingerprint)
order by queue_id, key
on conflict do nothing
returning queue_id, key

-- name: create.keys.free
-- The same for calls that many callers share: it waits for a transaction that has taken one of the keys no longer than $5. The
-- last row, which is no key, sets that back for what follows; it is made behind all others.
with hurry as materialized (select current_setting('lock_timeout') as was, set_config('lock_timeout', $5, true)),
won as (
    insert into pgqueue.task_key (queue_id, key, task_id, fingerprint)
    select queue_id, key, task_id, fingerprint
    from hurry, unnest($1::integer[], $2::text[], $3::bigint[], $4::bytea[]) i (queue_id, key, task_id, fingerprint)
    order by queue_id, key
    on conflict do nothing
    returning queue_id, key
)
select queue_id, key from won
union all
select -1, set_config('lock_timeout', (select was from hurry), true)

-- name: create.taken
-- Whose key it is, and whether that task is still there to see.
select i.ord, k.task_id, k.fingerprint,
       exists (select 1 from pgqueue.task_now n where n.queue_id = i.queue_id and n.id = k.task_id offset 0)
from unnest($1::integer[], $2::text[]) with ordinality i (queue_id, key, ord)
cross join lateral (select k.* from pgqueue.task_key k where k.queue_id = i.queue_id and k.key = i.key offset 0) k

-- name: create.rekey
update pgqueue.task_key set task_id = $3, fingerprint = $4 where queue_id = $1 and key = $2

-- name: event.add
-- One row a queue and kind: the feed and the counts of a whole batch.
insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed, worker, task_ids)
select coalesce(at, pgqueue.clock()), queue_id, kind, was, "is", n, delayed, worker, ids::bigint[]
from unnest($1::timestamptz[], $2::integer[], $3::smallint[], $4::smallint[], $5::smallint[], $6::integer[], $7::integer[],
            $8::text[], $9::text[])
    i (at, queue_id, kind, was, "is", n, delayed, worker, ids)
