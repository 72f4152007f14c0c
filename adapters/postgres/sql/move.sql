-- Moves: the domain has computed the new state of tasks; these statements write the rows.

-- name: move.done
-- With @keep a task keeps its last result, which does not leave the database
insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker, result)
select i.id, @now, i.started_at, i.token, i.queue_id, i.status, i.attempt, i.worker,
       case when i.keep then (select s.result from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id) else i.result end
from unnest(@id::bigint[], @started_at::timestamptz[], @token::bigint[], @queue_id::integer[], @status::smallint[], @attempt::smallint[], @worker::text[], @result::json[],
            @keep::boolean[])
    i (id, started_at, token, queue_id, status, attempt, worker, result, keep)

-- name: move.done.held
-- Successes, the common case, as runs of ids. The columns that a lease has in common (@started_at to @worker) are sent once
-- for each lease, and @lease is the place of a run's lease in them, from 1
insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, n, worker, result)
select i.id, @now, (@started_at::timestamptz[])[i.lease], i.token, (@queue_id::integer[])[i.lease], 4, i.attempt, i.n, (@worker::text[])[i.lease], i.result
from unnest(@id::bigint[], @lease::integer[], @token::bigint[], @attempt::smallint[], @n::smallint[], @result::json[]) i (id, lease, token, attempt, n, result)

-- name: move.back
-- Tasks that wait again: ready under a new turn, or delayed. Their state row says what the task row cannot. With @keep a task
-- keeps its last result, as in move.done.
with i as materialized (
    select i.*, case when i.late then null else nextval('pgqueue.turn') end as turn,
           case when i.keep then (select s.result from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id)
                else i.given end as result
    from unnest(@id::bigint[], @queue_id::integer[], @priority::smallint[], @late::boolean[], @delayed_at::timestamptz[], @dies_at::timestamptz[], @started_at::timestamptz[],
                @token::bigint[], @attempt::smallint[], @retries::smallint[], @worker::text[], @result::json[], @keep::boolean[])
        i (id, queue_id, priority, late, delayed_at, dies_at, started_at, token, attempt, retries, worker, given, keep)
    order by i.queue_id, i.id
),
_state as (
    insert into pgqueue.state (queue_id, task_id, turn, delayed_at, dies_at, started_at, token, attempt, retries, worker, result)
    select queue_id, id, turn, delayed_at, dies_at, started_at, token, attempt, retries, worker, result from i
    on conflict (queue_id, task_id) do update
    set turn = excluded.turn, delayed_at = excluded.delayed_at, dies_at = excluded.dies_at, started_at = excluded.started_at,
        token = excluded.token, attempt = excluded.attempt, retries = excluded.retries, worker = excluded.worker,
        result = excluded.result
),
_ready as (
    insert into pgqueue.ready (turn, task_id, queue_id, priority, attempt, dies_at)
    select turn, id, queue_id, priority, attempt, dies_at from i where not late
)
insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt, dies_at)
select delayed_at, id, queue_id, priority, attempt, dies_at from i where late

-- name: move.error
insert into pgqueue.task_error (queue_id, task_id, attempt, at, worker, error)
select * from unnest(@queue_id::integer[], @task_id::bigint[], @attempt::smallint[], @at::timestamptz[], @worker::text[], @error::json[])

-- name: move.error.trim
-- Only the newest errors of a task stay.
delete from pgqueue.task_error where ctid = any (array(
    select e.at
    from unnest(@queue_id::integer[], @task_id::bigint[]) i (queue_id, task_id)
    cross join lateral (
        select e.ctid as at from pgqueue.task_error e where e.queue_id = i.queue_id and e.task_id = i.task_id
        order by e.id desc offset @keep
    ) e))

