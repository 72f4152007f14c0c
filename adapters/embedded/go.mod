module github.com/pgqueue/pgqueue/adapters/embedded

go 1.26.0
