-- Looks at tasks. The hot path reads none of this.

-- name: task.now
-- $1 queues, $2 ids, side by side
select n.id, n.queue_id, n.namespace, n.queue, n.priority, n.key, n.headers, n.payload, n.created_at, n.result, n.status, n.worker,
       n.delayed_at, n.dies_at, n.started_at, n.finished_at, n.retries, n.attempt, n.progress, n.cancel_requested, n.token,
       n.turn, n.last_token
from unnest($1::integer[], $2::bigint[]) i (queue_id, id)
cross join lateral (select n.* from pgqueue.task_now n where n.queue_id = i.queue_id and n.id = i.id offset 0) n

-- name: task.now.any
-- The same where the queue is not known: one probe for each queue of the namespace. $1 namespace, $2 ids
select n.id, n.queue_id, n.namespace, n.queue, n.priority, n.key, n.headers, n.payload, n.created_at, n.result, n.status, n.worker,
       n.delayed_at, n.dies_at, n.started_at, n.finished_at, n.retries, n.attempt, n.progress, n.cancel_requested, n.token,
       n.turn, n.last_token
from pgqueue.queue q
cross join unnest($2::bigint[]) i (id)
cross join lateral (select n.* from pgqueue.task_now n where n.queue_id = q.id and n.id = i.id offset 0) n
where q.namespace = $1 and q.deleted_at is null

-- name: task.there
select t.id from pgqueue.queue q cross join unnest($2::bigint[]) i (id)
cross join lateral (select t.id from pgqueue.task t where t.queue_id = q.id and t.id = i.id offset 0) t
where q.namespace = $1 and q.deleted_at is null

-- name: task.errors
select e.task_id, e.attempt, e.at, e.worker, e.error
from unnest($1::integer[], $2::bigint[]) i (queue_id, id)
cross join lateral (select e.* from pgqueue.task_error e where e.queue_id = i.queue_id and e.task_id = i.id offset 0) e
order by e.task_id, e.id

-- Lists walk ids downwards, from $2 (exclusive), and stop as soon as a page is full. Each way suits a status.

-- name: list.all
-- $1 queues, $2 before, $3 created after, $4 created before, $5 worker, $6 offset, $7 limit, $8 statuses
select n.queue_id, n.id from (
    select t.queue_id, t.id from unnest($1::integer[]) u (queue_id)
    cross join lateral (
        select t.queue_id, t.id from pgqueue.task t
        where t.queue_id = u.queue_id and t.id < $2
          and ($3::timestamptz is null or t.created_at > $3) and ($4::timestamptz is null or t.created_at < $4)
          and (cardinality($8::smallint[]) = 7 and $5 = '' or exists (
              select 1 from pgqueue.task_now n where n.queue_id = t.queue_id and n.id = t.id
                and n.status = any ($8) and ($5 = '' or n.worker = $5) offset 0))
        order by t.id desc limit $6::bigint + $7::bigint
    ) t
) n
order by n.id desc offset $6::bigint limit $7::bigint

-- name: list.waiting
-- For queues in which few tasks wait: their narrow rows tell them all.
select w.queue_id, w.task_id from (
    select r.queue_id, r.task_id + i, r.attempt from pgqueue.ready r cross join lateral generate_series(0, r.n - 1) i
    where r.queue_id = any ($1::integer[]) and r.task_id + i < $2
    union all
    select y.queue_id, y.task_id, y.attempt from pgqueue.delayed y where y.queue_id = any ($1::integer[]) and y.task_id < $2
) w (queue_id, task_id, attempt)
cross join lateral (select t.created_at from pgqueue.task t where t.queue_id = w.queue_id and t.id = w.task_id offset 0) t
where ($3::timestamptz is null or t.created_at > $3) and ($4::timestamptz is null or t.created_at < $4)
  and (case when w.attempt > 0 then 2 else 1 end)::smallint = any ($8::smallint[])
  and ($5 = '' or exists (select 1 from pgqueue.state s where s.queue_id = w.queue_id and s.task_id = w.task_id and s.worker = $5 offset 0))
order by w.task_id desc offset $6::bigint limit $7::bigint

