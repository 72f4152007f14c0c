-- Leases. The lease row is the lock: a release and a heartbeat lock it first, in the order of (token, part). A late release
-- finds no row of its token and changes nothing.

-- name: lease.lock
-- Locks lease rows, in the order of @tokens, which is theirs, and of their parts. It waits for rows that another transaction has locked
select pgqueue.clock_inlined(), {{lease l}}, {{queue_mark q}}
from unnest(@tokens::bigint[]) i (token)
cross join lateral (
    select l.ctid, l.*, q.id, q.xmin as queue_xmin, q.ctid as queue_ctid, q.version
    from pgqueue.lease l
    cross join lateral (
        select q.id, q.xmin, q.ctid, q.version from pgqueue.queue q
        where q.id = l.queue_id and q.namespace = @namespace and q.deleted_at is null offset 0
    ) q
    where l.token = i.token
    order by l.part offset 0
    for update of l
) l
cross join lateral (select l.id, l.queue_xmin as xmin, l.queue_ctid as ctid, l.version) q

-- name: lease.lock.free
-- Locks lease rows for calls that many callers share. It leaves out rows that another transaction has locked, so that no caller
-- waits for another; lease.seen reads those
select pgqueue.clock_inlined(), {{lease l}}, {{queue_mark q}}
from unnest(@tokens::bigint[]) i (token)
cross join lateral (
    select l.ctid, l.*, q.id, q.xmin as queue_xmin, q.ctid as queue_ctid, q.version
    from pgqueue.lease l
    cross join lateral (
        select q.id, q.xmin, q.ctid, q.version from pgqueue.queue q
        where q.id = l.queue_id and q.namespace = @namespace and q.deleted_at is null offset 0
    ) q
    where l.token = i.token
    order by l.part offset 0
    for update of l skip locked
) l
cross join lateral (select l.id, l.queue_xmin as xmin, l.queue_ctid as ctid, l.version) q

-- name: lease.seen
-- Reads leases of tasks (@token and @id side by side) without a lock, for rows that another transaction has locked
select i.id, pgqueue.clock(), l.token, l.part, l.worker, l.retained_at, greatest(l.expires_at, b.expires_at),
       l.task_ids, l.attempts, l.cancels, l.grps, case when b.expires_at > l.expires_at then b.granted else l.granted end, q.id, q.events
from unnest(@token::bigint[], @id::bigint[]) i (token, id)
cross join lateral (select l.* from pgqueue.lease l where l.token = i.token and i.id = any (l.task_ids) offset 0) l
join pgqueue.queue q on q.id = l.queue_id and q.namespace = @namespace and q.deleted_at is null
left join lateral (
    select b.* from pgqueue.lease_beat b where b.token = l.token + array_position(l.task_ids, i.id) - 1 offset 0
) b on true

-- name: lease.beat
-- Extends leases beside their locked row. In the order of tokens, so that two transactions cannot deadlock
insert into pgqueue.lease_beat (token, expires_at, granted)
select * from unnest(@token::bigint[], @expires_at::timestamptz[], @granted::bigint[]) i (token, expires_at, granted) order by token
on conflict (token) do update set expires_at = excluded.expires_at, granted = excluded.granted

-- name: lease.beats
-- Reads the lease beats beside rows that this transaction has locked. A lapsed one still has the length that was granted last
select b.token, b.expires_at, b.granted
from unnest(@tokens::bigint[]) i (token)
cross join lateral (
    select b.* from pgqueue.lease_beat b where b.token >= i.token and b.token < i.token + 256 offset 0
) b

-- name: lease.unbeat
-- Deletes lease beats after their end went into the row. A beat with a later end than the one that was read stays
delete from pgqueue.lease_beat b using unnest(@token::bigint[], @expires_at::timestamptz[]) i (token, expires_at)
where b.token = i.token and b.expires_at = i.expires_at

-- name: lease.find
-- The tokens of retained tasks, for callers without a token
select i.id, l.token + array_position(l.task_ids, i.id) - 1
from pgqueue.queue q
cross join lateral (select l.token, l.task_ids from pgqueue.lease l where l.queue_id = q.id and l.task_ids && @ids::bigint[] offset 0) l
cross join lateral unnest(l.task_ids) i (id)
where q.namespace = @namespace and q.deleted_at is null and i.id = any (@ids::bigint[])

