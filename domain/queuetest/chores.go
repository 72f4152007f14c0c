package queuetest

import (
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Chores does all background work of a store that is due now: of each chore, or of those named, step by step until
// nothing more is to be done.
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
