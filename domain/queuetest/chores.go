package queuetest

import (
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Chores does all background work of a store that is due now, step by step until none is left. With chores it does only
// the named kinds.
func Chores(t testing.TB, s queue.Store, chores ...queue.Chore) {
	t.Helper()
	if len(chores) == 0 {
		chores = queue.Chores()
	}
	for _, c := range chores {
		for more := true; more; {
			m, err := s.Maintain(t.Context(), c)
			if err != nil {
				t.Fatalf("%s: %v", c, err)
			}
			more = m.More
		}
	}
}
