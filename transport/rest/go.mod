module github.com/pgqueue/pgqueue/transport/rest

go 1.26.0

require (
	github.com/danielgtaylor/huma/v2 v2.37.2
	github.com/klauspost/compress v1.20.3
	github.com/pgqueue/pgqueue/domain v0.1.0
	github.com/swaggest/swgui v1.8.5
)

require (
	github.com/pgqueue/pgqueue/adapters/memory v0.1.0
	go.uber.org/goleak v1.3.0
)

replace (
	github.com/pgqueue/pgqueue/adapters/memory => ../../adapters/memory
	github.com/pgqueue/pgqueue/domain => ../../domain
)
