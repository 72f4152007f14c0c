// Package postgrestest gives tests a PostgreSQL database of their own, and holds the tests of package postgres that
// need one. It is a module of its own so that package postgres requires nothing that only its tests use.
package postgrestest
