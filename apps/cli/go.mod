module github.com/pgqueue/pgqueue/apps/cli

go 1.26.0
