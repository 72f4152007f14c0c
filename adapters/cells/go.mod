module github.com/pgqueue/pgqueue/adapters/cells

go 1.26.0

require (
	github.com/pgqueue/pgqueue/adapters/memory v0.1.0
	github.com/pgqueue/pgqueue/domain v0.1.0
)

replace (
	github.com/pgqueue/pgqueue/adapters/memory => ../memory
	github.com/pgqueue/pgqueue/domain => ../../domain
)
