module github.com/pgqueue/pgqueue/transport/rest

go 1.26.0
