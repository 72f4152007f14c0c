-- A trigger creates a task for each order: psql "$DATABASE_URL" -f orders.sql. The queue must exist: pgqueue create-queue psql-mail
\set ON_ERROR_STOP 1
\set QUIET 1
begin;
create schema psql_example;
create table psql_example.orders (id bigint primary key, email text not null);

create function psql_example.order_created() returns trigger language plpgsql as $$
begin
    perform pgqueue.create_task('psql-mail', json_build_object('order', new.id, 'to', new.email), key => 'psql-order-' || new.id);
    return null;
end $$;
create trigger order_created after insert on psql_example.orders for each row execute function psql_example.order_created();
commit;

-- The task is there when the order is there, and only then.
begin;
insert into psql_example.orders values (16, 'bob@example.org');
rollback;
insert into psql_example.orders values (17, 'ann@example.org');
select id, status, key from pgqueue.tasks where queue = 'psql-mail';
