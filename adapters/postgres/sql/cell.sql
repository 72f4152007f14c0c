-- Cells: the directory in cell 0, and the identity that each cell has recorded of itself.

-- name: cell.list
select {{cell c}} from pgqueue.cell c order by c.id

-- name: cell.places
select {{placed p}} from pgqueue.place p

-- name: cell.place
-- A namespace that has a place keeps it. The second part sees the row that was there.
with placed as (
    insert into pgqueue.place (namespace, cell) values (@namespace, @cell) on conflict (namespace) do nothing returning cell
)
select cell from placed
union all
select p.cell from pgqueue.place p where p.namespace = @namespace

-- name: cell.move
update pgqueue.place set cell = @to where namespace = @namespace and cell = @from

-- name: cell.insert
insert into pgqueue.cell ({{cell}}) values (@id, @schema, @url, @ddl_url, @home, @state) on conflict (id) do nothing

-- name: cell.update
update pgqueue.cell set schema = @schema, url = @url, ddl_url = @ddl_url, home = @home, state = @state where id = @id

-- name: home.read
select {{home h}} from pgqueue.home h

-- name: home.server
-- Identifies the server of the connection; a standby that takes over has the same. A statement without tables: on Citus they may
-- lie on another server.
select system_identifier::text from pg_control_system()

-- name: home.write
insert into pgqueue.home (cell, server) values (@cell, @server)
on conflict (one) do update set cell = excluded.cell, server = excluded.server

-- name: home.used
-- Whether the schema has given out an id or a token.
select (select is_called from pgqueue.turn) or (select is_called from pgqueue.token)

-- name: home.reset
-- The feed begins by the transaction ids of this server.
update pgqueue.fold set seen = @now::text::pg_snapshot, pruned = pg_snapshot_xmin(@now::text::pg_snapshot)

-- name: home.sequences
-- Ids and tokens of a cell begin behind @first.
select setval('pgqueue.turn', @first::bigint + 1, false), setval('pgqueue.token', @first::bigint + 256, false)

-- name: home.missing
-- The sequences that this server lacks, as a node of Citus does: they exist where they were made.
select array_remove(array[
    case when to_regclass('pgqueue.turn') is null then 'turn' end,
    case when to_regclass('pgqueue.token') is null then 'token' end,
    case when to_regclass('pgqueue.number') is null then 'number' end], null)::text[]

-- name: home.make
select set_config('citus.enable_ddl_propagation', 'off', true);
create sequence if not exists pgqueue.turn as bigint cache 1;
create sequence if not exists pgqueue.token as bigint start 256 increment 256 cache 1;
create sequence if not exists pgqueue.number as integer cache 1;

-- name: home.first
-- The first partition of a cell takes the place of the one that the migration made.
drop table if exists pgqueue.task_p{lower}, pgqueue.done_p{lower};
delete from pgqueue.part where lower = {lower};
