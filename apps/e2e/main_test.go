package e2e_test

import (
	"os"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestMain(m *testing.M) {
	queuetest.DefaultSignals()
	os.Exit(queuetest.VerifyGoroutines(func() int { return postgrestest.Main(m) }))
}
