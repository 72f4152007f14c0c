package memory_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestModel makes 120,000 random operations, clock jumps among them; with -short a tenth of that, and as many as
// PGQUEUE_TEST_MODEL says (make test-model).
func TestModel(t *testing.T) {
	t.Parallel()
	runs := uint64(40)
	if testing.Short() {
		runs = 4
	}
	if n, err := strconv.ParseUint(os.Getenv("PGQUEUE_TEST_MODEL"), 10, 64); err == nil {
		runs = (n + 2_999) / 3_000
	}
	for seed := range runs {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { queuetest.Model(t, harness(), 3_000, seed) })
	}
}

// TestModelShrinks draws the same operations from rapid, so that a failure comes with the shortest run that shows it.
func TestModelShrinks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := queuetest.NewModelRun(t, harness(), draws{rt})
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			if err := m.Step(); err != nil {
				rt.Fatalf("%v\nlast operations:\n%s", err, m.Log())
			}
		}
		if err := m.Check(); err != nil {
			rt.Fatalf("%v\nlast operations:\n%s", err, m.Log())
		}
	})
}

// draws makes rapid's draws the choices of a model run.
type draws struct{ t *rapid.T }

func (d draws) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "choice") }
