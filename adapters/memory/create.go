package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateTasks creates tasks, or answers with those that are there under their keys.
func (s *Store) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.createBatch(c, now)
}

// createBatch is CreateTasks under the mutex.
func (s *Store) createBatch(c queue.Create, now time.Time) ([]queue.Created, error) {
	sp := s.findNamespace(c.Namespace)
	out := make([]queue.Created, len(c.Tasks))
	if c.Atomic {
		if err := sp.checkCreates(s, c, now); err != nil {
			return nil, err
		}
	}

	contents, made := contentBytes{}, map[int64]bool{}
	for i, t := range c.Tasks {
		out[i] = s.createTask(sp, t, c.Unlimited, now)
		switch task := out[i].Task; {
		case task == nil:
		case !task.Replayed:
			made[task.ID] = true
		case !made[task.ID]: // the call has not brought the content itself
			out[i].Task = contents.boundContent(t.Call, task)
		}
	}

	return out, nil
}

func (s *Store) createTask(sp *namespaceState, t queue.NewTask, unlimited bool, now time.Time) queue.Created {
	l := sp.queues[t.Queue]
	if l == nil {
		return queue.Created{Err: queue.NotFoundQueue(t.Queue)}
	}

	if err := l.queue.CheckNewTask(&t); err != nil {
		return queue.Created{Err: err}
	}

	if r := s.findTaskByKey(l, t.Key, now); r != nil {
		if !equalJSON(r.task.Payload, t.Payload) {
			return queue.Created{Err: errKeyReused(t)}
		}
		v := r.copyTask()
		v.Replayed = true
		return queue.Created{Task: v}
	}

	if err := l.checkWaiting(1); err != nil && !unlimited {
		return queue.Created{Err: err}
	}
	return queue.Created{Task: s.insertTask(l, t, now).copyTask()}
}

// checkWaiting refuses more new tasks than may wait.
func (l *queueState) checkWaiting(more int) error {
	return l.queue.CheckWaiting(l.counts[queue.StatusNew]+l.counts[queue.StatusRetry], more)
}

// checkCreates checks that every one of tasks can be created beside the others.
func (sp *namespaceState) checkCreates(s *Store, c queue.Create, now time.Time) error {
	type slot struct{ queue, key string }
	payloads, made := map[slot]json.RawMessage{}, map[string]int{}
	for i, t := range c.Tasks {
		place := fmt.Sprintf("tasks[%d]", i)
		l := sp.queues[t.Queue]
		if l == nil {
			return queue.At(place, queue.NotFoundQueue(t.Queue))
		}
		if err := l.queue.CheckNewTask(&t); err != nil {
			return queue.At(place, err)
		}
		if made[t.Queue]++; !c.Unlimited {
			if err := l.checkWaiting(made[t.Queue]); err != nil {
				return queue.At(place, err)
			}
		}
		if t.Key == "" {
			continue
		}
		there, ok := payloads[slot{t.Queue, t.Key}]
		if r := s.findTaskByKey(l, t.Key, now); r != nil {
			there, ok = r.task.Payload, true
		}
		if ok && !equalJSON(there, t.Payload) {
			return queue.At(place, errKeyReused(t))
		}
		payloads[slot{t.Queue, t.Key}] = t.Payload
	}

	return nil
}

// findTaskByKey returns the task of l that has key. One past its retention has lost it.
func (s *Store) findTaskByKey(l *queueState, key string, now time.Time) *record {
	if key == "" {
		return nil
	}
	r := l.keys[key]
	if r != nil && l.isPastRetention(r, now) {
		s.removeTask(r)
		return nil
	}
	return r
}

func errKeyReused(t queue.NewTask) error {
	return &queue.Error{
		Kind: queue.KindKeyReused, Subject: "queue " + t.Queue, Field: "key",
		Msg: fmt.Sprintf("%.64q belongs to a task with another payload; use a new key", t.Key),
	}
}

// equalJSON says that a and b differ by white space at most.
func equalJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