-- name: lease.lives
-- Reads the columns that a move of retained tasks needs. Payloads, headers, keys, results and progress stay unread
select {{task_life t}},
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, coalesce(s.losses, 0)::smallint, null::json, null::json
from unnest(@queue_id::integer[], @id::bigint[]) i (queue_id, id)
cross join lateral (select t.* from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t
left join lateral (select s.* from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id offset 0) s on true

-- name: lease.lives.token
-- The same by the tokens of lease rows, so that it leaves in one round trip with lease.lock
select {{task_life t}},
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, coalesce(s.losses, 0)::smallint, null::json, null::json
from unnest(@token::bigint[], @id::bigint[]) i (token, id)
cross join lateral (select l.queue_id from pgqueue.lease l where l.token = i.token and i.id = any (l.task_ids) offset 0) l
cross join lateral (select t.* from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id offset 0) t
left join lateral (select s.* from pgqueue.state s where s.queue_id = l.queue_id and s.task_id = i.id offset 0) s on true

-- name: lease.facts.token
-- The same with the content of the tasks
select {{task t}},
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, coalesce(s.losses, 0)::smallint, s.result, s.progress
from unnest(@token::bigint[], @id::bigint[]) i (token, id)
cross join lateral (select l.queue_id from pgqueue.lease l where l.token = i.token and i.id = any (l.task_ids) offset 0) l
cross join lateral (select t.* from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id offset 0) t
left join lateral (select s.* from pgqueue.state s where s.queue_id = l.queue_id and s.task_id = i.id offset 0) s on true

-- name: lease.facts.small
-- The same for the tasks with at most @most bytes of content. The sizes cost as much as the rest of a look-up
select {{task t}},
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, coalesce(s.losses, 0)::smallint, s.result, s.progress
from unnest(@token::bigint[], @id::bigint[], @most::integer[]) i (token, id, most)
cross join lateral (select l.queue_id from pgqueue.lease l where l.token = i.token and i.id = any (l.task_ids) offset 0) l
cross join lateral (select t.* from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id offset 0) t
left join lateral (select s.* from pgqueue.state s where s.queue_id = l.queue_id and s.task_id = i.id offset 0) s on true
where {{task_bytes t}} + {{state_bytes s}} <= i.most

-- name: lease.facts.range
-- The same for tasks of one lease row where the ids lie close together, as those of a backlog do: one look-up of the lease instead of
-- one for each task, and one walk along the key. The caller drops the tasks in between that it did not ask for
select {{task t}},
       s.task_id is not null, s.delayed_at, s.dies_at, s.retries, coalesce(s.losses, 0)::smallint, s.result, s.progress
from (
    select distinct l.queue_id
    from unnest(array[@token::bigint]) i (token)
    cross join lateral (select l.queue_id from pgqueue.lease l where l.token = i.token offset 0) l
) l
cross join lateral (
    select t.* from pgqueue.task t where t.queue_id = l.queue_id and t.id >= @first and t.id <= @last offset 0
) t
left join lateral (select s.* from pgqueue.state s where s.queue_id = l.queue_id and s.task_id = t.id offset 0) s on true
where {{task_bytes t}} + {{state_bytes s}} <= @most

-- name: lease.drop
-- Deletes lease rows that this transaction has locked, by ctid
delete from pgqueue.lease where ctid = any (@rows::tid[])

-- name: lease.keep
-- Rewrites lease rows that this transaction has locked, by ctid. @task_ids and @cancel_ids have the arrays of all rows, one after
-- the other, and the rows name their parts of them, from 1
update pgqueue.lease l
set held = i.held, task_ids = i.task_ids, cancels = i.cancels, expires_at = i.expires_at, granted = nullif(i.granted, 0)
from (
    select i.*, (@task_ids::bigint[])[i.first_id : i.last_id] as task_ids,
           case when i.last_cancel >= i.first_cancel then (@cancel_ids::bigint[])[i.first_cancel : i.last_cancel] end as cancels
    from {{kept_lease_rows i}}
) i
where l.ctid = i.ctid

-- name: lease.split
insert into pgqueue.lease (token, part, queue_id, retained_at, expires_at, worker, held, task_ids, attempts, cancels, grps, granted)
select token, part, queue_id, retained_at, expires_at, worker, held, ids::bigint[], attempts::smallint[], cancels::bigint[], grps::bigint[], nullif(granted, 0)
from unnest(@token::bigint[], @part::smallint[], @queue_id::integer[], @retained_at::timestamptz[], @expires_at::timestamptz[], @worker::text[], @held::smallint[], @ids::text[],
            @attempts::text[], @cancels::text[], @grps::text[], @granted::bigint[])
    i (token, part, queue_id, retained_at, expires_at, worker, held, ids, attempts, cancels, grps, granted)

-- name: lease.cancel
-- Requests the cancellation of retained tasks. A task that was released meanwhile stays as it is. Rows that another transaction
-- has locked are left out: a wait for one would keep the rows that are locked already. Not by ctid: a heartbeat may be moving
-- the row
with free as materialized (
    select l.token, l.part from unnest(@tokens::bigint[]) i (token)
    cross join lateral (
        select l.token, l.part from pgqueue.lease l where l.token = i.token and l.task_ids && @ids::bigint[]
        order by l.part offset 0
        for update skip locked
    ) l
),
asked as (
    update pgqueue.lease l
    set cancels = (select array_agg(c) from unnest(l.task_ids) c where c = any (l.cancels) or c = any (@ids::bigint[]))
    -- A part is below 256, and tokens of rows are multiples of it.
    where l.token = any (@tokens::bigint[]) and l.token + l.part = any (array(select f.token + f.part from free f))
    returning l.task_ids
)
select c from asked cross join lateral unnest(asked.task_ids) c where c = any (@ids::bigint[])

-- name: lease.progress
-- Progress is kept in the state row. A task on its first attempt gets one
insert into pgqueue.state (queue_id, task_id, delayed_at, dies_at, attempt, retries, progress)
select t.queue_id, t.id, t.delayed_at, t.dies_at, i.attempt - 1, t.retries, i.progress
from unnest(@queue_id::integer[], @id::bigint[], @attempt::smallint[], @progress::json[]) i (queue_id, id, attempt, progress)
cross join lateral (select t.* from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t
order by t.queue_id, t.id
on conflict (queue_id, task_id) do update set progress = excluded.progress
