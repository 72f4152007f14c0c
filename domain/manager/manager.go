package manager

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/manager/internal/background"
	"github.com/pgqueue/pgqueue/domain/manager/internal/feed"
	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/manager/internal/ticks"
	"github.com/pgqueue/pgqueue/domain/manager/internal/waitlist"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Manager is the in-process queue.Service over a Store, bound to a namespace. The managers that [Manager.In] returns share
// everything with it. All methods are safe for concurrent use.
type Manager struct {
	*parts

	namespace string
}

var (
	_ queue.Service   = (*Manager)(nil)
	_ queue.StatsFeed = (*Manager)(nil)
)

// parts are shared by the managers of all namespaces.
type parts struct {
	store queue.Store
	cfg   config
	owner *owner.Owner

	creates    *batch.Batcher[createKey, queue.NewTask, queue.Created]
	retains    *batch.Batcher[waitlist.QueueSet, queue.RetainShare, []*queue.Task]
	lone       atomic.Uint64 // numbers the retains that go alone
	heartbeats *batch.Batcher[string, queue.Heartbeat, queue.Beat]
	releases   *batch.Batcher[string, queue.Release, queue.Released]

	waitlists   *waitlist.Waitlists
	concurrency *waitlist.ConcurrencyCache
	awaits      *feed.Awaits
	feeds       *feed.Feeds
	dealers     *ticks.Dealers
	agents      *background.Agents
	tokens      *leaseTokens
	workers     *workers
	shared      sharedStats
}

// createKey names the creates that share a Store call. To see that an open transaction has taken a key takes a moment, and
// creates without a key do not wait for it.
type createKey struct {
	namespace string
	hasKeys   bool
}

// New returns a Manager over store. It starts nothing: goroutines run while there is work for them, and all end with
// [Manager.Close]. The caller closes the store, after the manager.
func New(store queue.Store, opts ...Option) (*Manager, error) {
	const op = "new manager"
	if store == nil {
		return nil, queue.WithOp(op, queue.Invalid("store", "must be a store, got nil"))
	}
	cfg, err := configFromOptions(opts)
	if err != nil {
		return nil, queue.WithOp(op, err)
	}

	return &Manager{parts: newManagerParts(store, cfg), namespace: cfg.namespace}, nil
}

func newManagerParts(store queue.Store, cfg config) *parts {
	p := &parts{store: store, cfg: cfg, tokens: newLeaseTokens(), workers: newWorkerSet(cfg)}
	p.owner = owner.New(owner.Config{
		Log: cfg.log, PollInterval: cfg.poll, CallTimeout: cfg.callTimeout, MaxWaiting: cfg.batching.MaxWaiting,
	})
	p.waitlists = waitlist.New(waitlist.Options{
		Owner: p.owner, Store: store, MaxBatch: cfg.batching.MaxBatch, RetainTasks: p.retainTasks, HandBack: p.handBackTasks,
	})
	p.concurrency = waitlist.NewConcurrencyCache(p.owner, store.GetQueue)
	p.awaits = feed.NewAwaits(p.owner, store)
	p.feeds = feed.NewFeeds(p.owner, store, p.awaits, cfg.eventBuffer)
	p.dealers = ticks.NewDealers(p.owner, store, TickTimeout)
	p.agents = background.New(p.owner, store, p.wakeAfterStep)
	p.setBatchers()

	return p
}

// setBatchers makes the Batcher of each kind of single calls.
func (p *parts) setBatchers() {
	creates := batchOptions(p, queue.OpCreateTask, p.createTasks)
	creates.Bytes = func(t queue.NewTask) int { return len(t.Payload) }
	creates.Copy, creates.Restore = copyTaskMemory, restoreTask
	creates.Number = func(t *queue.NewTask, call int) { t.Call = call }
	// An open transaction may have a key for minutes; the creates of others must not wait for it.
	creates.Locked = func(c queue.Created) bool { return queue.IsLocked(c.Err) }
	p.creates = batch.New(creates)

	retains := batchOptions(p, queue.OpRetainTasks, p.retainTasks)
	// A retain of 1,000 tasks fills a batch as 1,000 single ones do.
	retains.Weight = func(s queue.RetainShare) int { return s.Limit }
	retains.Unclaimed = func(set waitlist.QueueSet, _ []queue.RetainShare, outs [][]*queue.Task, _ error) {
		p.handBackTasks(set, slices.Concat(slices.DeleteFunc(outs, waitlist.IsUnread)...))
	}
	p.retains = batch.New(retains)

	heartbeats := batchOptions(p, queue.OpHeartbeatTasks, p.store.HeartbeatTasks)
	heartbeats.Bytes = func(h queue.Heartbeat) int { return len(h.Progress) }
	heartbeats.Copy = copyHeartbeat
	heartbeats.Locked = func(b queue.Beat) bool { return queue.IsLocked(b.Err) }
	p.heartbeats = batch.New(heartbeats)

	releases := batchOptions(p, queue.OpReleaseTasks, p.releaseTasks)
	releases.Bytes = func(r queue.Release) int { return len(r.Result) }
	releases.Copy, releases.Restore = copyRelease, restoreRelease
	releases.Number = func(r *queue.Release, call int) { r.Call = call }
	releases.Locked = func(r queue.Released) bool { return queue.IsLocked(r.Err) }
	p.releases = batch.New(releases)
}

