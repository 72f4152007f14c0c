package connectclient_test

import (
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// BenchmarkService measures client → server → manager → memory on real connections, by unary calls.
func BenchmarkService(b *testing.B) {
	queuetest.BenchService(b, queuetest.ServiceHarness{New: func(t testing.TB) queue.Service {
		t.Helper()
		return serve(t).client(t)
	}})
}
