package token

import (
	"context"
	"errors"
	"io"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// directAdmin is the Admin of a command on the database itself. Its errors name the operation, as those of a server do.
type directAdmin struct{ admin access.Admin }

// newDirectAdmin returns the Admin over the tokens of a database, and the recorder of its audit, which the caller must close; nil for a
// store without an audit.
func newDirectAdmin(tokens access.Tokens, stderr io.Writer) (access.Admin, *access.AuditRecorder) {
	log, ok := tokens.(access.AuditLog)
	if !ok {
		return directAdmin{access.NewAdmin(tokens, access.AdminOptions{})}, nil
	}
	audit := cmdutil.NewAuditRecorder(log, stderr)
	return directAdmin{access.NewAdmin(tokens, access.AdminOptions{Audit: audit})}, audit
}

func (a directAdmin) CreateToken(ctx context.Context, r access.TokenRequest) (access.IssuedToken, error) {
	t, err := a.admin.CreateToken(ctx, r)
	return t, nameOperation(queue.OpCreateToken, err)
}

func (a directAdmin) ListTokens(ctx context.Context) ([]access.Token, error) {
	all, err := a.admin.ListTokens(ctx)
	return all, nameOperation(queue.OpListTokens, err)
}

func (a directAdmin) RotateToken(ctx context.Context, id string, r access.Rotation) (access.IssuedToken, error) {
	t, err := a.admin.RotateToken(ctx, id, r)
	return t, nameOperation(queue.OpRotateToken, err)
}

func (a directAdmin) RevokeToken(ctx context.Context, id string) (access.Token, error) {
	t, err := a.admin.RevokeToken(ctx, id)
	return t, nameOperation(queue.OpRevokeToken, err)
}

func (a directAdmin) WhoAmI(ctx context.Context) (access.Identity, error) {
	i, err := a.admin.WhoAmI(ctx)
	return i, nameOperation(queue.OpWhoAmI, err)
}

func (a directAdmin) ListAudit(ctx context.Context, f access.AuditFilter) (access.AuditPage, error) {
	page, err := a.admin.ListAudit(ctx, f)
	return page, nameOperation(queue.OpListAudit, err)
}

func (a directAdmin) Can(ctx context.Context, q access.Question) (bool, error) {
	allowed, err := a.admin.Can(ctx, q)
	return allowed, nameOperation(queue.OpCan, err)
}

// nameOperation returns err with the operation of the command, also in place of a part of it: a rotation reads the former token.
func nameOperation(op queue.Op, err error) error {
	e, ok := errors.AsType[*queue.Error](err)
	if !ok {
		return err
	}
	named := *e
	named.Op = op.String()
	return &named
}
