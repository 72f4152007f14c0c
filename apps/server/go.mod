module github.com/pgqueue/pgqueue/apps/server

go 1.26.0
