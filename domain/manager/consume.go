package manager

import (
	"context"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// lot is what retains share a Store call for: the queues of a namespace, sorted and joined by commas; "" = any.
type lot struct {
	namespace, queues string
	// request is set for retains with a request id: they share with their repeats alone.
	request request
}

type request struct{ worker, id, arguments string }

func (l lot) names() []string {
	if l.queues == "" {
		return nil
	}
	return strings.Split(l.queues, ",")
}

// RetainTasks takes up to Limit available tasks under leases; none is an empty list, not an error. With Wait it blocks,
// without a database connection, until at least one is there, the time is over or ctx ends. Those who wait for the same
// queues are served in the order in which they came.
func (m *Manager) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	return runOperation(ctx, m, opRetainTasks, func(ctx context.Context) ([]*queue.Task, error) { return m.retain(ctx, r) })
}

func (m *Manager) retain(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	r, err := r.Normalize()
	if err != nil {
		return nil, err
	}
	key := lot{namespace: m.namespace, queues: strings.Join(r.Queues, ",")}
	share := queue.RetainShare{Worker: r.Worker, Limit: r.Limit, Lease: r.Lease, MaxBytes: r.MaxBytes}
	if r.RequestID != "" {
		share.RequestID, share.Arguments = r.RequestID, r.Arguments()
		key.request = request{r.Worker, r.RequestID, share.Arguments}
	}
	retain := m.retainNow
	if r.Wait > 0 {
		retain = func(ctx context.Context, key lot, share queue.RetainShare) ([]*queue.Task, error) {
			return m.rooms.retain(ctx, key, share, r.Wait)
		}
	}

	tasks, err := retain(ctx, key, share)
	if err != nil {
		return tasks, err
	}
	return r.WithoutLarge(ctx, m, tasks)
}

// UndeliveredRetain notes that an answer of a retain with a request id was not delivered.
func (m *Manager) UndeliveredRetain(ctx context.Context, worker, requestID string) error {
	_, err := callStore(ctx, m, opRetainTasks, func(ctx context.Context) (struct{}, error) {
		u, ok := queue.StoreAs[queue.UndeliveredRequests](m.store)
		if !ok {
			return struct{}{}, nil // the leases run out
		}
		return struct{}{}, u.UndeliveredRequest(ctx, m.namespace, worker, requestID)
	})
	return err
}

func (c *core) retainNow(ctx context.Context, key lot, share queue.RetainShare) ([]*queue.Task, error) {
	outs, err := c.retains.Do(ctx, key, share)
	if err != nil {
		return nil, err
	}
	return outs[0], nil
}

// HeartbeatTasks extends leases and answers each in order.
func (m *Manager) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return queue.CheckBeats(runOperation(ctx, m, opHeartbeatTasks, func(ctx context.Context) ([]queue.Beat, error) {
		if err := checkBatch("heartbeats", len(beats)); err != nil {
			return nil, err
		}
		outs, err := checked(beats, queue.Heartbeat.Check,
			func(err error) queue.Beat { return queue.Beat{Err: err} },
			func(good []queue.Heartbeat) ([]queue.Beat, error) { return m.beats.Do(ctx, m.namespace, good...) })
		for i := range outs {
			outs[i].Err = queue.WithOp(opHeartbeatTasks.name, outs[i].Err)
		}
		return outs, err
	}))
}

// ReleaseTasks ends holds and answers each in order.
func (m *Manager) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	return queue.CheckReleased(runOperation(ctx, m, opReleaseTasks, func(ctx context.Context) ([]queue.Released, error) {
		outs, err := m.release(ctx, releases)
		for i := range outs {
			outs[i].Err = queue.WithOp(opReleaseTasks.name, outs[i].Err)
		}
		return outs, err
	}))
}

func (m *Manager) release(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	if err := checkBatch("releases", len(releases)); err != nil {
		return nil, err
	}

	// A copy is made only for releases without an outcome: the slice is the caller's.
	if i := slices.IndexFunc(releases, func(r queue.Release) bool { return r.Outcome == "" }); i >= 0 {
		releases = slices.Clone(releases)
		for ; i < len(releases); i++ {
			releases[i] = releases[i].Normalize()
		}
	}
	return checked(releases,
		func(r queue.Release) error { return r.Check(m.cfg.maxPayload) },
		func(err error) queue.Released { return queue.Released{Err: err} },
		func(good []queue.Release) ([]queue.Released, error) { return m.releases.Do(ctx, m.namespace, good...) })
}

// checked answers the items that check refuses itself and has send answer the others, each in its place.
func checked[In, Out any](items []In, check func(In) error, refuse func(error) Out, send func([]In) ([]Out, error)) ([]Out, error) {
	if len(items) == 0 {
		return nil, nil
	}
	var refused map[int]error
	for i, it := range items {
		if err := check(it); err != nil {
			if refused == nil {
				refused = map[int]error{}
			}
			refused[i] = err
		}
	}
	if len(refused) == 0 {
		return send(items)
	}
	outs := make([]Out, len(items))
	good, at := make([]In, 0, len(items)), make([]int, 0, len(items))
	for i, it := range items {
		if err := refused[i]; err != nil {
			outs[i] = refuse(err)
			continue
		}
		good, at = append(good, it), append(at, i)
	}
	if len(good) == 0 {
		return outs, nil
	}
	answers, err := send(good)
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		outs[at[i]] = a
	}
	return outs, nil
}
