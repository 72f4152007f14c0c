package rest_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

func TestLargeAnswers(t *testing.T) {
	queuetest.TestLargeAnswers(t, func(t *testing.T, b *queue.Budget) queue.Service {
		return serve(t, newManager(t), func(c *restserver.Config) { c.Large = b }).client
	})
}

func TestLargeBodies(t *testing.T) {
	queuetest.TestLargeBodies(t, func(t *testing.T, b *queue.Budget) queue.Service {
		return serve(t, newManager(t), func(c *restserver.Config) { c.Bodies = b }).client
	})
}

// TestStatsStreamsTakeBytes: a stream of statistics waits for the bytes of its first event, and gives them back behind it.
func TestStatsStreamsTakeBytes(t *testing.T) {
	const most = 1 << 20
	b := queue.NewBudget(most)
	s := serve(t, newManager(t), func(c *restserver.Config) { c.Large = b })
	for i := range 100 { // as many rows are large
		if _, err := s.client.CreateQueue(t.Context(), queue.QueueMeta{Name: fmt.Sprintf("q%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	give, err := b.Take(t.Context(), most)
	if err != nil {
		t.Fatal(err)
	}

	event := make(chan string, 1)
	var req *http.Request
	if req, err = http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/stats", http.NoBody); err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			event <- err.Error()
			return
		}
		defer res.Body.Close()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "event: ") {
				event <- lines.Text()
				<-t.Context().Done()
				return
			}
		}
		event <- res.Status
	}()

	over, cancel := context.WithCancel(t.Context())
	cancel()
	for { // until no other answer may wait beside this one
		if _, err := b.TakeRead(over, most); queue.KindOf(err) == queue.KindUnavailable {
			break
		}
		select {
		case got := <-event:
			t.Fatalf("it was sent beside the budget: %s", got)
		case <-time.After(time.Millisecond):
		}
	}
	give()
	if got := <-event; got != "event: stats" {
		t.Fatal(got)
	}
	all, err := b.Take(t.Context(), most)
	if err != nil {
		t.Fatalf("the open stream keeps its bytes: %v", err)
	}
	all()
}
