package postgrestest_test

import (
	"context"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func BenchmarkStore(b *testing.B) { queuetest.BenchStore(b, harness()) }

func BenchmarkService(b *testing.B) {
	queuetest.BenchService(b, queuetest.ServiceHarness{New: func(t testing.TB) queue.Service {
		t.Helper()
		m, err := manager.New(postgrestest.Open(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return m
	}})
}
