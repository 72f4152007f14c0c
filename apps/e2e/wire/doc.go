// Package wire has the tests of the whole server, as it ships, over PostgreSQL and every wire.
package wire
