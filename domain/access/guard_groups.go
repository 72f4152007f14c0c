package access

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// UpdateGroup needs the right to manage the queue. A change of the pause alone needs the right to operate on its tasks.
func (g *guard) UpdateGroup(ctx context.Context, name, group string, meta queue.GroupMeta) (*queue.Group, error) {
	action := actionOfGroup(meta)
	s, err := findActionScope(ctx, action, g.namespace)
	if err != nil {
		return nil, err
	}
	if err := checkQueue(s, action, g.namespace, name); err != nil {
		return nil, err
	}
	return g.next.UpdateGroup(ctx, name, group, meta)
}

// actionOfGroup is the right that a change of a group needs.
func actionOfGroup(meta queue.GroupMeta) queue.Action {
	pauses := meta.PausedUntil != nil
	meta.PausedUntil = nil
	if pauses && meta == (queue.GroupMeta{}) {
		return queue.ActionTaskOperate
	}
	return queue.ActionQueueManage
}
