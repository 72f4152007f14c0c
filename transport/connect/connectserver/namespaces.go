package connectserver

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

type namespaces struct{ *Server }

func (s namespaces) ListNamespaces(ctx context.Context, req *pb.ListNamespacesRequest) (*pb.ListNamespacesResponse, error) {
	var r wire.Reader
	page := r.Page(req.GetPage())
	if r.Err() != nil {
		return nil, r.Err()
	}
	names, err := s.svc.ListNamespaces(ctx)
	if err != nil {
		return nil, err
	}
	part, next, err := page.Names(names)
	if err == nil {
		err = s.boundRead(ctx, queue.NameBytes(part))
	}
	return &pb.ListNamespacesResponse{Namespaces: part, Count: int64(len(names)), Next: next}, err
}
