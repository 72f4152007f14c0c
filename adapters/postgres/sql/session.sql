-- Sessions of the dashboard and the codes that open them. Each read joins the token that opened the session, because the
-- session ends with it.

-- name: session.by_digest
select {{session s}}, t.id is not null, t.expires_at, t.revoked_at, pgqueue.clock()
from pgqueue.session s
left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'
where s.digest = @digest and not s.is_code

-- name: session.by_id
select {{session s}}, t.id is not null, t.expires_at, t.revoked_at, pgqueue.clock()
from pgqueue.session s
left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'
where s.id = @id and not s.is_code

-- name: session.list
select {{session s}}, t.id is not null, t.expires_at, t.revoked_at, pgqueue.clock()
from pgqueue.session s
left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'
where not s.is_code and {{live_session s}}
order by s.created_at desc, s.id

-- name: session.digests
-- Those of sessions and of codes, at most @limit
select s.digest from pgqueue.session s
left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'
where {{live_session s}}
order by s.created_at desc limit @limit

-- name: session.lock
-- Of the creates for one principal one counts and inserts at a time
select pg_advisory_xact_lock('pgqueue.session'::regclass::oid::integer, hashtext(@kind || ' ' || @principal_id))

-- name: session.live
select count(*) from pgqueue.session s
left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'
where s.principal_id = @principal_id and s.kind = @kind and {{live_session s}}

-- name: session.insert
-- @life and @within ns; @within 0 for a credential without an end
with made as (
    insert into pgqueue.session as s (id, digest, is_code, principal_id, kind, name, grants, basis, issuer, subject, created_at, expires_at, ends_at, idle, used_at)
    select @id, @digest, @is_code, @principal_id, @kind, @name, @grants, @basis, @issuer, @subject, c.now, c.now + pgqueue.nanos(@life),
           case when @within::bigint > 0 then c.now + pgqueue.nanos(@within) end, @idle, c.now
    from (select pgqueue.clock() as now offset 0) c
    on conflict do nothing
    returning s.*
)
select {{session s}}, t.id is not null, t.expires_at, t.revoked_at, s.created_at
from made s
left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'

-- name: session.redeem
-- The digest of the code is gone afterwards, so a second use finds nothing
with made as (
    update pgqueue.session s
    set id = @id, digest = @digest, is_code = false, created_at = c.now, expires_at = c.end_at, idle = @idle, used_at = c.now
    from (select n.now, n.now + pgqueue.nanos(@life) as end_at from (select pgqueue.clock() as now offset 0) n) c
    where s.id in (
        select s.id from pgqueue.session s
        left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'
        where s.digest = @code and s.is_code and {{live_session s}}
        for update of s)
    returning s.*
)
select {{session s}}, t.id is not null, t.expires_at, t.revoked_at, s.created_at
from made s
left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'

-- name: session.end
with done as (
    update pgqueue.session s set ended_at = coalesce(s.ended_at, c.now)
    from (select pgqueue.clock() as now offset 0) c
    where s.id = @id and not s.is_code
    returning s.*
)
select {{session s}}, t.id is not null, t.expires_at, t.revoked_at, pgqueue.clock()
from done s
left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'

-- name: session.touch
-- A use does not revive an ended session
update pgqueue.session s set used_at = pgqueue.clock()
where s.id in (
    select s.id from pgqueue.session s
    left join pgqueue.access_token t on t.id = s.principal_id and s.kind = 'token'
    where s.id = @id and {{live_session s}}
    for update of s)

-- name: session.prune
-- @age ns since the end. A locked session is in use
with old as (
    select s.id from pgqueue.session s
    where least(s.ended_at, s.expires_at, s.ends_at, s.used_at + pgqueue.nanos(s.idle)) <= pgqueue.clock() - pgqueue.nanos(@age)
    limit @limit
    for update skip locked
)
delete from pgqueue.session s using old where s.id = old.id
returning 1
