-- The partition keeper: partitions are created ahead of the ids and dropped when all of their tasks are past retention.

-- name: part.list
select {{part p}}, p.counted is not null, pgqueue.clock(), (select last_value from pgqueue.turn) from pgqueue.part p order by p.lower

-- name: part.open
-- The first id of the partition in use, and the first id behind the one that is counted for its drop.
select coalesce(max(lower) filter (where lower <= (select last_value from pgqueue.turn)), 0),
       coalesce(max(upper) filter (where counted is not null), 0)
from pgqueue.part

-- name: part.lock
select pg_advisory_xact_lock('pgqueue.part'::regclass::oid::integer, 0)

-- name: part.insert
insert into pgqueue.part (lower, upper, created_at) values (@lower, @upper, pgqueue.clock())

-- name: part.create
-- Made apart and attached: that asks for a lock which neither readers nor writers of the others wait for.
create table pgqueue.task_p{lower} (like pgqueue.task including defaults including constraints including storage)
    with (autovacuum_vacuum_insert_threshold = -1);
create table pgqueue.done_p{lower} (like pgqueue.done including defaults including constraints including storage)
    with (autovacuum_vacuum_insert_threshold = -1);
alter table pgqueue.task attach partition pgqueue.task_p{lower} for values from ({lower}) to ({upper});
alter table pgqueue.done attach partition pgqueue.done_p{lower} for values from ({lower}) to ({upper});

-- name: part.walk
-- A step of a partition's tasks in the order of queue and id: whether one of them is unfinished or within its retention, which
-- ends the step at once, else the last of them.
with visited as materialized (
    select t.queue_id, t.id from pgqueue.task_p{lower} t
    where (t.queue_id, t.id) > (@queue_id::integer, @task_id::bigint) order by t.queue_id, t.id limit @limit
)
select n.needed, l.queue_id, l.id
from (
    select exists (
        select 1 from visited v
        left join lateral (
            select d.finished_at, d.task_id + d.n > v.id as covers from pgqueue.done_p{lower} d
            where d.queue_id = v.queue_id and d.task_id <= v.id and d.task_id > (v.id - 1) / 32 * 32
            order by d.task_id desc limit 1
        ) d on true
        left join lateral (
            select q.id, q.retention, q.ttl from pgqueue.queue q where q.id = v.queue_id and q.deleted_at is null offset 0
        ) q on true
        where d.covers is not true or q.id is not null and d.finished_at + pgqueue.stay(q.retention, q.ttl) > (select pgqueue.clock())) as needed
) n
left join lateral (
    select v.queue_id, v.id from visited v where not n.needed order by v.queue_id desc, v.id desc limit 1
) l on true

-- name: part.count.begin
update pgqueue.part set counted = '{}' where lower = @lower

-- name: part.count.lock
-- The progress of a count, unless another transaction works on it.
select counted from pgqueue.part where lower = @lower and counted is not null for update skip locked

-- name: part.count.step
-- A step of the finished rows of a partition, by queue and status: tasks, newest finish, last row and number of rows.
with visited as materialized (
    select d.queue_id, d.task_id, d.status, d.n, d.finished_at from pgqueue.done_p{lower} d
    where (d.queue_id, d.task_id) > (@queue_id::integer, @task_id::bigint) order by d.queue_id, d.task_id limit @limit
)
select v.queue_id, v.status, sum(v.n)::integer, max(v.finished_at), max(v.task_id), count(*)::integer from visited v group by 1, 2

-- name: part.count.save
update pgqueue.part set counted = @counted where lower = @lower

-- name: part.count.discard
-- A step has deleted tasks from @task_id on: a count of their partition is wrong then and begins again.
update pgqueue.part set counted = null where counted is not null and @task_id < upper

