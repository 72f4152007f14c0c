package manager

import (
	"context"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// NextTask retains one task for worker ("" = the manager's own name) from queues, no queues = any of the namespace. It
// does not wait: no task is nil and no error. The manager remembers its token for [Manager.ReleaseTask].
func (m *Manager) NextTask(ctx context.Context, worker string, queues ...string) (*queue.Task, error) {
	return runOperation(ctx, m, queue.OpNextTask, func(ctx context.Context) (*queue.Task, error) {
		if worker == "" {
			worker = m.cfg.workerName
		}
		tasks, err := m.retainValidated(ctx, queue.RetainRequest{Worker: worker, Queues: queues})
		if err != nil || len(tasks) == 0 {
			return nil, err
		}
		m.tokens.rememberToken(tasks[0])

		return tasks[0], nil
	})
}

// ReleaseTask ends the lease of a task: success with its result, or failure with its error. result is marshalled as
// queue.Marshal does. An error with a kind gives the failure its kind. A result that cannot be stored as JSON is made storable,
// so that it cannot keep the task from ending. The token is that of this manager's last NextTask for the task; without one, any
// lease of it ends. status, when not nil, is set to the new status of the task.
//
// It is carried out, within the call timeout, even when ctx has ended: the outcome of a task that ran into its own
// deadline must not be lost.
func (m *Manager) ReleaseTask(ctx context.Context, id int64, success bool, result any, status *queue.Status) (*queue.Task, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.callTimeout)
	defer cancel()

	return runOperation(ctx, m, queue.OpReleaseTask, func(ctx context.Context) (*queue.Task, error) {
		raw, err := queue.Marshal(result)
		if err != nil {
			// A result that cannot be encoded must not keep the task from ending.
			raw = queue.ErrorJSON(err.Error())
		}
		r := queue.Release{
			ID: id, Token: m.tokens.tokenOfTask(m.namespace, id), Outcome: queue.OutcomeFailure,
			Result: queue.CleanJSON(raw, m.cfg.maxPayload),
		}
		if success {
			r.Outcome = queue.OutcomeSuccess
		} else if failure, ok := result.(error); ok {
			r.ErrorKind = queue.ErrorKindOf(failure)
		}

		outs, err := m.releaseBatched(ctx, []queue.Release{r})
		if err != nil {
			return nil, err
		}
		m.tokens.forgetToken(m.namespace, id, r.Token)
		if outs[0].Err != nil {
			return nil, outs[0].Err
		}
		if status != nil {
			*status = outs[0].Task.Status
		}

		return outs[0].Task, nil
	})
}

// maxTokens bounds the remembered tokens: some 30 MB.
const maxTokens = 1 << 18

// leaseTokens remembers the tokens of the tasks that NextTask has returned.
type leaseTokens struct {
	mu     sync.Mutex
	tokens map[taskID]int64
}

type taskID struct {
	namespace string
	id        int64
}

func newLeaseTokens() *leaseTokens { return &leaseTokens{tokens: map[taskID]int64{}} }

func (lt *leaseTokens) rememberToken(t *queue.Task) {
	if t.Lease == nil {
		return
	}

	lt.mu.Lock()
	defer lt.mu.Unlock()
	// Any token may go: of so many tasks most have lost their leases long ago.
	for k := range lt.tokens {
		if len(lt.tokens) < maxTokens {
			break
		}
		delete(lt.tokens, k)
	}
	lt.tokens[taskID{t.Namespace, t.ID}] = t.Lease.Token
}

// tokenOfTask returns the token of the task; 0 when none is remembered.
func (lt *leaseTokens) tokenOfTask(namespace string, id int64) int64 {
	lt.mu.Lock()
	defer lt.mu.Unlock()

	return lt.tokens[taskID{namespace, id}]
}

// forgetToken drops a token that was used, unless the task was retained again meanwhile.
func (lt *leaseTokens) forgetToken(namespace string, id, token int64) {
	lt.mu.Lock()
	defer lt.mu.Unlock()
	if k := (taskID{namespace, id}); lt.tokens[k] == token {
		delete(lt.tokens, k)
	}
}
