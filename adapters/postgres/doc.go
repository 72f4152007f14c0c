// Package postgres is the queue's Store on PostgreSQL, through pgx. It is the only home of SQL.
package postgres
