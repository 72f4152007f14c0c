package connectserver

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

func (s queues) ListGroups(ctx context.Context, req *pb.ListGroupsRequest) (*pb.ListGroupsResponse, error) {
	var r wire.Reader
	q := queue.GroupQuery{Name: req.GetGroup(), Limit: r.Int("limit", req.GetLimit()), Cursor: req.GetCursor()}
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	page, err := svc.ListGroups(ctx, req.GetQueue(), q)
	err = boundRows(ctx, s.Server, page.Groups, err)
	return &pb.ListGroupsResponse{Groups: wire.Each(page.Groups, wire.Group), Next: page.Next}, err
}

func (s queues) UpdateGroup(ctx context.Context, req *pb.UpdateGroupRequest) (*pb.UpdateGroupResponse, error) {
	var r wire.Reader
	meta := r.GroupMeta(req.GetMeta())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	g, err := svc.UpdateGroup(ctx, req.GetQueue(), req.GetGroup(), meta)
	return &pb.UpdateGroupResponse{Group: wire.Group(g)}, err
}

func (s queues) UnblockGroup(ctx context.Context, req *pb.UnblockGroupRequest) (*pb.UnblockGroupResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	g, err := svc.UnblockGroup(ctx, req.GetQueue(), req.GetGroup())
	return &pb.UnblockGroupResponse{Group: wire.Group(g)}, err
}
