-- Wake-ups of other processes. Nothing depends on their arrival.

-- name: notify.send
select pg_notify(@channel, @payload)
