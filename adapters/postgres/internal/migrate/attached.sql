-- The ranges for which both task and done have a partition, as a common table expression of the statements in restore.sql.
attached as (
    select lower, upper from (
        select (bound)[1]::bigint as lower, (bound)[2]::bigint as upper
        from (
            select regexp_match(pg_get_expr(c.relpartbound, c.oid), '[(]''?([0-9]+)''?[)] TO [(]''?([0-9]+)''?[)]') as bound
            from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent in ('pgqueue.task'::regclass, 'pgqueue.done'::regclass)
        ) bounds
        where bound is not null
    ) each_of_both
    group by lower, upper having count(*) = 2
)
