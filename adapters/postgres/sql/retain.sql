-- Retain. One statement locks runs of ready tasks. In the next round trip the taken tasks leave ready, their rows are read, and
-- the lease rows and the event are written.

-- name: retain.pick
-- Locks runs of ready tasks of several queues (SKIP LOCKED, so no retain waits for another) and nothing else. The primary
-- key of ready serves each lane from the caller's cursor on, so that rows which were taken before cost nothing, dead or not.
-- A queue with a limit is served only when the caller holds its gate (@gated).
-- @queue_id: queues in the order to serve. @quota: most rows of each. @cursor_…: start of each lane. @limit: most rows in all.
-- Here and in the other files "lateral … offset 0" and "ctid = any (array(…))" fence what must be a look-up a row: without
-- them a plan that was made while a table was small reads all of it when it has grown (plans_test.go).
with now as materialized (select pgqueue.clock_inlined() as t),
serving as materialized ( -- in order: it is what keeps the picked in order, and the limit from locking more
    select u.queue_id, u.quota
    from unnest(@queue_id::integer[], @quota::integer[]) with ordinality u (queue_id, quota, ord)
    cross join lateral (
        select from pgqueue.queue q
        where q.id = u.queue_id and not q.paused and q.deleted_at is null
          and (not q.gated or q.id = any (@gated::integer[])) and (q.paused_until is null or q.paused_until <= (select t from now))
        offset 0
    ) q
    order by u.ord
)
select {{ready r}}, r.at, (select t from now)
from serving u
cross join lateral (
    select r.*
    from (select distinct l.lane from pgqueue.lane l where l.queue_id = u.queue_id order by l.lane offset 0) l
    cross join lateral (
        select r.ctid as at, {{ready r}}
        from pgqueue.ready r
        where r.queue_id = u.queue_id and r.lane = l.lane
          and r.turn > coalesce((
              select c.turn from unnest(@cursor_queue_id::integer[], @cursor_lane::integer[], @cursor_turn::bigint[]) c (queue_id, lane, turn)
              where c.queue_id = u.queue_id and c.lane = l.lane), 0)
          and (r.dies_at is null or r.dies_at > (select t from now))
        order by r.turn
        limit u.quota
        for update skip locked
    ) r
    limit u.quota
) r
limit @limit

-- name: retain.splitting
-- Whether a run of several tasks is visible. Then another transaction is splitting it, and its rest is ready as soon as that
-- transaction commits. Parameters as in retain.pick
select exists (
    select 1
    from unnest(@queue_id::integer[]) u (queue_id)
    join pgqueue.queue q on q.id = u.queue_id and not q.paused and q.deleted_at is null
        and (not q.gated or q.id = any (@gated::integer[]))
    cross join lateral (select l.lane from pgqueue.lane l where l.queue_id = u.queue_id offset 0) l
    cross join lateral (
        select 1 from pgqueue.ready r
        where r.queue_id = u.queue_id and r.lane = l.lane and r.n > 1
          and r.turn > coalesce((
              select c.turn from unnest(@cursor_queue_id::integer[], @cursor_lane::integer[], @cursor_turn::bigint[]) c (queue_id, lane, turn)
              where c.queue_id = u.queue_id and c.lane = l.lane), 0)
          and (r.dies_at is null or r.dies_at > (select pgqueue.clock()))
        limit 1
    ) r)

-- name: retain.take
-- Deletes runs that were locked and taken whole, by ctid
delete from pgqueue.ready where ctid = any (@places::tid[])

-- name: retain.split
-- Shortens a run by its first @taken tasks, by ctid
update pgqueue.ready set turn = turn + @taken, task_id = task_id + @taken, n = n - @taken where ctid = @place::tid

-- name: retain.restore
-- Makes runs ready again that were picked and do not fit, unchanged
insert into pgqueue.ready ({{run}}, dies_at)
select {{run i}}, case when s.task_id is null then t.dies_at else s.dies_at end
from {{run_rows i}}
cross join lateral (select t.dies_at from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.task_id offset 0) t
left join lateral (select s.task_id, s.dies_at from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.task_id offset 0) s on true

-- name: retain.range
-- Reads the picked tasks of one queue when their ids lie close together, as in a backlog. One walk along the key costs 1.3 µs a
-- task, a look-up each 2.1. The caller drops the rows in between that it did not pick
select {{picked_task t}}
from pgqueue.task t where t.queue_id = @queue_id and t.id >= @first and t.id <= @last

-- name: retain.tasks
-- The same by one look-up for each task
select {{picked_task t}}
from {{place_rows i}}
cross join lateral (select t.* from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t

-- name: retain.states
-- The values that changed since the create, for tasks that were retried, delayed or snoozed
select {{state x}}
from {{place_rows i}}
cross join lateral (select x.* from pgqueue.state x where x.queue_id = i.queue_id and x.task_id = i.id offset 0) x

-- name: retain.gate
-- Locks the gates of limited queues: one transaction at a time retains from each. In the order of ids, until the transaction ends
select pg_advisory_xact_lock('pgqueue.queue'::regclass::oid::integer, id) from unnest(@queue_ids::integer[]) id order by id

-- name: retain.held
-- The limits of queues and what counts against them: the tasks in hand, and the state of the rate
select q.id, q.concurrency, case when q.concurrency > 0 then coalesce((select sum(l.held) from pgqueue.lease l where l.queue_id = q.id), 0) else 0 end::bigint,
       q.rate_limit, q.rate_period, q.rate_burst, s.version, s.rate_state, pgqueue.clock()
from pgqueue.queue q
left join lateral (
    select s.version, s.rate_state from pgqueue.group_state s where s.queue_id = q.id and s.grp = 0 order by s.version desc limit 1
) s on q.rate_limit > 0
where q.id = any (@queue_ids::integer[])

-- name: retain.lease
-- @lease: durations in ns. The caller recognises the returned rows by their first task
insert into pgqueue.lease (token, queue_id, retained_at, expires_at, worker, held, task_ids, attempts, grps)
select nextval('pgqueue.token'), queue_id, @now::timestamptz, @now::timestamptz + pgqueue.nanos(lease), worker, cardinality(ids::bigint[]),
       ids::bigint[], attempts::smallint[], grps::bigint[]
from {{new_lease_rows i}}
returning task_ids[1], token, expires_at

-- name: retain.suspect.lock
-- The workers for which no other retain takes a suspect at this time. The lock lasts until the transaction ends
select w from unnest(@workers::text[]) w
where pg_try_advisory_xact_lock('pgqueue.lease'::regclass::oid::integer, hashtext(@namespace || '/' || w))

-- name: retain.suspect.workers
-- The workers that hold a task which has lost a lease before: the bit 8192 of its attempt says so
select distinct l.worker
from pgqueue.queue q
cross join lateral (
    select l.worker, l.attempts, l.task_ids from pgqueue.lease l
    where l.queue_id = q.id and l.attempts is not null and l.worker = any (@workers::text[]) offset 0
) l
where q.namespace = @namespace and q.deleted_at is null
  and exists (select 1 from unnest(l.attempts, l.task_ids) a (attempt, task_id) where a.attempt >= 8192 and a.task_id <> 0)
