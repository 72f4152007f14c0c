-- Moves: the domain has computed the new state of tasks; these statements write the rows.

-- name: move.done
-- With @keep a task keeps its last result, which does not leave the database
insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker, result)
select i.id, @now, i.started_at, i.token, i.queue_id, i.status, i.attempt, i.worker,
       case when i.keep then (select s.result from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id) else i.result end
from {{done_rows i}}

-- name: move.done.held
-- Successes, the common case, as runs of ids. The columns that a lease has in common (@started_at to @worker) are sent once
-- for each lease, and @lease is the place of a run's lease in them, from 1
insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, n, worker, result)
select i.id, @now, (@started_at::timestamptz[])[i.lease], i.token, (@queue_id::integer[])[i.lease], 4, i.attempt, i.n, (@worker::text[])[i.lease], i.result
from {{success_run_rows i}}

-- name: move.back
-- Tasks that wait again: ready under a new turn, or delayed. Their state row says what the task row cannot. With @keep a task
-- keeps its last result, as in move.done.
with i as materialized (
    select i.*, case when i.late then null else nextval('pgqueue.turn') end as turn,
           case when i.keep then (select s.result from pgqueue.state s where s.queue_id = i.queue_id and s.task_id = i.id)
                else i.given end as result,
           case when i.losses > 0 then i.attempt | 8192 else i.attempt end::smallint as mark -- of a suspect
    from unnest(@id::bigint[], @queue_id::integer[], @priority::smallint[], @late::boolean[], @delayed_at::timestamptz[], @dies_at::timestamptz[], @started_at::timestamptz[],
                @token::bigint[], @attempt::smallint[], @retries::smallint[], @worker::text[], @result::json[], @keep::boolean[],
                @bucket::smallint[], @grp::bigint[], @losses::smallint[])
        i (id, queue_id, priority, late, delayed_at, dies_at, started_at, token, attempt, retries, worker, given, keep, bucket, grp, losses)
    order by i.queue_id, i.id
),
_state as (
    insert into pgqueue.state (queue_id, task_id, turn, delayed_at, dies_at, started_at, token, attempt, retries, worker, result, losses)
    select queue_id, id, turn, delayed_at, dies_at, started_at, token, attempt, retries, worker, result, losses from i
    on conflict (queue_id, task_id) do update
    set turn = excluded.turn, delayed_at = excluded.delayed_at, dies_at = excluded.dies_at, started_at = excluded.started_at,
        token = excluded.token, attempt = excluded.attempt, retries = excluded.retries, worker = excluded.worker,
        result = excluded.result, losses = excluded.losses
),
_ready as (
    insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, dies_at, grp)
    select turn, id, queue_id, priority * 65536 + coalesce(bucket, 0), mark, dies_at, grp from i where not late
)
insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt, dies_at, bucket, grp)
select delayed_at, id, queue_id, priority, mark, dies_at, bucket, grp from i where late

-- name: move.error
insert into pgqueue.task_error ({{task_error}}) select {{task_error i}} from {{task_error_rows i}}

-- name: move.error.trim
-- Only the newest errors of a task stay.
delete from pgqueue.task_error where ctid = any (array(
    select e.at
    from unnest(@queue_id::integer[], @task_id::bigint[]) i (queue_id, task_id)
    cross join lateral (
        select e.ctid as at from pgqueue.task_error e where e.queue_id = i.queue_id and e.task_id = i.task_id
        order by e.id desc offset @keep
    ) e))

-- name: take.ready
-- Takes single tasks out of ready for an operator; the faster one, a retain or this, has them. The rest of their runs is
-- returned as shorter runs, which the caller inserts: with an insert beside it Citus has no ctid. This and the other take
-- statements leave out rows that another transaction has locked; those with the suffix .wait wait for them.
with i as materialized (select * from {{taken_ready_rows i}}),
run as (
    delete from pgqueue.ready where ctid = any (array(
        select r.at
        from i
        cross join lateral (
            select r.ctid as at from pgqueue.ready r
            where r.queue_id = i.queue_id and r.lane = i.lane
              and r.turn <= i.turn and r.turn > i.turn - 32 and r.turn + r.n > i.turn
            limit 1
            for update skip locked
        ) r))
    returning *
),
member as materialized (
    select r.queue_id, r.lane, r.turn + g as turn, r.task_id + g as task_id, r.attempt, r.dies_at, r.grp, r.turn as of, i.turn is not null as taken
    from run r
    cross join lateral generate_series(0, r.n - 1) g
    left join i on i.queue_id = r.queue_id and i.lane = r.lane and i.turn = r.turn + g
),
rest as (
    select min(turn) as turn, min(task_id) as task_id, queue_id, lane, min(attempt) as attempt, count(*)::smallint as n, min(dies_at) as dies_at, min(grp) as grp
    from (select m.*, turn - row_number() over (partition by queue_id, lane, of order by turn) as island from member m where not taken) m
    group by queue_id, lane, of, island
)
select true, m.turn, m.task_id, m.queue_id, m.lane, m.attempt, 1::smallint, m.dies_at, m.grp from member m where m.taken
union all
select false, {{ready r}} from rest r

-- name: take.delayed
delete from pgqueue.delayed where ctid = any (array(
    select y.at
    from {{taken_delayed_rows i}}
    cross join lateral (
        select y.ctid as at from pgqueue.delayed y where y.due_at = i.due_at and y.task_id = i.task_id offset 0
        for update skip locked
    ) y))
returning task_id

-- name: take.done
-- Takes single tasks out of done for an operator. The rest of their runs goes back as shorter runs. Ids are unique over
-- all queues, so two lists are as good as pairs, and they select the partitions to open.
with i as materialized (select * from {{place_rows i}}),
run as (
    delete from pgqueue.done d
    where d.queue_id = any (@queue_id::integer[])
      and d.task_id = any (array(select o.task_id from i cross join lateral {{covering_done i}} o))
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

-- name: move.dead
-- The headers of tasks that failed for good, for their dead letters. No payload leaves the database
select t.id, t.headers
from {{place_rows i}}
cross join lateral (select t.id, t.headers from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0) t

-- name: move.dead.size
-- The bytes of payloads as they are stored, without reading them
select t.id, t.bytes
from {{place_rows i}}
cross join lateral (
    select t.id, pg_column_size(t.payload)::bigint as bytes from pgqueue.task t where t.queue_id = i.queue_id and t.id = i.id offset 0
) t
