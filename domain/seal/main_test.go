package seal_test

import (
	"os"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestMain(m *testing.M) { os.Exit(queuetest.VerifyGoroutines(m.Run)) }
