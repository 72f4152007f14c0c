module github.com/pgqueue/pgqueue/transport/connect

go 1.26.0
