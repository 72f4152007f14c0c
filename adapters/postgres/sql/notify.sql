-- Hints to other processes. Nothing depends on their arrival.

-- name: notify.send
-- $1 channel, $2 payload
select pg_notify($1, $2)
