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
	qs := sp.queues[t.Queue]
	if qs == nil {
		return queue.Created{Err: queue.NotFoundQueue(t.Queue)}
	}

	if err := qs.settings.CheckNewTask(&t); err != nil {
		return queue.Created{Err: err}
	}

	owner, answer := s.answerKey(qs, &t, now)
	switch {
	case answer == queue.KeyReject:
		return queue.Created{Err: queue.RejectedKey(t.Queue, t.Key, owner.task.ID)}
	// White space alone does not count: clients in other languages format the same value differently.
	case answer == queue.KeyReturn && !equalJSON(owner.task.Payload, t.Payload):
		return queue.Created{Err: errKeyReused(t)}
	case answer == queue.KeyReturn:
		v := owner.copyTask()
		v.Replayed = true
		return queue.Created{Task: v}
	}

	// After the key: a repeat of a create succeeds in a full queue, as it adds nothing.
	if err := qs.checkWaiting(1); err != nil && !unlimited {
		return queue.Created{Err: err}
	}
	if answer == queue.KeySupersede {
		return s.replaceTask(qs, owner, t, now)
	}
	return queue.Created{Task: s.insertTask(qs, t, now).copyTask()}
}

// answerKey returns the task that has the key of t, and what the create does about it.
func (s *Store) answerKey(qs *queueState, t *queue.NewTask, now time.Time) (*record, queue.KeyAnswer) {
	owner := s.findTaskByKey(qs, t.Key, now)
	if owner == nil {
		return nil, queue.KeyTake
	}
	return owner, t.Answer(owner.task.Life())
}

// replaceTask creates t in the place of a waiting task, which ends cancelled.
func (s *Store) replaceTask(qs *queueState, owner *record, t queue.NewTask, now time.Time) queue.Created {
	was, since := owner.task.Status, owner.since
	// The first replacement counts from the creation of the task. Later ones keep that time, so that a debounce ends.
	if since.IsZero() {
		since = owner.task.CreatedAt
	}
	if t.Debounce > 0 {
		// DelayedAt is absolute, and insertTask would prefer a delay to it.
		t.Delay, t.DelayedAt = 0, t.DebouncedAt(now, since)
	}
	r := s.insertTask(qs, t, now)
	r.since = since

	_ = s.moveTask(owner, queue.MoveCancel, queue.Circumstances{Now: now}) // allowed: the task waits
	// After the insert, because the reason names the new id.
	owner.appendAttemptError(queue.AttemptError{Error: queue.Superseded(r.task.ID)}, now)
	s.recordEvent(owner, queue.EventCancelled, "", now)
	return queue.Created{Task: r.copyTask(), Superseded: owner.task.ID, WasStatus: was}
}

// checkWaiting refuses more new tasks than may wait.
func (qs *queueState) checkWaiting(more int) error {
	return qs.settings.CheckWaiting(qs.counts[queue.StatusNew]+qs.counts[queue.StatusRetry], more)
}

// checkCreates checks that every one of tasks can be created beside the others.
func (sp *namespaceState) checkCreates(s *Store, c queue.Create, now time.Time) error {
	// The tasks of one call may share keys, so each is checked against those before it too.
	type slot struct{ queue, key string }
	payloads, made := map[slot]json.RawMessage{}, map[string]int{}
	for i, t := range c.Tasks {
		place := fmt.Sprintf("tasks[%d]", i)
		qs := sp.queues[t.Queue]
		if qs == nil {
			return queue.At(place, queue.NotFoundQueue(t.Queue))
		}
		if err := qs.settings.CheckNewTask(&t); err != nil {
			return queue.At(place, err)
		}
		there, ok := payloads[slot{t.Queue, t.Key}]
		switch owner, answer := s.answerKey(qs, &t, now); answer {
		case queue.KeyReject:
			return queue.At(place, queue.RejectedKey(t.Queue, t.Key, owner.task.ID))
		case queue.KeyReturn:
			there, ok = owner.task.Payload, true
		// Both make a task; the payload of a former one does not matter.
		case queue.KeyTake, queue.KeySupersede:
		}
		if ok && !equalJSON(there, t.Payload) {
			return queue.At(place, errKeyReused(t))
		}
		if !ok { // the repeat of a key makes no task
			if made[t.Queue]++; !c.Unlimited {
				if err := qs.checkWaiting(made[t.Queue]); err != nil {
					return queue.At(place, err)
				}
			}
		}
		if t.Key != "" {
			payloads[slot{t.Queue, t.Key}] = t.Payload
		}
	}

	return nil
}

// findTaskByKey returns the task of l that has key. One past its retention has lost it.
func (s *Store) findTaskByKey(qs *queueState, key string, now time.Time) *record {
	if key == "" {
		return nil
	}
	r := qs.keys[key]
	// The pruner may be late; a key is free from the end of the retention on.
	if r != nil && qs.isPastRetention(r, now) {
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

// hasKey reports whether r has the key now; "" is any. A task that another one has replaced has it no longer.
func (r *record) hasKey(key string) bool { return key == "" || r.queue.keys[key] == r }
