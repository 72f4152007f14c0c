-- The pruner: rows past their retention, and those of deleted queues, are deleted. partition_keeper.sql drops whole partitions.

-- name: prune.stays
-- The queues by the retention of their finished tasks, in seconds.
select extract(epoch from pgqueue.stay(retention, ttl))::float8, array_agg(id), pgqueue.clock()
from pgqueue.queue where deleted_at is null group by 1

-- name: prune.done
-- Deletes the finished rows of some queues that finished between two times; the block range index finds them. It takes whole
-- runs, until @limit tasks are reached. @passed_task_ids are the first ids of refused runs, which the step passes over.
delete from pgqueue.done d
where d.queue_id = any (@queue_ids::integer[]) and d.finished_at > @watermark and d.finished_at <= @until and d.task_id >= @from_id
  and (d.queue_id, d.task_id) in (
    select x.queue_id, x.task_id
    from (
        select x.*, sum(x.n) over (rows unbounded preceding) - x.n as before
        from (
            select x.queue_id, x.task_id, x.n from pgqueue.done x
            where x.queue_id = any (@queue_ids::integer[]) and x.finished_at > @watermark and x.finished_at <= @until
              and x.task_id >= @from_id and x.task_id <> all (@passed_task_ids::bigint[]) limit @limit
        ) x
    ) x
    where x.before < @limit)
returning d.queue_id, d.task_id, d.n, d.status

-- name: prune.done.first
-- The run that prune.done takes first.
select x.queue_id, x.task_id, q.namespace, q.name
from pgqueue.done x
join pgqueue.queue q on q.id = x.queue_id
where x.queue_id = any (@queue_ids::integer[]) and x.finished_at > @watermark and x.finished_at <= @until
  and x.task_id >= @from_id and x.task_id <> all (@passed_task_ids::bigint[]) limit 1

-- name: prune.clean
-- Deletes finished rows of one queue, independent of their age.
delete from pgqueue.done d
where d.queue_id = @queue_id and d.task_id = any (array(
    select x.task_id
    from (
        select x.task_id, sum(x.n) over (order by x.task_id) - x.n as before
        from (select x.task_id, x.n from pgqueue.done x where x.queue_id = @queue_id order by x.task_id limit @limit) x
    ) x
    where x.before < @limit))
returning d.queue_id, d.task_id, d.n, d.status

-- name: prune.deleted
-- A deleted queue, except the refused ones.
select id from pgqueue.queue where deleted_at is not null and id <> all (@passed_queue_ids::integer[]) order by id limit 1 for update skip locked

-- name: prune.deleted.rows
-- Deletes a step of the rows of a deleted queue and returns their number. Delayed rows have no index by queue: the step finds
-- them from their tasks, which it deletes too.
with batch as materialized (
    select t.id, case when s.task_id is null then t.delayed_at else s.delayed_at end as due_at
    from (select t.id, t.delayed_at from pgqueue.task t where t.queue_id = @queue_id order by t.id limit @limit) t
    left join lateral (
        select s.task_id, s.delayed_at from pgqueue.state s where s.queue_id = @queue_id and s.task_id = t.id offset 0
    ) s on true
),
ready as (
    delete from pgqueue.ready where ctid = any (array(select ctid from pgqueue.ready where queue_id = @queue_id limit @limit)) returning 1
),
delayed as (
    delete from pgqueue.delayed where ctid = any (array(
        select y.at from batch b
        cross join lateral (
            select y.ctid as at from pgqueue.delayed y where y.due_at = b.due_at and y.task_id = b.id offset 0
        ) y)) returning 1
),
waiting as (
    delete from pgqueue.group_waiting where ctid = any (array(select ctid from pgqueue.group_waiting where queue_id = @queue_id limit @limit)) returning 1
),
group_state as (
    delete from pgqueue.group_state where ctid = any (array(select ctid from pgqueue.group_state where queue_id = @queue_id limit @limit)) returning 1
),
lease as (
    delete from pgqueue.lease where ctid = any (array(
        select ctid from pgqueue.lease where queue_id = @queue_id limit @limit for update skip locked)) returning 1
),
done as (
    delete from pgqueue.done where queue_id = @queue_id and task_id = any (array(select id from batch)) returning 1
),
state as (
    delete from pgqueue.state where queue_id = @queue_id and task_id = any (array(select id from batch)) returning 1
),
error as (
    delete from pgqueue.task_error where queue_id = @queue_id and task_id = any (array(select id from batch)) returning 1
),
key as (
    delete from pgqueue.task_key where ctid = any (array(select ctid from pgqueue.task_key where queue_id = @queue_id limit @limit)) returning 1
),
task as (
    delete from pgqueue.task where queue_id = @queue_id and id = any (array(select id from batch)) returning 1
)
select (select count(*) from ready) + (select count(*) from delayed) + (select count(*) from waiting) + (select count(*) from group_state) + (select count(*) from lease) + (select count(*) from done)
     + (select count(*) from state) + (select count(*) from error) + (select count(*) from key) + (select count(*) from task)

