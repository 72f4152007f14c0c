-- Groups. The tables are explained beside group_waiting in the first migration; group_pick.go decides which tasks start.

-- name: group.markers
-- Takes front markers of a queue, oldest first, from a cursor on. The caller has the gate of the queue
with marked as materialized (
    select r.turn from pgqueue.ready r
    where r.queue_id = @queue_id and r.lane = 2147483647 and r.turn > @cursor
    order by r.turn limit @limit
)
delete from pgqueue.ready r
where r.queue_id = @queue_id and r.lane = 2147483647 and r.turn = any (array(select turn from marked))
  and r.turn > @cursor and r.turn <= (select max(turn) from marked)
returning r.turn, r.grp, r.task_id

-- name: group.load
-- The newest state and the settings of groups. The caller has the gate
with i as materialized (select * from unnest(@grp::bigint[]) i (grp))
select i.grp, s.version, s.holders, s.rate_state, p.concurrency, p.rate_limit, p.rate_period, p.rate_burst, p.paused_until
from i
left join lateral (
    select s.version, s.holders, s.rate_state from pgqueue.group_state s
    where s.queue_id = @queue_id and s.grp = i.grp order by s.version desc limit 1
) s on true
left join lateral (
    select p.* from pgqueue.group_policy p where p.queue_id = @queue_id and p.grp = i.grp offset 0
) p on true

-- name: group.holders
-- The tasks that keep places of a group, without the gate
select s.holders from pgqueue.group_state s
where s.queue_id = @queue_id and s.grp = @grp order by s.version desc limit 1

-- name: group.waiting
-- The first tasks that wait for each group, at most @most, and those among the first that another transaction has locked. A replace
-- in a transaction of a caller holds such a lock until its end, so this locks with skip locked, and reads once more without a lock
with locked as materialized (
    select w.*
    from unnest(@grp::bigint[]) i (grp)
    cross join lateral (
        select w.* from pgqueue.group_waiting w
        where w.queue_id = @queue_id and w.grp = i.grp and (w.dies_at is null or w.dies_at > (select pgqueue.clock()))
        order by w.lane, w.turn limit @most
        for update skip locked
    ) w
)
select {{group_waiting w}}, false from locked w
union all
select {{group_waiting w}}, true
from unnest(@grp::bigint[]) i (grp)
cross join lateral (
    select w.* from pgqueue.group_waiting w
    where w.queue_id = @queue_id and w.grp = i.grp and (w.dies_at is null or w.dies_at > (select pgqueue.clock()))
    order by w.lane, w.turn limit @most
) w
where (w.grp, w.lane, w.turn) not in (select l.grp, l.lane, l.turn from locked l)

-- name: group.waiting.turns
-- The tasks of a FIFO group that keep their place and wait, by their ids. It locks them as group.waiting does
with locked as materialized (
    select w.*
    from unnest(@grp::bigint[], @task_id::bigint[]) i (grp, task_id)
    cross join lateral (
        select w.* from pgqueue.group_waiting w
        where w.queue_id = @queue_id and w.grp = i.grp and w.turn = i.task_id and w.task_id = i.task_id
          and w.lane in (select l.lane from pgqueue.lane l where l.queue_id = @queue_id)
        limit 1
        for update skip locked
    ) w
)
select {{group_waiting w}}, false from locked w
union all
select {{group_waiting w}}, true
from unnest(@grp::bigint[], @task_id::bigint[]) i (grp, task_id)
cross join lateral (
    select w.* from pgqueue.group_waiting w
    where w.queue_id = @queue_id and w.grp = i.grp and w.turn = i.task_id and w.task_id = i.task_id
      and w.lane in (select l.lane from pgqueue.lane l where l.queue_id = @queue_id)
    limit 1
) w
where (w.grp, w.lane, w.turn) not in (select l.grp, l.lane, l.turn from locked l)

-- name: group.wait
-- Tasks wait for their group from now on
insert into pgqueue.group_waiting ({{group_waiting}}) select {{group_waiting i}} from {{group_waiting_rows i}}

-- name: group.start
-- Tasks no longer wait for their group
delete from pgqueue.group_waiting w
using unnest(@grp::bigint[], @lane::integer[], @turn::bigint[]) i (grp, lane, turn)
where w.queue_id = @queue_id and w.grp = i.grp and w.lane = i.lane and w.turn = i.turn