// batchOptions returns the options that the batchers share, for the Store call of op.
func batchOptions[K comparable, In, Out any](
	p *parts, op queue.Op, commit func(context.Context, K, []In) ([]Out, error),
) batch.Options[K, In, Out] {
	limits := p.cfg.batching

	return batch.Options[K, In, Out]{
		Commit: commit, Context: p.owner.Context(), Timeout: p.cfg.callTimeout, Go: p.owner.Go, Owner: "manager",
		MaxItems: limits.MaxBatch, MaxBytes: maxBatchBytes, MaxInFlight: limits.MaxCalls, MaxFullInFlight: maxFullCalls,
		MaxGoroutines: max(limits.MaxCalls, maxFullCalls) * busyNamespaces, MaxWaiting: limits.MaxWaiting,
		MaxDelay: limits.MaxDelay, Unanswered: op.Unanswered(),
	}
}

// Namespace returns the namespace that the manager is bound to.
func (m *Manager) Namespace() string { return m.namespace }

// In returns the manager bound to namespace. It costs nothing and shares everything, Run and Close included.
func (m *Manager) In(namespace string) (queue.Service, error) {
	n, err := queue.NamespaceName(namespace)
	if err != nil {
		return nil, queue.WithOp("choose namespace", err)
	}

	return &Manager{parts: m.parts, namespace: n}, nil
}

// ListNamespaces lists every namespace that has a queue or a ticker, and the system's own, sorted.
func (m *Manager) ListNamespaces(ctx context.Context) ([]string, error) {
	return callStoreDirectly(ctx, m, queue.OpListNamespaces, func(ctx context.Context) ([]string, error) {
		names, err := m.store.ListNamespaces(ctx)
		if err != nil {
			return nil, err
		}
		// It exists without a queue too, and a store may list it or not.
		names = append(names, queue.SystemNamespace)
		slices.Sort(names)

		return slices.Compact(names), nil
	})
}

// Ping reports whether the store can work now.
func (m *Manager) Ping(ctx context.Context) error {
	_, err := callStoreDirectly(ctx, m, queue.OpPing, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.store.Ping(ctx)
	})

	return err
}

// Diagnose examines the store for an operator; a store that cannot be examined has no findings.
func (m *Manager) Diagnose(ctx context.Context) ([]queue.Finding, error) {
	return callStoreDirectly(ctx, m, queue.OpDiagnose, func(ctx context.Context) ([]queue.Finding, error) {
		d, ok := queue.StoreAs[queue.Diagnoser](m.store)
		if !ok {
			return nil, nil
		}

		return d.Diagnose(ctx)
	})
}

// ListCells returns the state of each cell of the store. A store without cells is cell 0.
func (m *Manager) ListCells(ctx context.Context) ([]queue.CellStatus, error) {
	return callStoreDirectly(ctx, m, queue.OpListCells, func(ctx context.Context) ([]queue.CellStatus, error) {
		if l, ok := queue.StoreAs[queue.CellLister](m.store); ok {
			return l.ListCells(ctx)
		}

		names, err := m.store.ListNamespaces(ctx)
		if ctx.Err() != nil {
			return nil, queue.ContextError(ctx.Err())
		}
		return []queue.CellStatus{{State: queue.CellOpen, Namespaces: len(names), Err: err}}, nil
	})
}

// Close refuses new calls with KindUnavailable and answers waiting callers with it. It lets Store calls in flight end, and
// returns when no goroutine of the manager is left. When ctx ends first it cancels those calls and returns the error of
// ctx. It closes the managers of all namespaces, drains the workers of Run, ends Run, and may be called again.
func (m *Manager) Close(ctx context.Context) error {
	// The workers first: they need the manager for the outcomes of their last tasks.
	m.workers.drainWorkers(ctx)
	err := m.owner.Close(ctx, func() {
		m.creates.Close()
		m.retains.Close()
		m.heartbeats.Close()
		m.releases.Close()
	})

	return queue.WithOp("close manager", err)
}