-- name: prune.deleted.queue
with _lane as (delete from pgqueue.lane where queue_id = @queue_id), _count as (delete from pgqueue.queue_count where queue_id = @queue_id),
_history as (delete from pgqueue.queue_history where queue_id = @queue_id),
_policy as (delete from pgqueue.group_policy where queue_id = @queue_id),
_wake as (delete from pgqueue.group_wake where queue_id = @queue_id)
delete from pgqueue.queue where id = @queue_id

-- name: prune.beats
-- Lapsed lease beats of lease rows that no longer exist. While the row exists, a heartbeat names the length that was granted
-- last.
delete from pgqueue.lease_beat where ctid = any (array(
    select b.ctid from pgqueue.lease_beat b
    left join lateral (select l.token from pgqueue.lease l where l.token = b.token - b.token % 256 limit 1) l on true
    where b.expires_at <= (select pgqueue.clock()) and l.token is null
    order by b.expires_at limit @limit))

-- name: prune.events
-- Deletes old events that the counts include. @age in ns
with old as materialized (
    select o.xid, o.id from pgqueue.event o
    where o.xid < (select pg_snapshot_xmin(seen) from pgqueue.fold) and o.at < (select pgqueue.clock() - pgqueue.nanos(@age))
    order by o.xid, o.id limit @limit
),
-- The bound is that of the batch: without it a plan that was made while the table was small reads all of it.
gone as (
    delete from pgqueue.event e using old
    where e.xid = old.xid and e.id = old.id
      and (e.xid, e.id) <= ((select o.xid from old o order by o.xid desc, o.id desc limit 1),
                            (select o.id from old o order by o.xid desc, o.id desc limit 1))
    returning e.xid
),
top as (select max(xid::text::bigint) as xid, count(*) as n from gone),
_fold as (
    update pgqueue.fold f set pruned = greatest(f.pruned::text::bigint, top.xid + 1)::text::xid8 from top where top.n > 0
)
select n from top

-- name: prune.snapshots
-- Deletes snapshots of cursors that are older than the events. @age in ns
delete from pgqueue.event_snapshot where id = any (array(
    select id from pgqueue.event_snapshot where at < (select pgqueue.clock() - pgqueue.nanos(@age)) order by at limit @limit))

-- name: prune.ticks
-- Keeps the last @keep ticks of each ticker, and those of times still to come: a clock that went back reaches these again, and
-- they have fired. @passed_ticker_ids are the tickers to pass over
delete from pgqueue.tick i
where i.id in (
    select x.id from pgqueue.ticker k
    cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id order by t.id desc offset @keep limit 1) old
    cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id and t.id <= old.id and t.at <= (select pgqueue.clock()) order by t.id limit @limit) x
    where k.id <> all (@passed_ticker_ids::integer[])
    order by k.id, x.id
    limit @limit)

-- name: prune.ticks.first
-- The ticker of the tick that prune.ticks deletes first
select k.id, k.namespace, k.name
from pgqueue.ticker k
cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id order by t.id desc offset @keep limit 1) old
cross join lateral (select t.id from pgqueue.tick t where t.ticker_id = k.id and t.id <= old.id and t.at <= (select pgqueue.clock()) order by t.id limit 1) x
where k.id <> all (@passed_ticker_ids::integer[])
order by k.id limit 1

-- name: erase
-- All rows of tasks that have no narrow row any more.
with i as materialized (select * from {{place_rows i}} order by 1, 2),
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
delete from pgqueue.task t where t.queue_id = any (@queue_id::integer[]) and t.id = any (@id::bigint[])
