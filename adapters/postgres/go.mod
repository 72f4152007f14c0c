module github.com/pgqueue/pgqueue/adapters/postgres

go 1.26.0
