package postgrestest_test

import (
	"os"
	"testing"
)

// fullEnv asks for the long form of the tests that have one; make test-full sets it.
const fullEnv = "PGQUEUE_TEST_FULL"

// sized is long in the long form and short in the other, and says which.
func sized[T any](t *testing.T, short, long T) T {
	t.Helper()
	if os.Getenv(fullEnv) != "" {
		return long
	}
	t.Logf("the short form, %v instead of %v: %s=1 asks for the long one", short, long, fullEnv)
	return short
}
