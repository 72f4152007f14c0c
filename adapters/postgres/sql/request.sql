-- Retains with a request id can be repeated for a while. Retains without one run none of these statements.

-- name: request.claim
-- Locks the row of a request and makes it if need be. A repeat waits for the call that it repeats
with claimed as (
    insert into pgqueue.request as r (namespace, worker, request_id, arguments, expires_at, end_at, ids, tokens, leases)
    values (@namespace, @worker, @request_id, '', pgqueue.clock(), pgqueue.clock(), '{}', '{}', '{}')
    on conflict (namespace, worker, request_id) do update set given = r.given
    returning *
)
select {{request r}}, r.expires_at > pgqueue.clock(), r.lost >= r.given and r.given > 0 from claimed r

-- name: request.ends
-- The ends of leases
select i.id, greatest(l.expires_at, b.expires_at)
from unnest(@id::bigint[], @token::bigint[]) i (id, token)
cross join lateral (
    select l.expires_at from pgqueue.lease l where l.token = i.token - i.token % 256 and i.id = any (l.task_ids) offset 0
) l
left join lateral (select b.expires_at from pgqueue.lease_beat b where b.token = i.token offset 0) b on true

-- name: request.given
update pgqueue.request set given = given + 1 where namespace = @namespace and worker = @worker and request_id = @request_id

-- name: request.keep
-- @duration: ns in which the request can be repeated. @leases: ns
update pgqueue.request
set arguments = @arguments, expires_at = pgqueue.clock() + pgqueue.nanos(@duration), end_at = pgqueue.clock() + pgqueue.nanos(@duration),
    ids = @ids, tokens = @tokens, leases = @leases, given = 1, lost = 0
where namespace = @namespace and worker = @worker and request_id = @request_id

-- name: request.lost
update pgqueue.request set lost = lost + 1 where namespace = @namespace and worker = @worker and request_id = @request_id

-- name: request.any
select exists (select 1 from pgqueue.request r where r.end_at <= (select pgqueue.clock()))

-- name: request.end
delete from pgqueue.request where ctid = any (array(
    select r.ctid from pgqueue.request r where r.end_at <= (select pgqueue.clock())
    order by r.end_at limit @limit for update skip locked))
returning {{request}}, lost >= given and given > 0

-- name: request.end.keys
select {{request_key r}} from pgqueue.request r where r.end_at <= (select pgqueue.clock())
order by r.end_at limit @limit

-- name: request.end.one
-- Ends one request, unless a later retain has used its id
delete from pgqueue.request
where namespace = @namespace and worker = @worker and request_id = @request_id and expires_at <= (select pgqueue.clock())
returning {{request}}, lost >= given and given > 0

-- name: request.putoff
-- Postpones the end of a request that cannot be ended by @delay ns
update pgqueue.request set end_at = pgqueue.clock() + pgqueue.nanos(@delay)
where namespace = @namespace and worker = @worker and request_id = @request_id and expires_at <= pgqueue.clock()
