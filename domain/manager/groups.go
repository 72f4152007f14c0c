package manager

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ListGroups returns a page of the groups of a queue that are limited or wait.
func (m *Manager) ListGroups(ctx context.Context, name string, q queue.GroupQuery) (queue.GroupPage, error) {
	return callWithQueue(ctx, m, queue.OpListGroups, name, func(ctx context.Context, namespace, name string) (queue.GroupPage, error) {
		q, err := q.Normalize()
		if err != nil {
			return queue.GroupPage{}, err
		}
		return m.store.ListGroups(ctx, namespace, name, q)
	})
}

// UpdateGroup changes the settings of a group that meta sets.
func (m *Manager) UpdateGroup(ctx context.Context, name, group string, meta queue.GroupMeta) (*queue.Group, error) {
	return m.changeGroup(ctx, queue.OpUpdateGroup, name, group, func(ctx context.Context, namespace, name string) (*queue.Group, error) {
		// A setting that is wrong for a new policy is wrong for any.
		if _, err := (queue.GroupPolicy{}).With(meta); err != nil {
			return nil, err
		}
		return m.store.UpdateGroup(ctx, namespace, name, group, meta)
	})
}

// UnblockGroup lets a group go on that a failed task holds up.
func (m *Manager) UnblockGroup(ctx context.Context, name, group string) (*queue.Group, error) {
	return m.changeGroup(ctx, queue.OpUnblockGroup, name, group, func(ctx context.Context, namespace, name string) (*queue.Group, error) {
		return m.store.UnblockGroup(ctx, namespace, name, group)
	})
}

// changeGroup changes a group and wakes the callers that wait for its queue, because more tasks may be retained now.
func (m *Manager) changeGroup(
	ctx context.Context, op queue.Op, name, group string, change func(ctx context.Context, namespace, name string) (*queue.Group, error),
) (*queue.Group, error) {
	return callWithQueue(ctx, m, op, name, func(ctx context.Context, namespace, name string) (*queue.Group, error) {
		if _, err := queue.GroupName(group); err != nil {
			return nil, err
		}
		g, err := change(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		// Before the wake-up, so that no search of a woken caller uses the old limits.
		m.concurrency.Forget(namespace, name)
		m.waitlists.Wake(queue.Wake{Namespace: namespace, Queue: name})
		return g, nil
	})
}
