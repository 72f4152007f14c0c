package access

import (
	"context"
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// UpdateGroup records the group, and the right that the call needs, which depends on what it changes.
func (s *auditedService) UpdateGroup(ctx context.Context, name, group string, meta queue.GroupMeta) (*queue.Group, error) {
	e := entryOf(queue.OpUpdateGroup, s.next.namespace, name)
	e.Action, e.Filter = actionOfGroup(meta), groupFilter(group)
	g, err := s.next.UpdateGroup(ctx, name, group, meta)
	if err == nil {
		e.Changes = changesOfGroup(meta, g)
	}
	s.audit.Record(ctx, e, err)
	return g, err
}

// UnblockGroup records the group.
func (s *auditedService) UnblockGroup(ctx context.Context, name, group string) (*queue.Group, error) {
	e := entryOf(queue.OpUnblockGroup, s.next.namespace, name)
	e.Filter = groupFilter(group)
	g, err := s.next.UnblockGroup(ctx, name, group)
	s.audit.Record(ctx, e, err)
	return g, err
}

func groupFilter(group string) string { return fmt.Sprintf("group=%.64q", group) }
