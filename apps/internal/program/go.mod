module github.com/pgqueue/pgqueue/apps/internal/program

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/pgqueue/pgqueue/adapters/postgres v0.1.0
	github.com/pgqueue/pgqueue/adapters/telemetry v0.1.0
	github.com/pgqueue/pgqueue/domain v0.1.0
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.10
	go.yaml.in/yaml/v3 v3.0.6
	golang.org/x/term v0.47.0
)

require (
	buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go v1.36.12-20260825204119-511051f7f437.2 // indirect
	connectrpc.com/connect/v2 v2.0.2 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
)

require (
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/pgqueue/pgqueue/adapters/cells v0.1.0
	github.com/pgqueue/pgqueue/transport/connect v0.1.0
	github.com/pgqueue/pgqueue/transport/httpaccess v0.1.0
	github.com/pgqueue/pgqueue/transport/rest v0.1.0
	github.com/prometheus/client_golang v1.25.0 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	go.opentelemetry.io/otel/trace v1.47.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace (
	github.com/pgqueue/pgqueue/adapters/cells => ../../../adapters/cells
	github.com/pgqueue/pgqueue/adapters/memory => ../../../adapters/memory
	github.com/pgqueue/pgqueue/adapters/postgres => ../../../adapters/postgres
	github.com/pgqueue/pgqueue/adapters/telemetry => ../../../adapters/telemetry
	github.com/pgqueue/pgqueue/domain => ../../../domain
	github.com/pgqueue/pgqueue/transport/connect => ../../../transport/connect
	github.com/pgqueue/pgqueue/transport/httpaccess => ../../../transport/httpaccess
	github.com/pgqueue/pgqueue/transport/rest => ../../../transport/rest
)
