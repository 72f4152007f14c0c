package memory_test

import (
	"testing"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func BenchmarkStore(b *testing.B) { queuetest.BenchStore(b, harness()) }
