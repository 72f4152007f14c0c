module github.com/pgqueue/pgqueue/adapters/postgres/postgrestest

go 1.26.0

require (
	github.com/pgqueue/pgqueue/adapters/embedded v0.1.0
	github.com/pgqueue/pgqueue/adapters/memory v0.1.0
	github.com/pgqueue/pgqueue/adapters/postgres v0.1.0
	github.com/pgqueue/pgqueue/domain v0.1.0
)
