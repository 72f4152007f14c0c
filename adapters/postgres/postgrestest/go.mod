module github.com/pgqueue/pgqueue/adapters/postgres/postgrestest

go 1.26.0