-- name: group.save
-- New versions of states
insert into pgqueue.group_state (queue_id, grp, version, holders, rate_state)
select i.queue_id, i.grp, nextval('pgqueue.marker'), i.holders::bigint[], i.rate_state
from {{group_state_rows i}}

-- name: group.forget
-- Deletes versions of states
delete from pgqueue.group_state s
using unnest(@queue_id::integer[], @grp::bigint[], @version::bigint[]) i (queue_id, grp, version)
where s.queue_id = i.queue_id and s.grp = i.grp and s.version = i.version

-- name: group.mark
-- Writes front markers. Those of queues in which no task keeps a place would be read by no retain
insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt, n, grp)
select nextval('pgqueue.marker'), i.task_id, i.queue_id, 2147483647, 0, 0, i.grp
from unnest(@queue_id::integer[], @grp::bigint[], @task_id::bigint[]) i (queue_id, grp, task_id)
join pgqueue.queue q on q.id = i.queue_id
where q."order" = 'fifo' or q.group_concurrency > 0 or q.group_rate_limit > 0 or q.group_policies > 0

-- name: group.wake
-- Plans a look at groups
insert into pgqueue.group_wake (due_at, queue_id, grp)
select i.due_at, i.queue_id, i.grp from unnest(@due_at::timestamptz[], @queue_id::integer[], @grp::bigint[]) i (due_at, queue_id, grp)
on conflict do nothing

-- name: group.due
-- Takes what group.wake planned and is due. A passed look has the number grp # queue_id, and queues are passed as a whole
delete from pgqueue.group_wake w where ctid = any (array(
    select w.ctid from pgqueue.group_wake w
    where w.due_at <= (select pgqueue.clock())
      and w.grp # w.queue_id::bigint <> all (@passed_groups::bigint[]) and w.queue_id <> all (@passed_queue_ids::integer[])
    order by w.due_at, w.queue_id, w.grp limit @limit
    for update skip locked))
returning w.queue_id, w.grp, w.after

-- name: group.due.first
-- The look that group.due takes first
select w.queue_id, w.grp, coalesce(q.namespace, ''), coalesce(q.name, '') from pgqueue.group_wake w
left join pgqueue.queue q on q.id = w.queue_id
where w.due_at <= (select pgqueue.clock())
  and w.grp # w.queue_id::bigint <> all (@passed_groups::bigint[]) and w.queue_id <> all (@passed_queue_ids::integer[])
order by w.due_at, w.queue_id, w.grp limit 1

-- name: group.queues
select q.id, q.namespace, q.name from pgqueue.queue q where q.id = any (@queue_ids::integer[]) and q.deleted_at is null

-- name: group.review
-- The next groups of a queue for which tasks wait, in the order of their hashes, behind @after
with recursive g as (
    (select w.grp, 1 as n from pgqueue.group_waiting w where w.queue_id = @queue_id and w.grp > @after order by w.grp limit 1)
    union all
    select (select w.grp from pgqueue.group_waiting w where w.queue_id = @queue_id and w.grp > g.grp order by w.grp limit 1), g.n + 1
    from g where g.grp is not null and g.n < @limit
)
select g.grp from g where g.grp is not null

-- name: group.review.later
insert into pgqueue.group_wake (due_at, queue_id, grp, after) values (pgqueue.clock(), @queue_id, 0, @after) on conflict do nothing

-- name: group.release
-- Takes tasks out that wait for groups of a queue that limits none any more
delete from pgqueue.group_waiting where ctid = any (array(
    select w.ctid from pgqueue.group_waiting w where w.queue_id = @queue_id order by w.lane, w.turn limit @limit for update skip locked))
returning turn, task_id, queue_id, lane, attempt, dies_at, grp

-- name: group.unmark
-- Deletes the markers of creates that stand where tasks become ready
delete from pgqueue.ready r
using unnest(@lane::integer[], @turn::bigint[]) i (lane, turn)
where r.queue_id = @queue_id and r.lane = i.lane and r.turn = i.turn and r.n = 0
returning r.turn

-- name: group.unmark.front
-- Deletes front markers of a queue that limits no groups any more, which no retain reads. The caller has the gate: a retain that
-- has begun before writes no further ones
delete from pgqueue.ready where ctid = any (array(
    select r.ctid from pgqueue.ready r where r.queue_id = @queue_id and r.lane = 2147483647 order by r.turn limit @limit for update skip locked))
returning turn

