package access_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// administered has a row for each operation of an Admin: the action that it needs, and a call.
var administered = map[string]struct {
	action string
	call   func(context.Context, access.Admin) error
}{
	"CreateToken": {"access.manage", func(ctx context.Context, a access.Admin) error {
		_, err := a.CreateToken(ctx, access.TokenRequest{Name: "x", Grants: []string{"viewer@own"}})
		return err
	}},
	"ListTokens": {"access.manage", func(ctx context.Context, a access.Admin) error {
		_, err := a.ListTokens(ctx)
		return err
	}},
	"RotateToken": {"access.manage", func(ctx context.Context, a access.Admin) error {
		_, err := a.RotateToken(ctx, "abcdefgh", access.Rotation{})
		return err
	}},
	"RevokeToken": {"access.manage", func(ctx context.Context, a access.Admin) error {
		_, err := a.RevokeToken(ctx, "abcdefgh")
		return err
	}},
	"WhoAmI": {"access.self", func(ctx context.Context, a access.Admin) error {
		_, err := a.WhoAmI(ctx)
		return err
	}},
	"Can": {"access.self", func(ctx context.Context, a access.Admin) error {
		_, err := a.Can(ctx, access.Question{Action: queue.ActionTaskRead, Namespace: "own"})
		return err
	}},
	"ListAudit": {"audit.read", func(ctx context.Context, a access.Admin) error {
		_, err := a.ListAudit(ctx, access.AuditFilter{})
		return err
	}},
}

// emptyTokens is a store that has no token and takes each new one.
type emptyTokens struct {
	access.Tokens
	reached *int
}

func (s emptyTokens) CreateToken(context.Context, access.NewToken) (access.Token, error) {
	*s.reached++
	return access.Token{}, nil
}

func (s emptyTokens) ListTokens(context.Context) ([]access.Token, error) {
	*s.reached++
	return nil, nil
}

func (s emptyTokens) GetToken(_ context.Context, id string) (access.Token, error) {
	*s.reached++
	return access.Token{}, access.NoToken(id)
}

func (s emptyTokens) RevokeToken(_ context.Context, id string) (access.Token, error) {
	*s.reached++
	return access.Token{}, access.NoToken(id)
}

// TestAdminDecides compares each operation on tokens and rights with the plain implementation, for each role, for a grant of
// one queue, and for a call without a principal. A refused call reaches no token.
func TestAdminDecides(t *testing.T) {
	for method := range reflect.TypeFor[access.Admin]().Methods() {
		if administered[method.Name].call == nil {
			t.Errorf("%s has no row in the table of this test", method.Name)
		}
	}
	for _, op := range queue.AdminOps() {
		if o := op.Operation(); administered[o.Method].action != string(o.Action) {
			t.Errorf("%s needs %q by the table of operations, and %q by the one of this test", o.Method, o.Action, administered[o.Method].action)
		}
	}

	rows := readMatrix()
	for method, row := range administered {
		reached := 0
		a := access.NewAdmin(emptyTokens{reached: &reached}, access.AdminOptions{Audit: access.NewAuditRecorder(access.AuditSettings{Log: &fakeLog{}})})
		if err := row.call(t.Context(), a); queue.KindOf(err) != queue.KindUnauthenticated || reached > 0 {
			t.Errorf("%s without a principal: %v, %d calls of the store", method, err, reached)
		}
		for _, role := range access.Roles() {
			for _, form := range []string{"@*", "@own/mail"} {
				if slices.Contains([]access.Role{access.RoleSystem, access.RoleMetrics}, role) && strings.Contains(form, "/") {
					continue
				}
				reached = 0
				err := row.call(as(t, "id", string(role)+form), a)
				want := slices.Contains(rows[queue.Action(row.action)], string(role))
				if denied := queue.KindOf(err) == queue.KindDenied; denied == want || !want && reached > 0 {
					t.Errorf("%s by %s%s: %v, %d calls of the store; allowed %v", method, role, form, err, reached, want)
				}
			}
		}
	}
}

// TestAnOpenServerMakesTheFirstTokenAlone: a caller without a credential may make the first token. With a credential of the role
// system at hand it changes no token: one of an unknown caller would outlive the closing of the server.
func TestAnOpenServerMakesTheFirstTokenAlone(t *testing.T) {
	ctx := access.With(t.Context(), access.Local())
	first := access.TokenRequest{Name: "x", Grants: []string{"system@*"}}
	changes := map[string]func(access.Admin) error{
		"create": func(a access.Admin) error { _, err := a.CreateToken(ctx, first); return err },
		"rotate": func(a access.Admin) error { _, err := a.RotateToken(ctx, "abcdefgh", access.Rotation{}); return err },
		"revoke": func(a access.Admin) error { _, err := a.RevokeToken(ctx, "abcdefgh"); return err },
	}
	allowed := map[string]queue.Kind{"create": "", "rotate": queue.KindNotFound, "revoke": queue.KindNotFound}
	for name, change := range changes {
		reached := 0
		open := access.NewAdmin(emptyTokens{reached: &reached}, access.AdminOptions{})
		if err := change(open); queue.KindOf(err) != allowed[name] {
			t.Errorf("%s on a server without credentials: %v, want kind %q", name, err, allowed[name])
		}

		reached = 0
		closing := access.NewAdmin(emptyTokens{reached: &reached}, access.AdminOptions{OtherCredential: func() bool { return true }})
		if err := change(closing); queue.KindOf(err) != queue.KindDenied || reached > 0 {
			t.Errorf("%s beside a credential: %v, %d calls of the store; want it denied", name, err, reached)
		}
	}
}
