package connectserver

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// tokens serves the operations on tokens and rights.
type tokens struct{ *Server }

func (s tokens) CreateToken(ctx context.Context, req *pb.CreateTokenRequest) (*pb.CreateTokenResponse, error) {
	var r wire.Reader
	request := r.TokenRequest(req)
	if r.Err() != nil {
		return nil, r.Err()
	}
	issued, err := s.admin.CreateToken(ctx, request)
	if err != nil {
		return nil, err
	}
	return &pb.CreateTokenResponse{Issued: wire.IssuedToken(issued)}, nil
}

func (s tokens) ListTokens(ctx context.Context, _ *pb.ListTokensRequest) (*pb.ListTokensResponse, error) {
	all, err := s.admin.ListTokens(ctx)
	err = boundRows(ctx, s.Server, all, err)
	return &pb.ListTokensResponse{Tokens: wire.Each(all, wire.Token)}, err
}

func (s tokens) RotateToken(ctx context.Context, req *pb.RotateTokenRequest) (*pb.RotateTokenResponse, error) {
	var r wire.Reader
	rotation := r.Rotation(req)
	if r.Err() != nil {
		return nil, r.Err()
	}
	issued, err := s.admin.RotateToken(ctx, req.GetId(), rotation)
	if err != nil {
		return nil, err
	}
	return &pb.RotateTokenResponse{Issued: wire.IssuedToken(issued)}, nil
}

func (s tokens) RevokeToken(ctx context.Context, req *pb.RevokeTokenRequest) (*pb.RevokeTokenResponse, error) {
	token, err := s.admin.RevokeToken(ctx, req.GetId())
	return &pb.RevokeTokenResponse{Token: wire.Token(token)}, err
}

func (s tokens) WhoAmI(ctx context.Context, _ *pb.WhoAmIRequest) (*pb.WhoAmIResponse, error) {
	identity, err := s.admin.WhoAmI(ctx)
	return &pb.WhoAmIResponse{
		Id: identity.ID, Name: identity.Name, Kind: string(identity.Kind), Grants: access.FormatGrants(identity.Grants),
	}, err
}

// Can answers for the default namespace of the server when the request names none, as REST does.
func (s tokens) Can(ctx context.Context, req *pb.CanRequest) (*pb.CanResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	allowed, err := s.admin.Can(ctx, access.Question{
		Action: queue.Action(req.GetAction()), Namespace: svc.Namespace(), Queue: req.GetQueue(),
	})
	return &pb.CanResponse{Allowed: allowed}, err
}

func (s tokens) ListAudit(ctx context.Context, req *pb.ListAuditRequest) (*pb.ListAuditResponse, error) {
	var r wire.Reader
	filter := r.AuditFilter(req)
	if r.Err() != nil {
		return nil, r.Err()
	}
	page, err := s.admin.ListAudit(ctx, filter)
	if err != nil {
		return nil, err
	}
	answer := &pb.ListAuditResponse{Entries: wire.Each(page.Entries, wire.AuditEntry), Next: page.Next}
	if err := s.boundRead(ctx, proto.Size(answer)); err != nil {
		return nil, err
	}
	return answer, nil
}
