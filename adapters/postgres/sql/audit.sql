-- The audit: append-only. No statement changes an entry.

-- name: audit.insert
-- The table sets id and at
insert into pgqueue.audit ({{audit}})
values (@principal_id, @principal_name, @principal_kind, @issuer, @subject, @request_id, @via, @remote, @reason, @action, @operation,
        @namespace, @queue, @ticker, @task, @token, @filter, @ids, @dry_run, @outcome, @calls, @matched, @moved, @changes)

-- name: audit.list
-- @since, @until and @before are null without a bound; @before and @before_id are the last entry of the page before. The entries
-- take at most @bytes, unless the first alone takes more. Each row has the number of entries up to @limit, with those that had
-- no room
select {{stored_audit a}}, a.found
from (
  select s.*, sum(octet_length(s.entry::text)) over newest as bytes, row_number() over newest as place, count(*) over () as found
  from (
    select a.*, a as entry
    from pgqueue.audit a
    where a.at >= coalesce(@since, '-infinity'::timestamptz) and a.at < coalesce(@until, 'infinity'::timestamptz)
      and (a.at, a.id) < (coalesce(@before, 'infinity'::timestamptz), @before_id::bigint)
      and (@principal::text = '' or a.principal_id = @principal) and (@action::text = '' or a.action = @action)
      and (@namespace::text = '' or a.namespace = @namespace) and (@queue::text = '' or a.queue = @queue)
      and (@outcome::text = '' or a.outcome = @outcome)
    order by a.at desc, a.id desc
    limit @limit
  ) s
  window newest as (order by s.at desc, s.id desc rows unbounded preceding)
) a
where a.bytes <= @bytes or a.place = 1
order by a.at desc, a.id desc

-- name: audit.prune
-- @age ns. Returns the number of removed entries
select pgqueue.prune_audit(@age, @limit)
