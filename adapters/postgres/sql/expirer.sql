-- The expirer: waiting tasks end at their time to live. @passed_task_ids and @passed_queue_ids are refused rows and queues,
-- which a step passes over; for ready rows the id is that of the first task of the run.

-- name: expire.ready
-- Takes whole runs, until @limit tasks are reached. The other rows that it locks are past their time too, so no retain
-- misses them.
with locked as materialized (
    select r.ctid as at, r.* from pgqueue.ready r
    where r.dies_at > @watermark and r.dies_at <= (select pgqueue.clock())
      and r.task_id <> all (@passed_task_ids::bigint[]) and r.queue_id <> all (@passed_queue_ids::integer[])
    order by r.dies_at
    limit @limit
    for update skip locked
),
due as materialized (
    select * from (select l.*, sum(l.n) over (order by l.dies_at, l.turn) - l.n as before from locked l) l where l.before < @limit
),
_ready as (delete from pgqueue.ready where ctid = any (array(select at from due)))
select queue_id, task_id + i, attempt, false, dies_at, grp, false from due cross join lateral generate_series(0, n - 1) i

-- name: expire.ready.first
-- The row that expire.ready takes first.
select r.queue_id, r.task_id, coalesce(q.namespace, ''), coalesce(q.name, '') from pgqueue.ready r
left join pgqueue.queue q on q.id = r.queue_id
where r.dies_at > @watermark and r.dies_at <= (select pgqueue.clock())
  and r.task_id <> all (@passed_task_ids::bigint[]) and r.queue_id <> all (@passed_queue_ids::integer[])
order by r.dies_at limit 1

-- name: expire.delayed
with due as materialized (
    select y.ctid as at, y.* from pgqueue.delayed y
    where y.dies_at > @watermark and y.dies_at <= (select pgqueue.clock())
      and y.task_id <> all (@passed_task_ids::bigint[]) and y.queue_id <> all (@passed_queue_ids::integer[])
    order by y.dies_at
    limit @limit
    for update skip locked
),
_delayed as (delete from pgqueue.delayed where ctid = any (array(select at from due)))
select queue_id, task_id, attempt, true, dies_at, grp, false from due

-- name: expire.delayed.first
-- The row that expire.delayed takes first.
select y.queue_id, y.task_id, coalesce(q.namespace, ''), coalesce(q.name, '') from pgqueue.delayed y
left join pgqueue.queue q on q.id = y.queue_id
where y.dies_at > @watermark and y.dies_at <= (select pgqueue.clock())
  and y.task_id <> all (@passed_task_ids::bigint[]) and y.queue_id <> all (@passed_queue_ids::integer[])
order by y.dies_at limit 1

-- name: expire.waiting
-- Tasks that wait for their group
with due as materialized (
    select w.ctid as at, w.* from pgqueue.group_waiting w
    where w.dies_at > @watermark and w.dies_at <= (select pgqueue.clock())
      and w.task_id <> all (@passed_task_ids::bigint[]) and w.queue_id <> all (@passed_queue_ids::integer[])
    order by w.dies_at
    limit @limit
    for update skip locked
),
_waiting as (delete from pgqueue.group_waiting where ctid = any (array(select at from due)))
select queue_id, task_id, attempt, false, dies_at, grp, true from due

-- name: expire.waiting.first
-- The row that expire.waiting takes first.
select w.queue_id, w.task_id, coalesce(q.namespace, ''), coalesce(q.name, '') from pgqueue.group_waiting w
left join pgqueue.queue q on q.id = w.queue_id
where w.dies_at > @watermark and w.dies_at <= (select pgqueue.clock())
  and w.task_id <> all (@passed_task_ids::bigint[]) and w.queue_id <> all (@passed_queue_ids::integer[])
order by w.dies_at limit 1

-- name: expire.done
-- The tasks that a step took end as expired.
with i as materialized (
    select i.*, q.events, q.namespace, q.name
    from unnest(@queue_id::integer[], @task_id::bigint[], @attempt::smallint[], @delayed::boolean[]) i (queue_id, id, attempt, late)
    join pgqueue.queue q on q.id = i.queue_id
),
_done as (
    insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker, result)
    select i.id, @now, s.started_at, 0, i.queue_id, 6, i.attempt & 8191, s.worker, s.result
    from i
    left join lateral (select s.* from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id offset 0) s on true
),
_event as (
    insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed, task_ids)
    select @now, queue_id, 6, case when attempt > 0 then 2 else 1 end, 6, count(*), -count(*) filter (where late),
           case when events then array_agg(id) end
    from i group by queue_id, attempt > 0, events
)
select namespace, name, (case when attempt > 0 then 2 else 1 end)::smallint, count(*) from i group by namespace, name, attempt > 0

-- name: expire.next
-- The time at which the next waiting task ends.
select least(
    (select r.dies_at from pgqueue.ready r where r.dies_at > @ready_watermark order by r.dies_at limit 1),
    (select y.dies_at from pgqueue.delayed y where y.dies_at > @delayed_watermark order by y.dies_at limit 1),
    (select w.dies_at from pgqueue.group_waiting w where w.dies_at > @waiting_watermark order by w.dies_at limit 1)), pgqueue.clock()