-- name: promote
-- Due delayed rows become ready, in the order in which they were due. $1 floor, $2 most, $3 tasks and $4 queues to pass over
with due as materialized (
    select y.ctid as at, y.* from pgqueue.delayed y
    where y.due_at > $1 and y.due_at <= (select pgqueue.clock()) and y.task_id <> all ($3::bigint[]) and y.queue_id <> all ($4::integer[])
    order by y.due_at, y.task_id
    limit $2
    for update skip locked
),
_delayed as (delete from pgqueue.delayed where ctid = any (array(select at from due))),
turned as materialized (select due.*, nextval('pgqueue.turn') as turn from due),
_ready as (
    insert into pgqueue.ready (turn, task_id, queue_id, priority, attempt, dies_at)
    select turn, task_id, queue_id, priority, attempt, dies_at from turned
),
_state as (
    insert into pgqueue.state (queue_id, task_id, turn, delayed_at, dies_at, attempt, retries)
    select u.queue_id, u.task_id, u.turn, u.due_at, u.dies_at, u.attempt, t.retries
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
-- The row that promote takes first. $1 floor, $2 tasks and $3 queues to pass over
select y.queue_id, y.task_id, coalesce(q.namespace, ''), coalesce(q.name, '') from pgqueue.delayed y
left join pgqueue.queue q on q.id = y.queue_id
where y.due_at > $1 and y.due_at <= (select pgqueue.clock()) and y.task_id <> all ($2::bigint[]) and y.queue_id <> all ($3::integer[])
order by y.due_at, y.task_id limit 1

-- name: promote.next
-- The first of its index, not its min(): a planner that thinks the table empty would read all of it for that.
select (select y.due_at from pgqueue.delayed y where y.due_at > $1 order by y.due_at limit 1), pgqueue.clock()

-- name: expire.ready
-- Whole runs, until $2 tasks are reached. The locked rest is past its ttl too, so no retain misses it. $3 first tasks of
-- runs and $4 queues to pass over
with locked as materialized (
    select r.ctid as at, r.* from pgqueue.ready r
    where r.dies_at > $1 and r.dies_at <= (select pgqueue.clock()) and r.task_id <> all ($3::bigint[]) and r.queue_id <> all ($4::integer[])
    order by r.dies_at
    limit $2
    for update skip locked
),
due as materialized (
    select * from (select l.*, sum(l.n) over (order by l.dies_at, l.turn) - l.n as before from locked l) l where l.before < $2
),
gone as (delete from pgqueue.ready where ctid = any (array(select at from due)))
select queue_id, task_id + i, attempt, dies_at, false from due cross join lateral generate_series(0, n - 1) i

-- name: expire.ready.first
-- The row that expire.ready takes first. $1 floor, $2 tasks and $3 queues to pass over
select r.queue_id, r.task_id, coalesce(q.namespace, ''), coalesce(q.name, '') from pgqueue.ready r
left join pgqueue.queue q on q.id = r.queue_id
where r.dies_at > $1 and r.dies_at <= (select pgqueue.clock()) and r.task_id <> all ($2::bigint[]) and r.queue_id <> all ($3::integer[])
order by r.dies_at limit 1

-- name: expire.delayed.first
select y.queue_id, y.task_id, coalesce(q.namespace, ''), coalesce(q.name, '') from pgqueue.delayed y
left join pgqueue.queue q on q.id = y.queue_id
where y.dies_at > $1 and y.dies_at <= (select pgqueue.clock()) and y.task_id <> all ($2::bigint[]) and y.queue_id <> all ($3::integer[])
order by y.dies_at limit 1

-- name: expire.next
-- When the first task that waits is past its ttl. $1 and $2 floors of the ready and the delayed
select least(
    (select r.dies_at from pgqueue.ready r where r.dies_at > $1 order by r.dies_at limit 1),
    (select y.dies_at from pgqueue.delayed y where y.dies_at > $2 order by y.dies_at limit 1)), pgqueue.clock()

-- name: expire.delayed
-- $3 tasks and $4 queues to pass over
with due as materialized (
    select y.ctid as at, y.* from pgqueue.delayed y
    where y.dies_at > $1 and y.dies_at <= (select pgqueue.clock()) and y.task_id <> all ($3::bigint[]) and y.queue_id <> all ($4::integer[])
    order by y.dies_at
    limit $2
    for update skip locked
),
gone as (delete from pgqueue.delayed where ctid = any (array(select at from due)))
select queue_id, task_id, attempt, dies_at, true from due

-- name: expire.done
-- $1 now, then queue, id, attempt, delayed of each
with i as materialized (
    select i.*, q.events, q.namespace, q.name from unnest($2::integer[], $3::bigint[], $4::smallint[], $5::boolean[]) i (queue_id, id, attempt, late)
    join pgqueue.queue q on q.id = i.queue_id
),
_done as (
    insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker, result)
    select i.id, $1, s.started_at, 0, i.queue_id, 6, i.attempt, s.worker, s.result
    from i
    left join lateral (select s.* from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id offset 0) s on true
),
_event as (
    insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed, task_ids)
    select $1, queue_id, 6, case when attempt > 0 then 2 else 1 end, 6, count(*), -count(*) filter (where late),
           case when events then array_agg(id) end
    from i group by queue_id, attempt > 0, events
)
select namespace, name, (case when attempt > 0 then 2 else 1 end)::smallint, count(*) from i group by namespace, name, attempt > 0

