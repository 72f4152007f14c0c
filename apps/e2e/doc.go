// Package e2e holds the tests that need more than one module: every stack over PostgreSQL, the real binaries, and the
// rules for imports between modules. It has no releases.
package e2e
