-- Retains with a request id, which can be repeated for a while. Those without one never come here.

-- name: request.claim
-- Locks the row of a request, a new one if need be: a repeat waits for what it repeats. $1 namespace, $2 worker, $3 id
insert into pgqueue.request (namespace, worker, request_id, arguments, expires_at, end_at, ids, tokens, leases)
values ($1, $2, $3, '', pgqueue.clock(), pgqueue.clock(), '{}', '{}', '{}')
on conflict (namespace, worker, request_id) do update set given = request.given
returning arguments, expires_at > pgqueue.clock(), lost >= given and given > 0, ids, tokens, leases

-- name: request.ends
-- When holds end. $1 ids, $2 tokens
select i.id, greatest(l.expires_at, b.expires_at)
from unnest($1::bigint[], $2::bigint[]) i (id, token)
cross join lateral (
    select l.expires_at from pgqueue.lease l where l.token = i.token - i.token % 256 and i.id = any (l.task_ids) offset 0
) l
left join lateral (select b.expires_at from pgqueue.lease_beat b where b.token = i.token offset 0) b on true

-- name: request.given
update pgqueue.request set given = given + 1 where namespace = $1 and worker = $2 and request_id = $3

-- name: request.keep
-- $4 arguments, $5 ns for which it can be repeated, $6 ids, $7 tokens, $8 leases in ns
update pgqueue.request
set arguments = $4, expires_at = pgqueue.clock() + pgqueue.nanos($5), end_at = pgqueue.clock() + pgqueue.nanos($5),
    ids = $6, tokens = $7, leases = $8, given = 1, lost = 0
where namespace = $1 and worker = $2 and request_id = $3

-- name: request.lost
update pgqueue.request set lost = lost + 1 where namespace = $1 and worker = $2 and request_id = $3

-- name: request.any
select exists (select 1 from pgqueue.request r where r.end_at <= (select pgqueue.clock()))

-- name: request.end
-- $1 most
delete from pgqueue.request where ctid = any (array(
    select r.ctid from pgqueue.request r where r.end_at <= (select pgqueue.clock())
    order by r.end_at limit $1 for update skip locked))
returning namespace, lost >= given and given > 0, ids, tokens

-- name: request.end.keys
-- $1 most
select r.namespace, r.worker, r.request_id from pgqueue.request r where r.end_at <= (select pgqueue.clock())
order by r.end_at limit $1

-- name: request.end.one
-- Unless it was used anew meanwhile. $1 namespace, $2 worker, $3 id
delete from pgqueue.request
where namespace = $1 and worker = $2 and request_id = $3 and expires_at <= (select pgqueue.clock())
returning namespace, lost >= given and given > 0, ids, tokens

-- name: request.putoff
-- $1 namespace, $2 worker, $3 id, $4 ns
update pgqueue.request set end_at = pgqueue.clock() + pgqueue.nanos($4)
where namespace = $1 and worker = $2 and request_id = $3 and expires_at <= pgqueue.clock()
