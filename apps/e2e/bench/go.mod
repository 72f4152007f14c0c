module github.com/pgqueue/pgqueue/apps/e2e/bench

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/pgqueue/pgqueue/adapters/postgres v0.1.0
	github.com/pgqueue/pgqueue/domain v0.1.0
	github.com/pgqueue/pgqueue/transport/connect v0.1.0
	github.com/pgqueue/pgqueue/transport/rest v0.1.0
	github.com/riverqueue/river v0.51.1
	github.com/riverqueue/river/riverdriver/riverpgxv5 v0.51.1
	github.com/wcharczuk/go-chart/v2 v2.1.2
)

require (
	github.com/fergusstrange/embedded-postgres v1.34.0 // indirect
	github.com/lib/pq v1.10.9 // indirect
	github.com/xi2/xz v0.0.0-20171230120015-48954b6210f8 // indirect
)

require (
	buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go v1.36.12-20260825204119-511051f7f437.2 // indirect
	connectrpc.com/connect/v2 v2.0.2 // indirect
	github.com/golang/freetype v0.0.0-20170609003504-e2365dfdc4a0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/pgqueue/pgqueue/adapters/embedded v0.1.0
	github.com/riverqueue/river/riverdriver v0.51.1 // indirect
	github.com/riverqueue/river/rivershared v0.51.1 // indirect
	github.com/riverqueue/river/rivertype v0.51.1 // indirect
	github.com/tidwall/gjson v1.20.0 // indirect
	github.com/tidwall/match v1.2.0 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
	github.com/tidwall/sjson v1.2.5 // indirect
	golang.org/x/image v0.18.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace (
	github.com/pgqueue/pgqueue/adapters/embedded => ../../../adapters/embedded
	github.com/pgqueue/pgqueue/adapters/memory => ../../../adapters/memory
	github.com/pgqueue/pgqueue/adapters/postgres => ../../../adapters/postgres
	github.com/pgqueue/pgqueue/domain => ../../../domain
	github.com/pgqueue/pgqueue/transport/connect => ../../../transport/connect
	github.com/pgqueue/pgqueue/transport/rest => ../../../transport/rest
)