-- name: part.changed
-- Whether a counted partition is needed: a queue keeps its newest task longer now, or a task has a state row, as each has that
-- waits again after its end. And the counted queues that still exist.
select exists (
           select 1 from {{part_sum_rows i}}
           join pgqueue.queue q on q.id = i.queue_id and q.deleted_at is null
           where i.finished_at + pgqueue.stay(q.retention, q.ttl) > pgqueue.clock())
       or exists (
           select 1 from pgqueue.queue q
           cross join lateral (
               select 1 from pgqueue.state s where s.queue_id = q.id and s.task_id >= {lower} and s.task_id < {upper} limit 1
           ) s),
       array(select q.id from pgqueue.queue q where q.id = any (@queue_id::integer[]) and q.deleted_at is null)

-- name: part.strip.keys
-- Keys of a partition's tasks behind one task, up to a last one. Returns how many went.
with gone as (
    delete from pgqueue.task_key where ctid = any (array(
        select k.at from pgqueue.task_p{lower} t
        cross join lateral (
            select k.ctid as at from pgqueue.task_key k where k.queue_id = t.queue_id and k.key = t.key and k.task_id = t.id offset 0
        ) k
        where (t.queue_id, t.id) > (@queue_id::integer, @task_id::bigint)
          and (t.queue_id, t.id) <= (@last_queue_id::integer, @last_task_id::bigint) and t.key is not null)) returning 1
)
select count(*)::integer from gone

-- name: part.strip
-- A step of the states and errors of a partition's tasks, queue by queue: their keys begin with it. Those of a task that waits
-- again, or is within its retention, stay.
with state as (
    delete from pgqueue.state where ctid = any (array(
        select s.at from pgqueue.queue q
        cross join lateral (
            select s.ctid as at from pgqueue.state s
            where s.queue_id = q.id and s.task_id >= {lower} and s.task_id < {upper}
              and exists (
                  select 1 from pgqueue.done_p{lower} d
                  where d.queue_id = q.id and d.task_id <= s.task_id and d.task_id > (s.task_id - 1) / 32 * 32
                    and d.task_id + d.n > s.task_id
                    and (q.deleted_at is not null or d.finished_at + pgqueue.stay(q.retention, q.ttl) <= pgqueue.clock()))
            order by s.task_id limit @limit
        ) s limit @limit)) returning 1
),
error as (
    delete from pgqueue.task_error where ctid = any (array(
        select e.at from pgqueue.queue q
        cross join lateral (
            select e.ctid as at from pgqueue.task_error e
            where e.queue_id = q.id and e.task_id >= {lower} and e.task_id < {upper}
              and exists (
                  select 1 from pgqueue.done_p{lower} d
                  where d.queue_id = q.id and d.task_id <= e.task_id and d.task_id > (e.task_id - 1) / 32 * 32
                    and d.task_id + d.n > e.task_id
                    and (q.deleted_at is not null or d.finished_at + pgqueue.stay(q.retention, q.ttl) <= pgqueue.clock()))
            order by e.task_id limit @limit
        ) e limit @limit)) returning 1
)
select ((select count(*) from state) + (select count(*) from error))::integer

-- name: part.close
-- No row can be added to a closed partition. A create that took its ids long ago fails, and takes others.
lock table pgqueue.task_p{lower} in access exclusive mode;
alter table pgqueue.task_p{lower} drop constraint if exists closed, add constraint closed check (false) not valid;

-- name: part.drop.lock
-- One process drops at a time; the others have no need to wait.
select pg_try_advisory_xact_lock('pgqueue.part'::regclass::oid::integer, 1)

-- name: part.freeze
-- Nothing changes in the partition between its counts and its removal. The hot path does not write there.
lock table pgqueue.task_p{lower}, pgqueue.done_p{lower} in share mode

-- name: part.drop
-- "only": without it the lock would be for all partitions.
lock table only pgqueue.task, only pgqueue.done in access exclusive mode;
drop table pgqueue.task_p{lower}, pgqueue.done_p{lower};
delete from pgqueue.part where lower = {lower};
