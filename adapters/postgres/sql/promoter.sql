-- The promoter: delayed rows become ready when they are due.

-- name: promote
-- Due delayed rows become ready, in the order in which they were due. @passed_task_ids and @passed_queue_ids are refused
-- rows and queues, which the step passes over.
with due as materialized (
    select y.* from pgqueue.delayed y
    where y.due_at > @watermark and y.due_at <= (select pgqueue.clock())
      and y.task_id <> all (@passed_task_ids::bigint[]) and y.queue_id <> all (@passed_queue_ids::integer[])
    order by y.due_at, y.task_id
    limit @limit
    for update skip locked
),
-- The bound is that of the batch: without it a plan that was made while the table was small reads all of it.
_delayed as (
    delete from pgqueue.delayed y using due
    where y.due_at = due.due_at and y.task_id = due.task_id
      and y.due_at >= (select min(d.due_at) from due d)
      and (y.due_at, y.task_id) <= ((select d.due_at from due d order by d.due_at desc, d.task_id desc limit 1),
                                    (select d.task_id from due d order by d.due_at desc, d.task_id desc limit 1))
),
turned as materialized (select due.*, nextval('pgqueue.turn') as turn from due),
_ready as (
    insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, dies_at, grp)
    select turn, task_id, queue_id, priority * 65536 + coalesce(bucket, 0), attempt, dies_at, grp from turned
),
_state as (
    insert into pgqueue.state (queue_id, task_id, turn, delayed_at, dies_at, attempt, retries)
    select u.queue_id, u.task_id, u.turn, u.due_at, u.dies_at, u.attempt & 8191, t.retries
    from turned u
    cross join lateral (select t.retries from pgqueue.task t where t.queue_id = u.queue_id and t.id = u.task_id offset 0) t
    order by u.queue_id, u.task_id
    on conflict (queue_id, task_id) do update set turn = excluded.turn
),
_event as (
    insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
    select pgqueue.clock(), queue_id, 0, 0, 0, 0, -count(*) from due group by queue_id
)
select q.namespace, q.name, count(*), min(d.due_at), max(d.due_at), pgqueue.clock()
from due d join pgqueue.queue q on q.id = d.queue_id
group by q.namespace, q.name

-- name: promote.first
-- The row that promote takes first.
select y.queue_id, y.task_id, coalesce(q.namespace, ''), coalesce(q.name, '') from pgqueue.delayed y
left join pgqueue.queue q on q.id = y.queue_id
where y.due_at > @watermark and y.due_at <= (select pgqueue.clock())
  and y.task_id <> all (@passed_task_ids::bigint[]) and y.queue_id <> all (@passed_queue_ids::integer[])
order by y.due_at, y.task_id limit 1

-- name: promote.next
-- The time at which the next delayed row is due. It reads the first entry of the index and not its min(): a planner that
-- takes the table for empty would read all of it for the min().
select least((select y.due_at from pgqueue.delayed y where y.due_at > @watermark order by y.due_at limit 1),
             (select w.due_at from pgqueue.group_wake w order by w.due_at limit 1)), pgqueue.clock()
