-- Create: the domain has computed the new tasks; these statements write the rows. COPY writes large batches instead.

-- name: create.begin
-- Takes @count ids before the rows are written. One sequence serves ids and turns
select pgqueue.clock_inlined(), array(select nextval('pgqueue.turn') from generate_series(1, @count::integer))

-- name: create.task
insert into pgqueue.task (created_at, {{new_task}})
select @now, {{new_task i}} from {{new_task_rows i}}

-- name: create.letter
-- Dead letters. Each payload stays in the database, which copies it as it is stored, row by row. Without its source a row fails
with i as materialized (select * from {{letter_rows i}})
insert into pgqueue.task (created_at, {{letter_task}}, payload)
select @now, {{letter_task i}}, t.payload
from i
left join lateral (select t.payload from pgqueue.task t where t.queue_id = i.source_queue_id and t.id = i.source_id offset 0) t on true

-- name: create.ready
insert into pgqueue.ready ({{ready}}) select {{ready i}} from {{ready_rows i}}

-- name: create.delayed
insert into pgqueue.delayed ({{delayed}}) select {{delayed i}} from {{delayed_rows i}}

-- name: create.lane
insert into pgqueue.lane (queue_id, lane)
select i.queue_id, i.lane from {{lane_rows i}}
where (i.queue_id, i.lane) not in (select l.queue_id, l.lane from pgqueue.lane l where l.queue_id = any (@queue_id))

-- name: create.keys
-- Claims keys, in their order, so that two batches cannot deadlock. Returns the keys that are new
insert into pgqueue.task_key (queue_id, key, task_id, fingerprint)
select queue_id, key, task_id, fingerprint
from unnest(@queue_id::integer[], @key::text[], @task_id::bigint[], @fingerprint::bytea[]) i (queue_id, key, task_id, fingerprint)
order by queue_id, key
on conflict do nothing
returning queue_id, key

-- name: create.keys.free
-- Claims keys for calls that many callers share. It waits at most @patience for a transaction that has claimed one of them. The
-- last row carries no key: it restores lock_timeout, behind all others
with hurry as materialized (select current_setting('lock_timeout') as was, set_config('lock_timeout', @patience, true)),
won as (
    insert into pgqueue.task_key (queue_id, key, task_id, fingerprint)
    select queue_id, key, task_id, fingerprint
    from hurry, unnest(@queue_id::integer[], @key::text[], @task_id::bigint[], @fingerprint::bytea[]) i (queue_id, key, task_id, fingerprint)
    order by queue_id, key
    on conflict do nothing
    returning queue_id, key
)
select queue_id, key from won
union all
select -1, set_config('lock_timeout', (select was from hurry), true)

-- name: create.taken
-- The task that has each key, and whether that task still exists
select i.ord, k.task_id, k.fingerprint,
       exists (select 1 from pgqueue.task_now n where n.queue_id = i.queue_id and n.id = k.task_id offset 0)
from unnest(@queue_id::integer[], @key::text[]) with ordinality i (queue_id, key, ord)
cross join lateral (select k.* from pgqueue.task_key k where k.queue_id = i.queue_id and k.key = i.key offset 0) k

-- name: create.rekey
update pgqueue.task_key set task_id = @task_id, fingerprint = @fingerprint, since = @since where queue_id = @queue_id and key = @key

-- name: create.keys.lock
-- Locks keys that tasks have, in the order given. It waits for keys that another transaction has locked
select k.queue_id, k.key, k.task_id, k.fingerprint, k.since
from unnest(@queue_id::integer[], @key::text[]) i (queue_id, key)
cross join lateral (select k.* from pgqueue.task_key k where k.queue_id = i.queue_id and k.key = i.key offset 0 for update) k

-- name: create.keys.lock.free
-- Is create.keys.lock for calls that do not wait: it leaves out keys that another transaction has locked
select k.queue_id, k.key, k.task_id, k.fingerprint, k.since
from unnest(@queue_id::integer[], @key::text[]) i (queue_id, key)
cross join lateral (select k.* from pgqueue.task_key k where k.queue_id = i.queue_id and k.key = i.key offset 0 for update skip locked) k

-- name: event.add
-- One row for each queue and kind: the feed and the counts of a whole batch
insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed, worker, task_ids)
select coalesce(at, pgqueue.clock()), queue_id, kind, was, "is", n, delayed, worker, ids::bigint[]
from unnest(@at::timestamptz[], @queue_id::integer[], @kind::smallint[], @was::smallint[], @is::smallint[], @n::integer[], @delayed::integer[],
            @worker::text[], @ids::text[])
    i (at, queue_id, kind, was, "is", n, delayed, worker, ids)
