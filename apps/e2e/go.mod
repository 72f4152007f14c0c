module github.com/pgqueue/pgqueue/apps/e2e

go 1.26.0

require (
	github.com/pgqueue/pgqueue/adapters/embedded v0.1.0
	github.com/pgqueue/pgqueue/adapters/memory v0.1.0
	github.com/pgqueue/pgqueue/adapters/postgres v0.1.0
	github.com/pgqueue/pgqueue/adapters/postgres/postgrestest v0.1.0
	github.com/pgqueue/pgqueue/adapters/telemetry v0.1.0
	github.com/pgqueue/pgqueue/apps/cli v0.1.0
	github.com/pgqueue/pgqueue/apps/server v0.1.0
	github.com/pgqueue/pgqueue/apps/worker v0.1.0
	github.com/pgqueue/pgqueue/domain v0.1.0
	github.com/pgqueue/pgqueue/transport/connect v0.1.0
	github.com/pgqueue/pgqueue/transport/rest v0.1.0
)

replace (
	github.com/pgqueue/pgqueue/adapters/embedded => ../../adapters/embedded
	github.com/pgqueue/pgqueue/adapters/memory => ../../adapters/memory
	github.com/pgqueue/pgqueue/adapters/postgres => ../../adapters/postgres
	github.com/pgqueue/pgqueue/adapters/postgres/postgrestest => ../../adapters/postgres/postgrestest
	github.com/pgqueue/pgqueue/adapters/telemetry => ../../adapters/telemetry
	github.com/pgqueue/pgqueue/apps/cli => ../cli
	github.com/pgqueue/pgqueue/apps/server => ../server
	github.com/pgqueue/pgqueue/apps/worker => ../worker
	github.com/pgqueue/pgqueue/domain => ../../domain
	github.com/pgqueue/pgqueue/transport/connect => ../../transport/connect
	github.com/pgqueue/pgqueue/transport/rest => ../../transport/rest
)
