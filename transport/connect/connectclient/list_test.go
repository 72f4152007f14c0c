package connectclient_test

import (
	"context"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// capped ends its counts.
type capped struct{ queue.Service }

func (capped) ListTasks(context.Context, queue.TaskQuery) (queue.TaskPage, error) {
	return queue.TaskPage{Count: 2000, AtLeast: true, Next: "x"}, nil
}

func (c capped) In(string) (queue.Service, error) { return c, nil }

func TestAListSaysThatThereMayBeMoreThanItCounted(t *testing.T) {
	for _, p := range protocols {
		s := &stack{svc: capped{}}
		s.start(t, "127.0.0.1:0")
		page, err := s.client(t, connectclient.WithProtocol(p)).ListTasks(t.Context(), queue.TaskQuery{})
		if err != nil || page.Count != 2000 || !page.AtLeast || page.Next != "x" {
			t.Errorf("%s: %+v, %v", p, page, err)
		}
	}
}