-- name: list.retry
-- by the index of tasks that failed before, some of which have ended since
select s.queue_id, s.task_id from unnest($1::integer[]) u (queue_id)
cross join lateral (
    select s.queue_id, s.task_id from pgqueue.state s
    where s.queue_id = u.queue_id and s.attempt > 0 and s.task_id < $2 and ($5 = '' or s.worker = $5) and 2 = any ($8::smallint[])
      and exists (
          select 1 from pgqueue.task_now n where n.queue_id = s.queue_id and n.id = s.task_id and n.status = 2
            and ($3::timestamptz is null or n.created_at > $3) and ($4::timestamptz is null or n.created_at < $4) offset 0)
    order by s.task_id desc limit $6::bigint + $7::bigint
) s
order by s.task_id desc offset $6::bigint limit $7::bigint

-- name: list.retained
select l.queue_id, i.id from pgqueue.lease l cross join lateral unnest(l.task_ids) i (id)
where l.queue_id = any ($1::integer[]) and i.id > 0 and i.id < $2 and ($5 = '' or l.worker = $5) and 3 = any ($8::smallint[])
  and ($3::timestamptz is null and $4::timestamptz is null or exists (
      select 1 from pgqueue.task t where t.queue_id = l.queue_id and t.id = i.id
        and ($3 is null or t.created_at > $3) and ($4 is null or t.created_at < $4) offset 0))
order by i.id desc offset $6::bigint limit $7::bigint

-- name: list.unwell
-- failed, expired, cancelled: by the index of those
select d.queue_id, d.task_id from unnest($1::integer[]) u (queue_id) cross join unnest($8::smallint[]) s (status)
cross join lateral (
    select d.queue_id, d.task_id from pgqueue.done d
    cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = d.queue_id offset 0) q
    where d.queue_id = u.queue_id and d.status = s.status and d.status <> 4 and d.task_id < $2
      and ($5 = '' or d.worker = $5)
      and ($3::timestamptz is null and $4::timestamptz is null or exists (
          select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = d.task_id
            and ($3 is null or t.created_at > $3) and ($4 is null or t.created_at < $4) offset 0))
      and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
    order by d.task_id desc limit $6::bigint + $7::bigint
) d
order by d.task_id desc offset $6::bigint limit $7::bigint

-- name: list.released
select d.queue_id, d.task_id from unnest($1::integer[]) u (queue_id)
cross join lateral (
    select d.queue_id, d.task_id from pgqueue.done d
    cross join lateral (select q.retention, q.ttl from pgqueue.queue q where q.id = d.queue_id offset 0) q
    where d.queue_id = u.queue_id and d.status = 4 and 4 = any ($8::smallint[]) and d.task_id < $2
      and ($5 = '' or d.worker = $5)
      and ($3::timestamptz is null and $4::timestamptz is null or exists (
          select 1 from pgqueue.task t where t.queue_id = d.queue_id and t.id = d.task_id
            and ($3 is null or t.created_at > $3) and ($4 is null or t.created_at < $4) offset 0))
      and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())
    order by d.task_id desc limit $6::bigint + $7::bigint
) d
order by d.task_id desc offset $6::bigint limit $7::bigint

-- name: list.count
-- Only for filters that the kept counts do not answer.
select count(*) from pgqueue.task_now n
where n.queue_id = any ($1::integer[]) and n.status = any ($5::smallint[])
  and ($2::timestamptz is null or n.created_at > $2) and ($3::timestamptz is null or n.created_at < $3) and ($4 = '' or n.worker = $4)

-- name: list.hidden
-- Finished tasks past retention that are counted still: few, or those of a full partition that is about to go, up to $3.
select count(*) from (
    select 1 from pgqueue.done d join pgqueue.queue q on q.id = d.queue_id
    where d.queue_id = any ($1::integer[]) and d.status = any ($2::smallint[])
      and d.finished_at <= (select pgqueue.clock() - min(pgqueue.stay(m.retention, m.ttl)) from pgqueue.queue m where m.id = any ($1::integer[]))
      and d.finished_at <= (select pgqueue.clock()) - pgqueue.stay(q.retention, q.ttl)
    limit $3) hidden

-- name: worker.list
select l.worker, sum(l.held)::bigint, min(l.retained_at), array_agg(distinct q.name order by q.name), min(l.expires_at)
from pgqueue.queue q join pgqueue.lease l on l.queue_id = q.id
where q.namespace = $1 and q.deleted_at is null
group by l.worker order by l.worker
