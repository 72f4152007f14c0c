module github.com/pgqueue/pgqueue/adapters/telemetry

go 1.26.0
