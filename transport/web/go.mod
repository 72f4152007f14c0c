module github.com/pgqueue/pgqueue/transport/web

go 1.26.0