-- name: group.reset
-- Forgets all states of the groups of a queue. The caller has the gate
delete from pgqueue.group_state where queue_id = @queue_id and grp <> 0

-- name: group.places
-- Gives the tasks in hand their places. @none is the hash of the tasks without a group; 0 = they have no place
insert into pgqueue.group_state (queue_id, grp, version, holders, rate_state)
select @queue_id, h.grp, nextval('pgqueue.marker'), h.ids, 0
from (
    select coalesce(nullif(l.grps[i.place], 0), @none::bigint) as grp, array_agg(i.id order by i.id) as ids
    from pgqueue.lease l
    cross join lateral unnest(l.task_ids) with ordinality i (id, place)
    where l.queue_id = @queue_id and i.id <> 0
    group by 1
) h
where h.grp <> 0

-- name: group.places.one
-- Gives the tasks in hand of one group their places, and keeps the state of its rate
with before as (delete from pgqueue.group_state where queue_id = @queue_id and grp = @grp returning version, rate_state)
insert into pgqueue.group_state (queue_id, grp, version, holders, rate_state)
select @queue_id, @grp, nextval('pgqueue.marker'),
       array(select i.id
             from pgqueue.lease l
             cross join lateral unnest(l.task_ids) with ordinality i (id, place)
             where l.queue_id = @queue_id and i.id <> 0 and coalesce(nullif(l.grps[i.place], 0), @none::bigint) = @grp
             order by i.id),
       coalesce((select b.rate_state from before b order by b.version desc limit 1), 0)

-- name: group.policy
select {{group_policy p}} from pgqueue.group_policy p where p.queue_id = @queue_id and p.grp = @grp for update

-- name: group.policy.save
insert into pgqueue.group_policy ({{group_policy}}) select {{group_policy i}} from {{group_policy_rows i}}
on conflict (queue_id, grp) do update
set name = excluded.name, weight = excluded.weight, concurrency = excluded.concurrency, rate_limit = excluded.rate_limit,
    rate_period = excluded.rate_period, rate_burst = excluded.rate_burst, paused_until = excluded.paused_until, bucket = excluded.bucket

-- name: group.policy.delete
delete from pgqueue.group_policy where queue_id = @queue_id and grp = @grp

-- name: group.policy.change
-- The number of policies grows by @more. The caller has locked the row, as all that change policies have. It is written without a
-- change too: other processes see that the row of the queue is a new one
update pgqueue.queue set group_policies = group_policies + @more where id = @queue_id

-- name: group.policy.count
-- Counts the groups of a queue with a weight or limits of their own
select count(*) from pgqueue.group_policy p
where p.queue_id = @queue_id and (p.weight > 0 or p.concurrency > 0 or p.rate_limit > 0)

-- name: group.policy.bucket
-- A bucket that no group of the queue has
select (coalesce(max(p.bucket), 256) + 1)::smallint from pgqueue.group_policy p where p.queue_id = @queue_id

-- name: group.pause.lock
-- Locks the rows of queues before pauses change them and their groups, in the order of ids
select q.id from pgqueue.queue q where q.id = any (@queue_ids::integer[]) order by q.id for no key update

-- name: group.pause.lock.free
-- The same without rows that another transaction has locked
select q.id from pgqueue.queue q where q.id = any (@queue_ids::integer[]) order by q.id for no key update skip locked

-- name: group.pause
-- Holds groups up until a time, unless they are held up for longer. A queue with @most policies gets no new ones
with i as materialized (
    select i.*, p.queue_id is null as fresh
    from unnest(@queue_id::integer[], @grp::bigint[], @name::text[], @until::timestamptz[]) i (queue_id, grp, name, until)
    join pgqueue.queue q on q.id = i.queue_id
    left join lateral (
        select p.queue_id from pgqueue.group_policy p where p.queue_id = i.queue_id and p.grp = i.grp offset 0
    ) p on true
    where p.queue_id is not null or q.group_policies < @most
),
_pause as (
    insert into pgqueue.group_policy as p (queue_id, grp, name, weight, concurrency, rate_limit, rate_period, rate_burst, paused_until)
    select i.queue_id, i.grp, i.name, 0, 0, 0, 1000000000, 0, i.until from i order by i.queue_id, i.grp
    on conflict (queue_id, grp) do update set paused_until = greatest(p.paused_until, excluded.paused_until)
)
update pgqueue.queue q set group_policies = q.group_policies + n.fresh
from (select i.queue_id, count(*) filter (where i.fresh) as fresh from i group by 1) n
where q.id = n.queue_id

