-- Tokens of access. The digest finds a token; its secret is stored nowhere.

-- name: token.by_digest
select {{token t}}, pgqueue.clock() from pgqueue.access_token t where t.digest = @digest

-- name: token.by_id
select {{token t}}, pgqueue.clock() from pgqueue.access_token t where t.id = @id

-- name: token.list
-- The live tokens, and the newest @ended of the others
select {{token t}}, pgqueue.clock() from pgqueue.access_token t
where t.revoked_at is null and (t.expires_at is null or t.expires_at > pgqueue.clock())
   or t.id in (
    select o.id from pgqueue.access_token o
    where o.revoked_at is not null or o.expires_at <= pgqueue.clock()
    order by o.created_at desc, o.id limit @ended)
order by t.created_at desc, t.id

-- name: token.digests
select t.digest from pgqueue.access_token t
where t.revoked_at is null and (t.expires_at is null or t.expires_at > pgqueue.clock())

-- name: token.has
select exists (select from pgqueue.access_token)

-- name: token.lock
-- The same as token.by_id, and locks the row, so that of two rotations at once one comes first
select {{token t}}, pgqueue.clock() from pgqueue.access_token t where t.id = @id for update

-- name: token.lockAll
-- Of all creates one counts and inserts at a time
select pg_advisory_xact_lock('pgqueue.access_token'::regclass::oid::integer, 0)

-- name: token.live
select count(*) from pgqueue.access_token t
where t.revoked_at is null and (t.expires_at is null or t.expires_at > pgqueue.clock())

-- name: token.end
-- Makes a token expire after @overlap ns, or at its own end when that is sooner
update pgqueue.access_token t
set expires_at = least(t.expires_at, pgqueue.clock() + pgqueue.nanos(@overlap))
where t.id = @id

-- name: token.insert
-- @life ns; 0 for a token that does not expire
insert into pgqueue.access_token as t (id, digest, name, grants, created_by, created_at, expires_at, replaces)
select @id, @digest, @name, @grants, @created_by, c.now, case when @life::bigint > 0 then c.now + pgqueue.nanos(@life) end, @replaces
from (select pgqueue.clock() as now offset 0) c
on conflict do nothing
returning {{token t}}, t.created_at

-- name: token.revoke
with revoked as (
    update pgqueue.access_token t
    set revoked_at = case when t.revoked_at is null and (t.expires_at is null or t.expires_at > c.now) then c.now else t.revoked_at end
    from (select pgqueue.clock() as now offset 0) c
    where t.id = @id
    returning t.*
)
select {{token t}}, pgqueue.clock() from revoked t

-- name: token.touch
update pgqueue.access_token t set used_at = pgqueue.clock() where t.id = @id
