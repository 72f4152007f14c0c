package manager

import (
	"context"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/manager/internal/waitlist"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// RetainTasks takes up to Limit ready tasks under leases; none is an empty list and no error. With Wait it blocks, without
// a database connection, until a task is there, the wait is over or ctx ends. Callers that wait for the same queues are
// served in the order in which they came.
func (m *Manager) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	return runOperation(ctx, m, queue.OpRetainTasks, func(ctx context.Context) ([]*queue.Task, error) { return m.retainValidated(ctx, r) })
}

func (m *Manager) retainValidated(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	r, err := r.Normalize()
	if err != nil {
		return nil, err
	}

	set := waitlist.QueueSet{Namespace: m.namespace, Queues: strings.Join(r.Queues, ",")}
	share := queue.RetainShare{Worker: r.Worker, Limit: r.Limit, Lease: r.Lease, MaxBytes: r.MaxBytes}
	if r.RequestID != "" {
		share.RequestID, share.Arguments = r.RequestID, r.Arguments()
		set.Request = waitlist.Request{Worker: r.Worker, ID: r.RequestID, Arguments: share.Arguments}
	}

	var tasks []*queue.Task
	if r.Wait > 0 {
		tasks, err = m.waitlists.Retain(ctx, set, share, r.Wait)
	} else {
		tasks, err = m.retainWithoutWait(ctx, set, share)
	}
	if err != nil {
		return nil, err
	}

	return r.WithoutLarge(ctx, m, tasks)
}

func (m *Manager) retainWithoutWait(ctx context.Context, set waitlist.QueueSet, share queue.RetainShare) ([]*queue.Task, error) {
	outs, err := m.retains.Do(ctx, set, share)
	if err == nil && waitlist.IsUnread(outs[0]) {
		// The batch has reached its bytes before this request. A Store call of its own has room for one answer at
		// least.
		set.Alone = m.lone.Add(1)
		outs, err = m.retains.Do(ctx, set, share)
	}
	if err != nil {
		return nil, err
	}

	return outs[0], nil
}

// UndeliveredRetain records that the answer of a retain with a request id was not delivered.
func (m *Manager) UndeliveredRetain(ctx context.Context, worker, requestID string) error {
	_, err := callStoreDirectly(ctx, m, queue.OpRetainTasks, func(ctx context.Context) (struct{}, error) {
		u, ok := queue.StoreAs[queue.UndeliveredRequests](m.store)
		if !ok {
			return struct{}{}, nil // the leases end by themselves
		}

		return struct{}{}, u.UndeliveredRequest(ctx, m.namespace, worker, requestID)
	})

	return err
}

// HeartbeatTasks extends leases and answers each in order.
func (m *Manager) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return queue.CheckBeats(runOperation(ctx, m, queue.OpHeartbeatTasks, func(ctx context.Context) ([]queue.Beat, error) {
		if err := checkBatchSize("heartbeats", len(beats)); err != nil {
			return nil, err
		}
		outs, err := sendChecked(beats, queue.Heartbeat.Check,
			func(err error) queue.Beat { return queue.Beat{Err: err} },
			func(good []queue.Heartbeat) ([]queue.Beat, error) { return m.heartbeats.Do(ctx, m.namespace, good...) })
		for i := range outs {
			outs[i].Err = queue.WithOp(queue.OpHeartbeatTasks.String(), outs[i].Err)
		}

		return outs, err
	}))
}

// ReleaseTasks ends leases and answers each in order.
func (m *Manager) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	return queue.CheckReleased(runOperation(ctx, m, queue.OpReleaseTasks, func(ctx context.Context) ([]queue.Released, error) {
		outs, err := m.releaseBatched(ctx, releases)
		for i := range outs {
			outs[i].Err = queue.WithOp(queue.OpReleaseTasks.String(), outs[i].Err)
		}

		return outs, err
	}))
}

func (m *Manager) releaseBatched(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	if err := checkBatchSize("releases", len(releases)); err != nil {
		return nil, err
	}

	// A copy is made only for releases without an outcome, because the slice is the caller's.
	if i := slices.IndexFunc(releases, func(r queue.Release) bool { return r.Outcome == "" }); i >= 0 {
		releases = slices.Clone(releases)
		for ; i < len(releases); i++ {
			releases[i] = releases[i].Normalize()
		}
	}

	return sendChecked(releases,
		func(r queue.Release) error { return r.Check(m.cfg.maxPayload) },
		func(err error) queue.Released { return queue.Released{Err: err} },
		func(good []queue.Release) ([]queue.Released, error) { return m.releases.Do(ctx, m.namespace, good...) })
}

// sendChecked answers the items that check refuses, and has send answer the others, each at its position.
func sendChecked[In, Out any](
	items []In, check func(In) error, refuse func(error) Out, send func([]In) ([]Out, error),
) ([]Out, error) {
	if len(items) == 0 {
		return nil, nil
	}

	var refused map[int]error
	for i, item := range items {
		if err := check(item); err != nil {
			if refused == nil {
				refused = map[int]error{}
			}
			refused[i] = err
		}
	}
	// The usual call has no fault, and then no slice is copied.
	if len(refused) == 0 {
		return send(items)
	}

	outs := make([]Out, len(items))
	good := make([]In, 0, len(items))
	positions := make([]int, 0, len(items))
	for i, item := range items {
		if err := refused[i]; err != nil {
			outs[i] = refuse(err)
			continue
		}
		good = append(good, item)
		positions = append(positions, i)
	}
	if len(good) == 0 {
		return outs, nil
	}

	answers, err := send(good)
	if err != nil {
		return nil, err
	}
	for i, answer := range answers {
		outs[positions[i]] = answer
	}

	return outs, nil
}
