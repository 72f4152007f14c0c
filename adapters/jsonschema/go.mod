module github.com/pgqueue/pgqueue/adapters/jsonschema

go 1.26.0

require (
	github.com/pgqueue/pgqueue/domain v0.1.0
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	go.uber.org/goleak v1.3.0
	golang.org/x/text v0.43.0
)

require github.com/google/jsonschema-go v0.4.3

replace github.com/pgqueue/pgqueue/domain => ../../domain
