package rest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// capped ends its counts.
type capped struct{ queue.Service }

func (capped) ListTasks(context.Context, queue.TaskQuery) (queue.TaskPage, error) {
	return queue.TaskPage{Tasks: []*queue.Task{}, Count: 2000, AtLeast: true, Next: "x"}, nil
}

func (c capped) In(string) (queue.Service, error) { return c, nil }

func TestAListSaysThatThereMayBeMoreThanItCounted(t *testing.T) {
	s := serve(t, capped{newManager(t)})
	if a := s.do(200, "GET", "/api/task?worker=w", ""); !strings.HasPrefix(a.body, `{"count":2000,"at_least":true,"body":[],"next":"x"}`) {
		t.Error(a.body)
	}
	page, err := s.client.ListTasks(t.Context(), queue.TaskQuery{})
	if err != nil || page.Count != 2000 || !page.AtLeast || page.Next != "x" {
		t.Errorf("%+v, %v", page, err)
	}
}
