// Package wire tests the whole shipped server over PostgreSQL and every protocol.
package wire
