module github.com/pgqueue/pgqueue/adapters/sqltx

go 1.26.0

require github.com/pgqueue/pgqueue/domain v0.1.0

replace github.com/pgqueue/pgqueue/domain => ../../domain
