package connectclient

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

var _ access.Admin = (*Client)(nil)

// CreateToken makes a token. It is not repeated after an unknown result, because a repeat would make a second one.
func (c *Client) CreateToken(ctx context.Context, request access.TokenRequest) (access.IssuedToken, error) {
	res, err := sendCall(ctx, c, queue.OpCreateToken, c.access.CreateToken, wire.TokenRequest(request))
	return readAnswer(res.GetIssued(), err, (*wire.Reader).IssuedToken)
}

// RotateToken makes a token in place of the one with id.
func (c *Client) RotateToken(ctx context.Context, id string, r access.Rotation) (access.IssuedToken, error) {
	res, err := sendCall(ctx, c, queue.OpRotateToken, c.access.RotateToken, &pb.RotateTokenRequest{
		Id: id, Overlap: durationpb.New(r.Overlap),
	})
	return readAnswer(res.GetIssued(), err, (*wire.Reader).IssuedToken)
}

// ListTokens lists the tokens, the newest first.
func (c *Client) ListTokens(ctx context.Context) ([]access.Token, error) {
	res, err := sendCall(ctx, c, queue.OpListTokens, c.access.ListTokens, &pb.ListTokensRequest{})
	return readEach(res.GetTokens(), err, (*wire.Reader).Token)
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, id string) (access.Token, error) {
	res, err := sendRepeated(ctx, c, queue.OpRevokeToken, repeatable, c.access.RevokeToken, &pb.RevokeTokenRequest{Id: id})
	return readAnswer(res.GetToken(), err, (*wire.Reader).Token)
}

// WhoAmI returns the identity that the server sees.
func (c *Client) WhoAmI(ctx context.Context) (access.Identity, error) {
	res, err := sendCall(ctx, c, queue.OpWhoAmI, c.access.WhoAmI, &pb.WhoAmIRequest{})
	if err != nil {
		return access.Identity{}, err
	}
	return access.Identity{
		ID: res.GetId(), Name: res.GetName(), Kind: access.Kind(res.GetKind()), Grants: access.ParseKnownGrants(res.GetGrants()),
	}, nil
}

// Can reports whether the credential of the client has a right. Without a namespace it asks for that of the client.
func (c *Client) Can(ctx context.Context, q access.Question) (bool, error) {
	namespace := q.Namespace
	if namespace == "" {
		namespace = c.namespace
	}
	res, err := sendCall(ctx, c, queue.OpCan, c.access.Can, &pb.CanRequest{
		Namespace: namespace, Action: string(q.Action), Queue: q.Queue,
	})
	return res.GetAllowed(), err
}

// ListAudit returns a page of the audit. The namespace of the client does not filter.
func (c *Client) ListAudit(ctx context.Context, f access.AuditFilter) (access.AuditPage, error) {
	res, err := sendCall(ctx, c, queue.OpListAudit, c.access.ListAudit, wire.AuditFilter(f))
	entries, err := readEach(res.GetEntries(), err, (*wire.Reader).AuditEntry)
	return access.AuditPage{Entries: entries, Next: res.GetNext()}, err
}