-- name: group.pause.over
-- Queues with groups that have nothing but a pause that is over
select distinct p.queue_id
from (
    select p.queue_id from pgqueue.group_policy p
    where p.weight = 0 and p.concurrency = 0 and p.rate_limit = 0 and p.paused_until <= (select pgqueue.clock())
    order by p.paused_until limit @limit
) p

-- name: group.pause.end
-- Forgets such pauses of a queue, at most @limit. The caller has locked its row
delete from pgqueue.group_policy where ctid = any (array(
    select p.ctid from pgqueue.group_policy p
    where p.queue_id = @queue_id and p.weight = 0 and p.concurrency = 0 and p.rate_limit = 0 and p.paused_until <= (select pgqueue.clock())
    order by p.paused_until limit @limit))
returning 1

-- name: group.review.free
-- Plans a review of a queue that limits no groups any more: tasks that wait for groups become ready
insert into pgqueue.group_wake (due_at, queue_id, grp)
select pgqueue.clock(), q.id, 0 from pgqueue.queue q
where q.id = @queue_id and q.group_policies = 0 and q."order" <> 'fifo' and q.group_concurrency = 0 and q.group_rate_limit = 0
on conflict do nothing

-- name: group.pause.queue
-- Holds a queue up until a time, unless it is held up for longer
update pgqueue.queue set paused_until = greatest(paused_until, @until) where id = @queue_id

-- name: group.buckets
-- The buckets of the groups with a weight
select p.queue_id, p.grp, p.bucket, p.weight from pgqueue.group_policy p where p.queue_id = any (@queue_ids::integer[]) and p.bucket is not null

-- name: group.lanes
-- The lanes of a fair queue, with the weights of the buckets that one group has
select distinct l.lane, coalesce(p.weight, 1)
from pgqueue.lane l
left join pgqueue.group_policy p on p.queue_id = l.queue_id and p.bucket = l.lane & 65535
where l.queue_id = @queue_id

-- name: retain.pick.fair
-- As retain.pick, for the lanes of one fair queue in a given order: @lane, behind @cursor, at most @quota rows each
with now as materialized (select pgqueue.clock() as t)
select {{ready r}}, r.at, (select t from now)
from pgqueue.queue q
cross join lateral (
    select u.lane, u.cursor, u.quota from unnest(@lane::integer[], @cursor::bigint[], @quota::integer[]) with ordinality u (lane, cursor, quota, ord)
    order by u.ord offset 0
) u
cross join lateral (
    select r.ctid as at, {{ready r}}
    from pgqueue.ready r
    where r.queue_id = q.id and r.lane = u.lane and r.turn > u.cursor and (r.dies_at is null or r.dies_at > (select t from now))
    order by r.turn
    limit u.quota
    for update skip locked
) r
where q.id = @queue_id and not q.paused and q.deleted_at is null and (not q.gated or q.id = any (@gated::integer[]))
  and (q.paused_until is null or q.paused_until <= (select t from now))

-- name: group.list
-- The next groups of a queue behind @after with a policy, a state or a waiting task, in the order of their hashes
with recursive w as (
    (select x.grp, 1 as n from pgqueue.group_waiting x where x.queue_id = @queue_id and x.grp > @after order by x.grp limit 1)
    union all
    select (select x.grp from pgqueue.group_waiting x where x.queue_id = @queue_id and x.grp > w.grp order by x.grp limit 1), w.n + 1
    from w where w.grp is not null and w.n < @limit
),
s as (
    (select x.grp, 1 as n from pgqueue.group_state x where x.queue_id = @queue_id and x.grp > @after and x.grp <> 0 order by x.grp limit 1)
    union all
    select (select x.grp from pgqueue.group_state x where x.queue_id = @queue_id and x.grp > s.grp and x.grp <> 0 order by x.grp limit 1), s.n + 1
    from s where s.grp is not null and s.n < @limit
)
select u.grp from (
    select w.grp from w where w.grp is not null
    union
    select s.grp from s where s.grp is not null
    union
    (select p.grp from pgqueue.group_policy p where p.queue_id = @queue_id and p.grp > @after order by p.grp limit @limit)
) u order by u.grp limit @limit

