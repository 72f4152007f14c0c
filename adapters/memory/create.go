package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateTasks creates tasks, or returns the tasks that have their keys.
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
		if err := s.checkCreates(sp, c, now); err != nil {
			return nil, err
		}
	}

	contents, made := contentBytes{}, map[int64]bool{}
	for i, t := range c.Tasks {
		out[i] = s.createTask(sp, t, c.Unlimited, now)
		task := out[i].Task
		if task == nil {
			continue
		}
		if !task.Replayed {
			made[task.ID] = true
			continue
		}
		// A task of an earlier call comes with content that its caller did not send, so that has a bound.
		if !made[task.ID] {
			out[i].Task = contents.boundContent(t.Call, task)
		}
	}

	return out, nil
}

// createTask creates one task, or applies the rule of its key when another task has that key.
func (s *Store) createTask(sp *namespaceState, t queue.NewTask, unlimited bool, now time.Time) queue.Created {
	qs := sp.queues[t.Queue]
	if qs == nil {
		return queue.Created{Err: queue.NotFoundQueue(t.Queue)}
	}

	if err := qs.settings.CheckNewTask(&t); err != nil {
		return queue.Created{Err: err}
	}

	owner, rule := s.claimKey(qs, &t, now)
	switch rule {
	case queue.KeyReject:
		return queue.Created{Err: queue.RejectedKey(t.Queue, t.Key, owner.task.ID)}
	case queue.KeyReturn:
		return returnOwner(owner, t)
	case queue.KeyTake, queue.KeySupersede: // both create a task
	}

	// Behind the key, because a repeat of a create adds no task and must succeed in a full queue.
	if !unlimited {
		if err := qs.checkWaiting(1); err != nil {
			return queue.Created{Err: err}
		}
	}
	if rule == queue.KeySupersede {
		return s.replaceTask(qs, owner, t, now)
	}
	return queue.Created{Task: s.insertTask(qs, t, now).copyTask()}
}

// returnOwner answers a create with the task that has its key. White space in payloads does not count: clients in other languages
// format the same value differently.
func returnOwner(owner *record, t queue.NewTask) queue.Created {
	if !equalJSON(owner.task.Payload, t.Payload) {
		return queue.Created{Err: errKeyReused(t)}
	}
	v := owner.copyTask()
	v.Replayed = true
	return queue.Created{Task: v}
}

// replaceTask creates t in the place of a waiting task, which ends cancelled.
func (s *Store) replaceTask(qs *queueState, owner *record, t queue.NewTask, now time.Time) queue.Created {
	was := owner.task.Status
	// It stays the same for later replacements, so that DebounceMax ends the chain.
	firstCreatedAt := owner.firstCreatedAt
	if firstCreatedAt.IsZero() {
		firstCreatedAt = owner.task.CreatedAt
	}
	if t.Debounce > 0 {
		// DelayedAt is absolute, and insertTask would prefer a delay to it.
		t.Delay, t.DelayedAt = 0, t.DebouncedAt(now, firstCreatedAt)
	}
	r := s.insertTask(qs, t, now)
	r.firstCreatedAt = firstCreatedAt

	_ = s.moveTask(owner, queue.MoveCancel, queue.Circumstances{Now: now}) // cannot fail: KeySupersede is for waiting tasks alone
	owner.appendAttemptError(queue.AttemptError{Error: queue.Superseded(r.task.ID)}, now)
	s.recordEvent(owner, queue.EventCancelled, "", now)
	return queue.Created{Task: r.copyTask(), Superseded: owner.task.ID, WasStatus: was}
}

// checkWaiting returns an error when more new tasks would exceed MaxWaiting.
func (qs *queueState) checkWaiting(more int) error {
	return qs.settings.CheckWaiting(qs.counts[queue.StatusNew]+qs.counts[queue.StatusRetry], more)
}

// createCheck checks the tasks of one atomic create one after the other, each beside those before it.
type createCheck struct {
	store    *Store
	queues   map[string]*queueState
	payloads map[keyInQueue]json.RawMessage // of the keys so far
	more     map[string]int                 // new tasks so far, by queue
}

type keyInQueue struct{ queue, key string }

// checkCreates returns the first error that an atomic create would meet.
func (s *Store) checkCreates(sp *namespaceState, c queue.Create, now time.Time) error {
	check := createCheck{s, sp.queues, map[keyInQueue]json.RawMessage{}, map[string]int{}}
	for i, t := range c.Tasks {
		if err := check.addTask(t, c.Unlimited, now); err != nil {
			return queue.At(fmt.Sprintf("tasks[%d]", i), err)
		}
	}
	return nil
}

// addTask checks one more task. NormalizeTasks has refused a repeated key beside a key rule, so a repeat within the call returns the
// task of the first.
func (c *createCheck) addTask(t queue.NewTask, unlimited bool, now time.Time) error {
	qs := c.queues[t.Queue]
	if qs == nil {
		return queue.NotFoundQueue(t.Queue)
	}
	if err := qs.settings.CheckNewTask(&t); err != nil {
		return err
	}

	payload, hasOwner := c.payloads[keyInQueue{t.Queue, t.Key}]
	owner, rule := c.store.claimKey(qs, &t, now)
	switch rule {
	case queue.KeyReject:
		return queue.RejectedKey(t.Queue, t.Key, owner.task.ID)
	case queue.KeyReturn:
		payload, hasOwner = owner.task.Payload, true
	case queue.KeyTake, queue.KeySupersede:
	}

	if hasOwner && !equalJSON(payload, t.Payload) {
		return errKeyReused(t)
	}
	if !hasOwner {
		c.more[t.Queue]++
	}
	if !hasOwner && !unlimited {
		if err := qs.checkWaiting(c.more[t.Queue]); err != nil {
			return err
		}
	}
	if t.Key != "" {
		c.payloads[keyInQueue{t.Queue, t.Key}] = t.Payload
	}
	return nil
}

// claimKey returns the task that has the key of t, and what the create does about it. A key is free from the end of the retention of its
// task on. When the pruner has not come yet, claimKey deletes that task.
func (s *Store) claimKey(qs *queueState, t *queue.NewTask, now time.Time) (*record, queue.KeyAnswer) {
	if t.Key == "" {
		return nil, queue.KeyTake
	}
	owner := qs.keys[t.Key]
	if owner == nil {
		return nil, queue.KeyTake
	}
	if qs.isPastRetention(owner, now) {
		s.removeTask(owner, now)
		return nil, queue.KeyTake
	}
	return owner, t.Answer(owner.task.Life())
}

func errKeyReused(t queue.NewTask) error {
	return &queue.Error{
		Kind: queue.KindKeyReused, Subject: "queue " + t.Queue, Field: "key",
		Msg: fmt.Sprintf("%.64q belongs to a task with another payload; use a new key", t.Key),
	}
}

// equalJSON reports whether a and b differ by white space at most.
func equalJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// hasKey reports whether key is empty, or r has it now. A task that another one has replaced no longer has its key.
func (r *record) hasKey(key string) bool { return key == "" || r.queue.keys[key] == r }
