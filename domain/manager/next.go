package manager

import (
	"context"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// NextTask retains one task for worker ("" = the manager's own name) from queues, no queues = any of the namespace. It
// does not wait: no task is nil and no error. The manager remembers its token for [Manager.ReleaseTask].
func (m *Manager) NextTask(ctx context.Context, worker string, queues ...string) (*queue.Task, error) {
	return runOperation(ctx, m, opNextTask, func(ctx context.Context) (*queue.Task, error) {
		if worker == "" {
			worker = m.cfg.workerName
		}
		tasks, err := m.retain(ctx, queue.RetainRequest{Worker: worker, Queues: queues})
		if err != nil || len(tasks) == 0 {
			return nil, err
		}
		m.held.put(tasks[0])
		return tasks[0], nil
	})
}

// ReleaseTask ends the hold of a task: success with its result, or failure with its error. result is marshalled as
// queue.Marshal does, and what cannot be stored as JSON is made storable, so that it cannot keep the task from ending.
// The token is that of this manager's last NextTask for the task; without one, whoever holds it is released. status,
// when not nil, is set to what became of the task.
//
// It is carried out, within the call timeout, even when ctx has ended: the outcome of a task that ran into its own
// deadline is not to be lost.
func (m *Manager) ReleaseTask(ctx context.Context, id int64, success bool, result any, status *queue.Status) (*queue.Task, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.callTimeout)
	defer cancel()
	return runOperation(ctx, m, opReleaseTask, func(ctx context.Context) (*queue.Task, error) {
		raw, err := queue.Marshal(result)
		if err != nil {
			raw = queue.ErrorJSON(err.Error())
		}
		r := queue.Release{
			ID: id, Token: m.held.token(m.namespace, id), Outcome: queue.OutcomeFailure,
			Result: queue.CleanJSON(raw, m.cfg.maxPayload),
		}
		if success {
			r.Outcome = queue.OutcomeSuccess
		}
		outs, err := m.release(ctx, []queue.Release{r})
		if err != nil {
			return nil, err
		}
		m.held.forget(m.namespace, id, r.Token)
		if outs[0].Err != nil {
			return nil, outs[0].Err
		}
		if status != nil {
			*status = outs[0].Task.Status
		}
		return outs[0].Task, nil
	})
}

// heldLimit bounds the remembered tokens: some 30 MB.
const heldLimit = 1 << 18

// held remembers the tokens of tasks that NextTask gave out.
type held struct {
	mu     sync.Mutex
	tokens map[heldTask]int64
}

type heldTask struct {
	namespace string
	id        int64
}

func newHeld() *held { return &held{tokens: map[heldTask]int64{}} }

func (h *held) put(t *queue.Task) {
	if t.Lease == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.tokens { // any one: who holds so many at once has long lost the rest
		if len(h.tokens) < heldLimit {
			break
		}
		delete(h.tokens, k)
	}
	h.tokens[heldTask{t.Namespace, t.ID}] = t.Lease.Token
}

// token of the task, 0 when none is remembered.
func (h *held) token(namespace string, id int64) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tokens[heldTask{namespace, id}]
}

// forget drops a token that was used, unless the task was retained again meanwhile.
func (h *held) forget(namespace string, id, token int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := (heldTask{namespace, id}); h.tokens[k] == token {
		delete(h.tokens, k)
	}
}
