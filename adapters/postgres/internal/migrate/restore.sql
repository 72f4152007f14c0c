-- Rows and sequences that a restore may have left out. Migrations and doctor look for them; migrate up and
-- migrate after-restore fill them.

-- name: migrate.restored.look
-- Whether the row of fold is missing; the number of partitions without their row of part, and of rows without partitions;
-- the names of sequences behind the values in use, but for those of event and task_error, which have no index for it. A partition
-- counts when task and done both have it. A token is a multiple of 256.
with {{attached}},
number as (select case when is_called then last_value else last_value - 1 end as last from pgqueue.number),
tick as (select case when is_called then last_value else last_value - 1 end as last from pgqueue.tick_id_seq),
marker as (select case when is_called then last_value else last_value - 1 end as last from pgqueue.marker),
audit as (select case when is_called then last_value else last_value - 1 end as last from pgqueue.audit_id_seq),
lane as (select case when is_called then last_value else last_value - 1 end as last from pgqueue.lane_n_seq),
turn as (select case when is_called then last_value else last_value - 1 end as last from pgqueue.turn),
token as (select last_value, case when is_called then last_value else last_value - 256 end as last from pgqueue.token)
select not exists (select 1 from pgqueue.fold),
       (select count(*) from attached a full join pgqueue.part p on p.lower = a.lower and p.upper = a.upper
        where a.lower is null or p.lower is null)::integer,
       array_remove(array[
           case when exists (
               select 1 from pgqueue.queue q
               cross join lateral (
                   select 1 from pgqueue.task t where t.queue_id = q.id and t.id > (select last from turn) limit 1
               ) t) then 'turn' end,
           case when exists (select 1 from pgqueue.lease l where l.token > (select last from token))
                  or (select last_value % 256 <> 0 from token) then 'token' end,
           case when exists (select 1 from pgqueue.queue x where x.id > (select last from number))
                  or exists (select 1 from pgqueue.ticker x where x.id > (select last from number)) then 'number' end,
           case when exists (select 1 from pgqueue.tick x where x.id > (select last from tick)) then 'tick_id_seq' end,
           case when exists (select 1 from pgqueue.ready r where r.lane = 2147483647 and r.turn > (select last from marker))
                  or exists (select 1 from pgqueue.group_state s where s.version > (select last from marker)) then 'marker' end,
           case when exists (select 1 from pgqueue.audit x where x.id > (select last from audit)) then 'audit_id_seq' end,
           case when exists (select 1 from pgqueue.lane x where x.n > (select last from lane)) then 'lane_n_seq' end
       ], null)::text[]

-- name: migrate.restored.parts
-- The rows of part follow the partitions: one row for each range that task and done both have.
with {{attached}},
_deleted as (
    delete from pgqueue.part p where not exists (select 1 from attached a where a.lower = p.lower and a.upper = p.upper)
)
insert into pgqueue.part (lower, upper, created_at)
select lower, upper, pgqueue.clock() from attached
on conflict (lower) do nothing

-- name: migrate.restored.sequences
-- Each sequence reaches the greatest value in use; tokens are multiples of 256.
select setval('pgqueue.turn', greatest((select last_value from pgqueue.turn),
           (select max(id) from pgqueue.task), (select max(turn + n) from pgqueue.ready where n > 0), (select max(turn) from pgqueue.state))),
       setval('pgqueue.token', (greatest((select last_value from pgqueue.token), (select max(token) + 256 from pgqueue.lease),
           (select max(token) + 256 from pgqueue.state), (select max(token) + 256 from pgqueue.done)) + 255) / 256 * 256),
       setval('pgqueue.number', greatest((select last_value from pgqueue.number), (select max(id) from pgqueue.queue), (select max(id) from pgqueue.ticker))),
       setval('pgqueue.marker', greatest((select last_value from pgqueue.marker), (select max(turn) from pgqueue.ready where lane = 2147483647),
           (select max(version) from pgqueue.group_state))),
       setval('pgqueue.audit_id_seq', greatest((select last_value from pgqueue.audit_id_seq), (select max(id) from pgqueue.audit))),
       setval('pgqueue.lane_n_seq', greatest((select last_value from pgqueue.lane_n_seq), (select max(n) from pgqueue.lane))),
       setval('pgqueue.tick_id_seq', greatest((select last_value from pgqueue.tick_id_seq), (select max(id) from pgqueue.tick))),
       setval('pgqueue.event_id_seq', greatest((select last_value from pgqueue.event_id_seq), (select max(id) from pgqueue.event))),
       setval('pgqueue.task_error_id_seq', greatest((select last_value from pgqueue.task_error_id_seq), (select max(id) from pgqueue.task_error)))

