// Package e2e holds the tests that need more than one module: every stack over PostgreSQL, the real binaries, and the
// rules about who may import whom. It is never released.
package e2e
