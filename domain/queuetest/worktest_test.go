package queuetest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// line is the smallest service that the helpers need: one queue in the order of creation.
type line struct{ tasks []*queue.Task }

func (l *line) add(name string, payload string) {
	l.tasks = append(l.tasks, &queue.Task{
		ID: int64(len(l.tasks) + 1), Queue: name, Payload: []byte(payload), Status: queue.StatusNew,
	})
}

func (l *line) ListTasks(_ context.Context, q queue.TaskQuery) (p queue.TaskPage, _ error) {
	for _, t := range slices.Backward(l.tasks) {
		if t.Queue == q.Queue || q.Queue == "" {
			p.Tasks = append(p.Tasks, t)
		}
	}
	if q.Cursor == "" && len(p.Tasks) > 2 { // two pages
		p.Tasks, p.Next = p.Tasks[:2], "more"
	} else if q.Cursor != "" {
		p.Tasks = p.Tasks[2:]
	}
	return p, nil
}

func (l *line) RetainTasks(context.Context, queue.RetainRequest) ([]*queue.Task, error) {
	for _, t := range l.tasks {
		if t.Status == queue.StatusNew {
			t.Status, t.Lease = queue.StatusRetained, &queue.Lease{Token: 5}
			return []*queue.Task{t}, nil
		}
	}
	return nil, nil
}

func (l *line) HeartbeatTasks(context.Context, []queue.Heartbeat) ([]queue.Beat, error) {
	return nil, errors.ErrUnsupported
}

func (l *line) ReleaseTasks(_ context.Context, rs []queue.Release) ([]queue.Released, error) {
	t := l.tasks[rs[0].ID-1]
	if rs[0].Token != 5 {
		return []queue.Released{{Err: queue.ErrLeaseLost}}, nil
	}
	t.Status, t.Result = queue.StatusReleased, rs[0].Result
	if rs[0].Outcome != queue.OutcomeSuccess {
		t.Status = queue.StatusRetry
	}
	return []queue.Released{{Task: t}}, nil
}

func TestWorkHelpers(t *testing.T) {
	type mail struct{ To string }
	send := worker.Typed(func(_ context.Context, m mail) (int, error) {
		if m.To == "" {
			return 0, worker.Permanent(errors.New("no address"))
		}
		return len(m.To), nil
	})

	t.Run("a handler is run on a fake task and its outcome looked at", func(t *testing.T) {
		if n := queuetest.RequireResult[int](t, queuetest.RunHandler(t, send, mail{"a@b.c"})); n != 5 {
			t.Errorf("got %d", n)
		}
		queuetest.RequireOutcome(t, queuetest.RunHandler(t, send, nil), queue.OutcomePermanent)
		rel := queuetest.RunHandler(t, worker.HandlerFunc(func(_ context.Context, task *queue.Task) (any, error) {
			return task.Attempt, nil
		}), nil, func(task *queue.Task) { task.Attempt = 3 })
		if n := queuetest.RequireResult[int](t, rel); n != 3 {
			t.Errorf("attempt %d", n)
		}
	})

	t.Run("a queue is worked until it is empty, and what was created is found", func(t *testing.T) {
		l := &line{}
		l.add("mail", `{"to":"a@b.c"}`)
		l.add("mail", `{}`)
		worked := queuetest.Drain(t, l, map[string]worker.Handler{
			"mail": worker.Typed(func(ctx context.Context, m mail) (any, error) {
				if m.To == "" {
					return nil, errors.New("no address")
				}
				l.add("audit", `{"n": 1.0, "sent":"`+m.To+`"}`)
				return nil, nil
			}),
			"audit": worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) { return "noted", nil }),
		})
		if len(worked) != 3 || worked[1].Status != queue.StatusRetry || string(worked[2].Result) != `"noted"` {
			t.Errorf("worked %+v", worked)
		}
		task := queuetest.RequireCreated(t, l, "audit", []byte(`{"sent":"a@b.c","n":1.0}`))
		queuetest.RequireNotCreated(t, l, "audit", mail{"a@b.c"})
		if all := queuetest.Created(t, l, ""); len(all) != 3 || all[2] != task || all[0].ID != 1 {
			t.Errorf("created %+v", all)
		}
	})
}