-- name: migrate.restored.now
-- A statement without tables: on Citus they may lie on a server with other transaction ids.
select pg_current_snapshot()::text

-- name: migrate.restored.count
-- Counts from the rows themselves, and the row of fold with the snapshot @now. The counts contain all events, so the table event
-- is emptied. The caller has locked fold, event and queue_count before it took the snapshot, so that nothing is counted twice. Each
-- marker of a create stands for one task that waits for its group and is counted as ready.
with counted as (
    select queue_id, sum(new) as new, sum(retry) as retry, sum(retained) as retained, sum(released) as released, sum(failed) as failed,
           sum(expired) as expired, sum(cancelled) as cancelled, sum(delayed) as delayed,
           sum(group_waiting) as group_waiting
    from (
        select queue_id, case when attempt = 0 then n else 0 end as new, case when attempt > 0 then n else 0 end as retry,
               0 as retained, 0 as released, 0 as failed, 0 as expired, 0 as cancelled, 0 as delayed,
               case when n = 0 and lane < 2147483647 then -1 else 0 end as group_waiting
        from pgqueue.ready
        union all
        select queue_id, case when attempt = 0 then 1 else 0 end, case when attempt > 0 then 1 else 0 end, 0, 0, 0, 0, 0, 1, 0
        from pgqueue.delayed
        union all
        select queue_id, case when attempt = 0 then 1 else 0 end, case when attempt > 0 then 1 else 0 end, 0, 0, 0, 0, 0, 0, 1
        from pgqueue.group_waiting
        union all
        select queue_id, 0, 0, held, 0, 0, 0, 0, 0, 0 from pgqueue.lease
        union all
        select queue_id, 0, 0, 0, case when status = 4 then n else 0 end, case when status = 5 then n else 0 end,
               case when status = 6 then n else 0 end, case when status = 7 then n else 0 end, 0, 0
        from pgqueue.done
    ) rows
    group by queue_id
),
_count as (
    insert into pgqueue.queue_count as c (queue_id, new, retry, retained, released, failed, expired, cancelled, delayed, group_waiting, marked_at, next_at)
    select q.id, coalesce(x.new, 0), coalesce(x.retry, 0), coalesce(x.retained, 0), coalesce(x.released, 0), coalesce(x.failed, 0),
           coalesce(x.expired, 0), coalesce(x.cancelled, 0), coalesce(x.delayed, 0), coalesce(x.group_waiting, 0), pgqueue.clock(), pgqueue.clock()
    from pgqueue.queue q left join counted x on x.queue_id = q.id
    on conflict (queue_id) do update
    set new = excluded.new, retry = excluded.retry, retained = excluded.retained, released = excluded.released,
        failed = excluded.failed, expired = excluded.expired, cancelled = excluded.cancelled, delayed = excluded.delayed,
        group_waiting = excluded.group_waiting
),
_event as (delete from pgqueue.event),
_snapshot as (delete from pgqueue.event_snapshot)
insert into pgqueue.fold (seen, pruned) select @now::text::pg_snapshot, pg_snapshot_xmin(@now::text::pg_snapshot)

-- name: migrate.restored.lock
lock table pgqueue.fold, pgqueue.event, pgqueue.queue_count in access exclusive mode
