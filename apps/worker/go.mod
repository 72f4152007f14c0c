module github.com/pgqueue/pgqueue/apps/worker

go 1.26.0