-- name: take.ready
-- Takes single tasks out of ready for an operator; the faster one, a retain or this, has them. The rest of their runs goes
-- back as shorter runs. $1 queue, $2 priority, $3 turn
with i as materialized (select * from unnest($1::integer[], $2::smallint[], $3::bigint[]) i (queue_id, priority, turn)),
run as (
    delete from pgqueue.ready where ctid = any (array(
        select r.at
        from i
        cross join lateral (
            select r.ctid as at from pgqueue.ready r
            where r.queue_id = i.queue_id and r.priority = i.priority
              and r.turn <= i.turn and r.turn > i.turn - 32 and r.turn + r.n > i.turn
            limit 1
        ) r))
    returning *
),
member as materialized (
    select r.queue_id, r.priority, r.turn + g as turn, r.task_id + g as task_id, r.attempt, r.dies_at, r.turn as of, i.turn is not null as taken
    from run r
    cross join lateral generate_series(0, r.n - 1) g
    left join i on i.queue_id = r.queue_id and i.priority = r.priority and i.turn = r.turn + g
),
_rest as (
    insert into pgqueue.ready (turn, task_id, queue_id, priority, attempt, n, dies_at)
    select min(turn), min(task_id), queue_id, priority, min(attempt), count(*), min(dies_at)
    from (select m.*, turn - row_number() over (partition by queue_id, priority, of order by turn) as island from member m where not taken) m
    group by queue_id, priority, of, island
)
select task_id from member where taken

-- name: take.delayed
delete from pgqueue.delayed where ctid = any (array(
    select y.at
    from unnest($1::timestamptz[], $2::bigint[]) i (due_at, id)
    cross join lateral (
        select y.ctid as at from pgqueue.delayed y where y.due_at = i.due_at and y.task_id = i.id offset 0
    ) y))
returning task_id

-- name: take.done
-- Takes single tasks out of done for an operator. The rest of their runs goes back as shorter runs. Ids are unique over
-- all queues, so two lists are as good as pairs, and they select the partitions to open. $1 queues, $2 ids
with i as materialized (select * from unnest($1::integer[], $2::bigint[]) i (queue_id, id)),
run as (
    delete from pgqueue.done d
    where d.queue_id = any ($1::integer[])
      and d.task_id = any (array(select o.task_id from i cross join lateral pgqueue.done_of(i.queue_id, i.id) o))
    returning d.*
),
member as materialized (
    select r.*, g, i.id is not null as taken
    from run r
    cross join lateral generate_series(0, r.n - 1) g
    left join i on i.queue_id = r.queue_id and i.id = r.task_id + g
),
_rest as (
    insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, n, worker)
    select task_id + min(g), min(finished_at), min(started_at), min(token) + min(g), queue_id, min(status), min(attempt), count(*), min(worker)
    from (select m.*, g - row_number() over (partition by queue_id, task_id order by g) as island from member m where not taken) m
    group by queue_id, task_id, island
)
select task_id + g from member where taken

-- name: erase
-- All rows of tasks that have no lease and no narrow row any more. $1 queues, $2 ids
with i as materialized (select * from unnest($1::integer[], $2::bigint[]) i (queue_id, id) order by 1, 2),
_key as (
    delete from pgqueue.task_key where ctid = any (array(
        select k.at from i
        cross join lateral (select t.key from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t
        cross join lateral (
            select k.ctid as at from pgqueue.task_key k where k.queue_id = i.queue_id and k.key = t.key and k.task_id = i.id offset 0
        ) k))
),
_state as (
    delete from pgqueue.state where ctid = any (array(
        select s.at from i
        cross join lateral (select s.ctid as at from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id offset 0) s))
),
_error as (
    delete from pgqueue.task_error where ctid = any (array(
        select e.at from i
        cross join lateral (select e.ctid as at from pgqueue.task_error e where e.queue_id = i.queue_id and e.task_id = i.id offset 0) e))
)
delete from pgqueue.task t where t.queue_id = any ($1::integer[]) and t.id = any ($2::bigint[])
