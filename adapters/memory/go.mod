module github.com/pgqueue/pgqueue/adapters/memory

go 1.26.0
