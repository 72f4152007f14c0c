-- Retain: runs of ready tasks are locked in one statement; in the next round trip what is taken of them leaves, its tasks are
-- read, and its lease rows and event are written.

-- name: retain.pick
-- Locks runs of ready tasks of several queues (SKIP LOCKED, so no retain waits for another) and nothing else. The primary
-- key of ready serves each lane from the caller's cursor on, so that rows which were taken before cost nothing, dead or not.
-- A queue with a limit is served only when the caller holds its gate ($7).
-- Here and in the other files "lateral … offset 0" and "ctid = any (array(…))" fence what must be a look-up a row: without
-- them a plan that was made while a table was small reads all of it when it has grown (plans_test.go).
-- $1 queue ids in the order to serve, $2 most rows of each, $3-$5 cursors (queue, priority, turn), $6 most rows in all
with now as materialized (select pgqueue.clock() as t),
serving as materialized ( -- in order: it is what keeps the picked in order, and the limit from locking more
    select u.queue_id, u.quota
    from unnest($1::integer[], $2::integer[]) with ordinality u (queue_id, quota, ord)
    join pgqueue.queue q on q.id = u.queue_id and not q.paused and q.deleted_at is null
        and (q.concurrency = 0 or q.id = any ($7::integer[]))
    order by u.ord
)
select u.queue_id, r.priority, r.turn, r.task_id, r.attempt, r.n, r.at, (select t from now)
from serving u
cross join lateral (
    select r.*
    from (select distinct l.priority from pgqueue.lane l where l.queue_id = u.queue_id order by l.priority offset 0) l
    cross join lateral (
        select r.ctid as at, r.turn, r.task_id, r.priority, r.attempt, r.n
        from pgqueue.ready r
        where r.queue_id = u.queue_id and r.priority = l.priority
          and r.turn > coalesce((
              select c.turn from unnest($3::integer[], $4::smallint[], $5::bigint[]) c (queue_id, priority, turn)
              where c.queue_id = u.queue_id and c.priority = l.priority), 0)
          and (r.dies_at is null or r.dies_at > (select t from now))
        order by r.turn
        limit u.quota
        for update skip locked
    ) r
    limit u.quota
) r
limit $6

-- name: retain.splitting
-- Whether there is a run to be seen: then a pick that found nothing has met somebody who is splitting it, and what is left of
-- it is ready still. Of a single task nothing is left. $1 queue ids, $2-$4 cursors, $5 limited queues whose gate is held
select exists (
    select 1
    from unnest($1::integer[]) u (queue_id)
    join pgqueue.queue q on q.id = u.queue_id and not q.paused and q.deleted_at is null
        and (q.concurrency = 0 or q.id = any ($5::integer[]))
    cross join lateral (select l.priority from pgqueue.lane l where l.queue_id = u.queue_id offset 0) l
    cross join lateral (
        select 1 from pgqueue.ready r
        where r.queue_id = u.queue_id and r.priority = l.priority and r.n > 1
          and r.turn > coalesce((
              select c.turn from unnest($2::integer[], $3::smallint[], $4::bigint[]) c (queue_id, priority, turn)
              where c.queue_id = u.queue_id and c.priority = l.priority), 0)
          and (r.dies_at is null or r.dies_at > (select pgqueue.clock()))
        limit 1
    ) r)

-- name: retain.take
-- Runs that were locked and are taken whole. $1 where they lie
delete from pgqueue.ready where ctid = any ($1::tid[])

-- name: retain.split
-- One of which the first tasks are taken. $1 where it lies, $2 how many
update pgqueue.ready set turn = turn + $2, task_id = task_id + $2, n = n - $2 where ctid = $1::tid

-- name: retain.restore
-- Runs that were picked and do not fit become ready again, as they were. $1 turns, $2 ids, $3 queues, $4 priorities, $5 attempts,
-- $6 tasks of each
insert into pgqueue.ready (turn, task_id, queue_id, priority, attempt, n, dies_at)
select i.turn, i.id, i.queue_id, i.priority, i.attempt, i.n, case when s.task_id is null then t.dies_at else s.dies_at end
from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[], $5::smallint[], $6::smallint[])
    i (turn, id, queue_id, priority, attempt, n)
cross join lateral (select t.dies_at from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t
left join lateral (select s.task_id, s.dies_at from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id offset 0) s on true

-- name: retain.range
-- The tasks of a queue that were picked, when their ids lie close together, as those of a backlog do: one walk along the key
-- costs 1.3 µs a task where a look-up each costs 2.1. Strangers in between are left aside. $1 queue, $2 first, $3 last
select t.id, t.created_at, t.delayed_at, t.dies_at, t.retries, t.key, t.headers, t.payload
from pgqueue.task t where t.queue_id = $1 and t.id >= $2 and t.id <= $3

-- name: retain.tasks
-- The same by look-ups. $1 queues, $2 ids
select t.id, t.created_at, t.delayed_at, t.dies_at, t.retries, t.key, t.headers, t.payload
from unnest($1::integer[], $2::bigint[]) i (queue_id, id)
cross join lateral (select t.* from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t

-- name: retain.states
-- What moved since they were created, for those that did not come straight here. $1 queues, $2 ids
select x.task_id, x.delayed_at, x.dies_at, x.retries, x.result, x.progress
from unnest($1::integer[], $2::bigint[]) i (queue_id, id)
cross join lateral (select x.* from pgqueue.state x where x.queue_id = i.queue_id and x.task_id = i.id offset 0) x

-- name: retain.gate
-- Limited queues are retained from by one transaction at a time; held is bounded by their concurrency, so this counts few rows.
-- The locks are taken in the order of ids and leave with the transaction. $1 queues
select pg_advisory_xact_lock('pgqueue.queue'::regclass::oid::integer, id) from unnest($1::integer[]) id order by id

-- name: retain.held
select q.id, q.concurrency, coalesce((select sum(l.held) from pgqueue.lease l where l.queue_id = q.id), 0)::bigint
from pgqueue.queue q where q.id = any ($1::integer[])

-- name: retain.lease
-- $1 now, then for each lease: queue, duration in ns, worker, task ids, attempts. Told apart by their first task.
insert into pgqueue.lease (token, queue_id, retained_at, expires_at, worker, held, task_ids, attempts, granted)
select nextval('pgqueue.token'), queue_id, $1::timestamptz, $1::timestamptz + pgqueue.nanos(lease), worker, cardinality(ids::bigint[]),
       ids::bigint[], attempts::smallint[], lease
from unnest($2::integer[], $3::bigint[], $4::text[], $5::text[], $6::text[]) i (queue_id, lease, worker, ids, attempts)
returning task_ids[1], token, expires_at
