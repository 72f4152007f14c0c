package connectclient

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// ListGroups implements queue.Groups.
func (c *Client) ListGroups(ctx context.Context, name string, q queue.GroupQuery) (queue.GroupPage, error) {
	res, err := sendCall(ctx, c, queue.OpListGroups, c.queues.ListGroups, &pb.ListGroupsRequest{
		Namespace: c.namespace, Queue: name, Group: q.Name, Limit: int64(q.Limit), Cursor: q.Cursor,
	})
	groups, err := readEach(res.GetGroups(), err, (*wire.Reader).Group)
	return queue.GroupPage{Groups: groups, Next: res.GetNext()}, err
}

// UpdateGroup implements queue.Groups.
func (c *Client) UpdateGroup(ctx context.Context, name, group string, meta queue.GroupMeta) (*queue.Group, error) {
	res, err := sendRepeated(ctx, c, queue.OpUpdateGroup, repeatable, c.queues.UpdateGroup, &pb.UpdateGroupRequest{
		Namespace: c.namespace, Queue: name, Group: group, Meta: wire.GroupMeta(meta),
	})
	return readAnswer(res.GetGroup(), err, (*wire.Reader).Group)
}

// UnblockGroup implements queue.Groups.
func (c *Client) UnblockGroup(ctx context.Context, name, group string) (*queue.Group, error) {
	res, err := sendRepeated(ctx, c, queue.OpUnblockGroup, repeatable, c.queues.UnblockGroup, &pb.UnblockGroupRequest{
		Namespace: c.namespace, Queue: name, Group: group,
	})
	return readAnswer(res.GetGroup(), err, (*wire.Reader).Group)
}
