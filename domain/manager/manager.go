package manager

import (
	"context"
	"slices"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Manager is the in-process queue.Service over a Store, bound to a namespace. Those that [Manager.In] gives share
// everything with it. All methods are safe for concurrent use.
type Manager struct {
	*core
	namespace string
}

var _ queue.Service = (*Manager)(nil)

// New is a Manager over store. It starts nothing: goroutines run while there is something for them to do, and all end
// with [Manager.Close]. The store stays the caller's to close, after the manager.
func New(store queue.Store, opts ...Option) (*Manager, error) {
	const name = "new manager"
	if store == nil {
		return nil, queue.WithOp(name, queue.Invalid("store", "a store is required"))
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, queue.WithOp(name, err)
	}
	return &Manager{core: newCore(store, cfg), namespace: cfg.namespace}, nil
}

// Namespace is what the manager is bound to.
func (m *Manager) Namespace() string { return m.namespace }

// In is the same manager bound to namespace. It costs nothing and shares everything, Run and Close included.
func (m *Manager) In(namespace string) (queue.Service, error) {
	n, err := queue.NamespaceName(namespace)
	if err != nil {
		return nil, queue.WithOp("choose namespace", err)
	}
	return &Manager{core: m.core, namespace: n}, nil
}

// ListNamespaces lists every namespace that has a queue or a ticker, and the system's own, sorted.
func (m *Manager) ListNamespaces(ctx context.Context) ([]string, error) {
	return callStore(ctx, m, opListNamespaces, func(ctx context.Context) ([]string, error) {
		names, err := m.store.ListNamespaces(ctx)
		if err != nil {
			return nil, err
		}
		names = append(names, queue.SystemNamespace)
		slices.Sort(names)
		return slices.Compact(names), nil
	})
}

// Ping reports whether the store can work now.
func (m *Manager) Ping(ctx context.Context) error {
	_, err := callStore(ctx, m, opPing, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.store.Ping(ctx)
	})
	return err
}

// Diagnose examines the store for an operator; a store that cannot be examined has no findings.
func (m *Manager) Diagnose(ctx context.Context) ([]queue.Finding, error) {
	return callStore(ctx, m, opDiagnose, func(ctx context.Context) ([]queue.Finding, error) {
		d, ok := queue.StoreAs[queue.Diagnoser](m.store)
		if !ok {
			return nil, nil
		}
		return d.Diagnose(ctx)
	})
}

// Close refuses new calls with KindUnavailable, answers those that wait with it, lets Store calls in flight end, and
// returns when no goroutine of the manager is left. When ctx ends first it cancels those calls and returns ctx's error.
// It closes the managers of all namespaces, ends Run, whose workers drain first, and may be called again.
func (m *Manager) Close(ctx context.Context) error {
	m.workers.end(ctx)
	return queue.WithOp("close manager", m.close(ctx))
}
