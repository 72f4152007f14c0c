module github.com/pgqueue/pgqueue/domain

go 1.26.0