-- name: group.describe
-- What an answer says of groups. The name comes from the policy, or from a task that waits or keeps a place
with i as materialized (select * from unnest(@grp::bigint[]) i (grp))
select i.grp, pgqueue.clock(), coalesce(p.name, (
           select t.group_name from (
               (select w.task_id as id from pgqueue.group_waiting w where w.queue_id = @queue_id and w.grp = i.grp limit 1)
               union all
               select unnest(s.holders)
           ) x
           cross join lateral (select t.group_name from pgqueue.task t where t.queue_id = @queue_id and t.id = x.id offset 0) t
           limit 1)),
       s.holders, s.rate_state, p.weight, p.concurrency, p.rate_limit, p.rate_period, p.rate_burst, p.paused_until,
       (select count(*) from (select 1 from pgqueue.group_waiting w where w.queue_id = @queue_id and w.grp = i.grp limit @most) w),
       (select d.task_id from unnest(s.holders) h (id)
        cross join lateral (
            select d.task_id, d.n from pgqueue.done d
            where d.queue_id = @queue_id and d.task_id = h.id and d.status = 5 limit 1
        ) d limit 1)
from i
left join lateral (
    select s.holders, s.rate_state from pgqueue.group_state s
    where s.queue_id = @queue_id and s.grp = i.grp order by s.version desc limit 1
) s on true
left join lateral (
    select p.* from pgqueue.group_policy p where p.queue_id = @queue_id and p.grp = i.grp offset 0
) p on true
order by i.grp

-- name: group.finished
-- The finished tasks among those that keep a place, and those that are gone
with h as materialized (select * from unnest(@ids::bigint[]) h (id))
select h.id from h
where not exists (
    select 1 from pgqueue.task_now n where n.queue_id = @queue_id and n.id = h.id and n.status <= 3 offset 0)

-- name: take.waiting
-- Takes tasks out that wait for their group, for an operator. Their turn is that of a ready row, or in a FIFO queue their id
delete from pgqueue.group_waiting where ctid = any (array(
    select w.at
    from unnest(@queue_id::integer[], @grp::bigint[], @lane::integer[], @turn::bigint[], @task_id::bigint[]) i (queue_id, grp, lane, turn, task_id)
    cross join lateral (
        select w.ctid as at from pgqueue.group_waiting w
        where w.queue_id = i.queue_id and w.grp = i.grp and w.lane = i.lane and w.turn in (i.turn, i.task_id) and w.task_id = i.task_id offset 0
        for update skip locked
    ) w))
returning task_id

-- name: group.audit
-- The next states behind a position. A state without holders is idle when its rate lets a task start
select s.queue_id, s.grp, s.version, s.holders,
       s.grp <> 0 and cardinality(s.holders) = 0 and s.rate_state < extract(epoch from pgqueue.clock())::numeric * 1000000000
from pgqueue.group_state s
where (s.queue_id, s.grp, s.version) > (@queue_id::integer, @grp::bigint, @version::bigint)
order by s.queue_id, s.grp, s.version limit @limit

-- name: group.audit.waiting
-- The next groups behind a position for which tasks wait. One without a task that keeps a place is stuck, or about to go on
with recursive g as (
    (select w.queue_id, w.grp, 1 as n from pgqueue.group_waiting w
     where (w.queue_id, w.grp) > (@queue_id::integer, @grp::bigint) order by w.queue_id, w.grp limit 1)
    union all
    select x.queue_id, x.grp, g.n + 1
    from g
    cross join lateral (
        select w.queue_id, w.grp from pgqueue.group_waiting w
        where (w.queue_id, w.grp) > (g.queue_id, g.grp) order by w.queue_id, w.grp limit 1
    ) x
    where g.n < @limit
)
select g.queue_id, g.grp, not exists (
    select 1 from pgqueue.group_state s where s.queue_id = g.queue_id and s.grp = g.grp and cardinality(s.holders) > 0) as stuck
from g
order by g.queue_id, g.grp

-- name: group.audit.places
-- The tasks among those that keep a place which have ended, or are gone. A failed one keeps it where failures block
with h as materialized (select * from unnest(@queue_id::integer[], @id::bigint[]) h (queue_id, id))
select h.queue_id, h.id from h
left join lateral (select n.status from pgqueue.task_now n where n.queue_id = h.queue_id and n.id = h.id offset 0) n on true
left join lateral (select q."order" = 'fifo' and q.group_on_failure = 'block' as blocks from pgqueue.queue q where q.id = h.queue_id offset 0) q on true
where coalesce(n.status > 3 and not (n.status = 5 and q.blocks), true)
