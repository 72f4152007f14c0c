module github.com/pgqueue/pgqueue/apps/e2e

go 1.26.0
