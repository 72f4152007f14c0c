package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestBodyClaim: small bodies are free, a body of unknown length takes few times, and no claim keeps others longer than its
// own wait.
func TestBodyClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		b := queue.NewBodyBudget(most)
		var a, c queue.BodyClaim
		if n := testing.AllocsPerRun(100, func() { _ = a.Cover(t.Context(), b, queue.SmallAnswerBytes) }); n != 0 {
			t.Errorf("a small body costs %v allocations", n)
		}
		for n := range 64 {
			if err := a.Cover(t.Context(), b, (n+1)*queue.SmallAnswerBytes/4*3); err != nil {
				t.Fatalf("%d parts: %v", n, err)
			}
		}

		// a has all of it, and the body that comes later gives up.
		began := time.Now()
		err := c.Cover(t.Context(), b, 2*queue.SmallAnswerBytes)
		if queue.KindOf(err) != queue.KindUnavailable || time.Since(began) != queue.BudgetTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		a.Return()
		if err := c.Cover(t.Context(), b, 5*most); err != nil {
			t.Errorf("a body above the budget: %v", err)
		}
		c.Return()
		if err := a.Cover(t.Context(), b, most); err != nil {
			t.Error(err)
		}
	})
}
