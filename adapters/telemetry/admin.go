package telemetry

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Admin returns next with metrics and spans of its calls, under the names of the table of operations. They have no argument
// and no answer of a call, because both can have secrets. Admin returns next itself when metrics and traces are off.
func (t *Telemetry) Admin(next access.Admin) access.Admin {
	if t.isOff() {
		return next
	}

	observer := &callObserver{t: t, layer: "service"}
	if t.m != nil {
		observer.calls = t.m.service
	}
	return &admin{next, observer}
}

// admin is the decorated Admin.
type admin struct {
	next     access.Admin
	observer *callObserver
}

// observeCall measures a call of op.
func observeCall[T any](ctx context.Context, a *admin, op queue.Op, do func(context.Context) (T, error)) (T, error) {
	call := queue.Call{Op: op}
	ctx, state, _ := a.observer.Start(ctx, call) // never fails
	answer, err := do(ctx)
	_ = a.observer.End(ctx, call, state, err)
	return answer, err
}

func (a *admin) CreateToken(ctx context.Context, r access.TokenRequest) (access.IssuedToken, error) {
	return observeCall(ctx, a, queue.OpCreateToken, func(ctx context.Context) (access.IssuedToken, error) { return a.next.CreateToken(ctx, r) })
}

func (a *admin) ListTokens(ctx context.Context) ([]access.Token, error) {
	return observeCall(ctx, a, queue.OpListTokens, a.next.ListTokens)
}

func (a *admin) RotateToken(ctx context.Context, id string, r access.Rotation) (access.IssuedToken, error) {
	return observeCall(ctx, a, queue.OpRotateToken, func(ctx context.Context) (access.IssuedToken, error) { return a.next.RotateToken(ctx, id, r) })
}

func (a *admin) RevokeToken(ctx context.Context, id string) (access.Token, error) {
	return observeCall(ctx, a, queue.OpRevokeToken, func(ctx context.Context) (access.Token, error) { return a.next.RevokeToken(ctx, id) })
}

func (a *admin) WhoAmI(ctx context.Context) (access.Identity, error) {
	return observeCall(ctx, a, queue.OpWhoAmI, a.next.WhoAmI)
}

func (a *admin) Can(ctx context.Context, q access.Question) (bool, error) {
	return observeCall(ctx, a, queue.OpCan, func(ctx context.Context) (bool, error) { return a.next.Can(ctx, q) })
}

func (a *admin) ListAudit(ctx context.Context, f access.AuditFilter) (access.AuditPage, error) {
	return observeCall(ctx, a, queue.OpListAudit, func(ctx context.Context) (access.AuditPage, error) { return a.next.ListAudit(ctx, f) })
}
