package connectserver

import (
	"context"

	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

type namespaces struct{ *Server }

func (s namespaces) ListNamespaces(ctx context.Context, _ *pb.ListNamespacesRequest) (*pb.ListNamespacesResponse, error) {
	names, err := s.svc.ListNamespaces(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.ListNamespacesResponse{Namespaces: names}, nil
}
