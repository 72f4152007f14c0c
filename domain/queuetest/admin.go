package queuetest

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// AdminStack is an Admin under test with the stores behind it.
type AdminStack struct {
	access.Admin
	Tokens access.Tokens
	Audit  access.AuditLog
}

// TestAdmin holds the stacks that open returns to the contract of [access.Admin], so that it means the same over every way in.
// The stores of a stack are empty, and each of its calls has the principal p.
func TestAdmin(t *testing.T, open func(t *testing.T, p *access.Principal) AdminStack) {
	for name, test := range map[string]func(*testing.T, AdminStack){
		"a new token comes with its secret, and with what the store has":  testAdminCreate,
		"a life is the default one, the given one, or none":               testAdminLife,
		"a wrong request of a token is KindInvalid and names its field":   testAdminCreateRefused,
		"a list has each field of a token, and no secret":                 testAdminList,
		"a rotation gives a second secret, and ends the former token":     testAdminRotate,
		"a wrong rotation is refused and changes nothing":                 testAdminRotateRefused,
		"a revocation ends a token, and so does a second one":             testAdminRevoke,
		"a text in place of an id is refused, and not repeated":           testAdminWrongID,
		"a caller sees its own identity":                                  testAdminIdentity,
		"a question about a right is answered for namespaces and queues":  testAdminCan,
		"an entry of the audit has each field, and a page its cursor":     testAdminAudit,
		"each filter of the audit arrives, and a wrong one names a field": testAdminAuditFilter,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t, access.Owner())) })
	}
	t.Run("a caller without the right is refused", func(t *testing.T) {
		testAdminDenied(t, open(t, access.NewPrincipal("viewer01", "viewer", access.KindToken, mustGrants(t, "viewer@default"))))
	})
}

// mustGrants reads grants.
func mustGrants(t *testing.T, texts ...string) []access.Grant {
	t.Helper()
	grants, err := access.ParseGrants(texts)
	if err != nil {
		t.Fatal(err)
	}
	return grants
}

// create makes a token with a life of an hour.
func (s AdminStack) create(t *testing.T, name string, grants ...string) access.IssuedToken {
	t.Helper()
	issued, err := s.CreateToken(t.Context(), access.TokenRequest{Name: name, Grants: grants, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// wantRefusal checks the kind and the field of err.
func wantRefusal(t *testing.T, what string, err error, kind queue.Kind, field string) {
	t.Helper()
	e, ok := errors.AsType[*queue.Error](err)
	if !ok || e.Kind != kind || e.Field != field {
		t.Errorf("%s: %v, want %s about %q", what, err, kind, field)
	}
}

func testAdminCreate(t *testing.T, s AdminStack) {
	issued := s.create(t, "mail workers", "worker@default/mail*", "viewer@billing")
	stored, err := s.Tokens.FindToken(t.Context(), issued.Secret.Digest())
	if err != nil {
		t.Fatal(err)
	}
	if stored.ID != issued.ID || issued.ID != issued.Secret.ID() || stored.Name != issued.Name || !slices.Equal(stored.Grants, issued.Grants) ||
		!stored.CreatedAt.Equal(issued.CreatedAt) || !stored.ExpiresAt.Equal(issued.ExpiresAt) || issued.Name != "mail workers" || len(issued.Grants) != 2 {
		t.Errorf("issued %+v, stored %+v", issued, stored)
	}
}

func testAdminLife(t *testing.T, s AdminStack) {
	for want, r := range map[time.Duration]access.TokenRequest{
		access.DefaultTokenLife: {},
		time.Minute:             {Life: time.Minute},
		access.MaxTokenLife:     {Life: access.MaxTokenLife},
	} {
		r.Name, r.Grants = "a", []string{"system@*"}
		issued, err := s.CreateToken(t.Context(), r)
		if err != nil || issued.ExpiresAt.Sub(issued.CreatedAt) != want {
			t.Errorf("%+v: %+v, %v", r, issued, err)
		}
	}
	issued, err := s.CreateToken(t.Context(), access.TokenRequest{Name: "a", Grants: []string{"system@*"}, Never: true})
	if err != nil || !issued.ExpiresAt.IsZero() {
		t.Errorf("a token that never expires: %+v, %v", issued, err)
	}
}

func testAdminCreateRefused(t *testing.T, s AdminStack) {
	grants := []string{"viewer@default"}
	for what, c := range map[string]struct {
		field   string
		request access.TokenRequest
	}{
		"no name":                {"name", access.TokenRequest{Grants: grants}},
		"a long name":            {"name", access.TokenRequest{Name: strings.Repeat("x", access.MaxTokenName+1), Grants: grants}},
		"no grant":               {"grants", access.TokenRequest{Name: "a"}},
		"101 grants":             {"grants", access.TokenRequest{Name: "a", Grants: slices.Repeat(grants, access.MaxGrants+1)}},
		"a wrong grant":          {"grant", access.TokenRequest{Name: "a", Grants: []string{"viewer"}}},
		"a short life":           {"expires", access.TokenRequest{Name: "a", Grants: grants, Life: time.Second}},
		"a long life":            {"expires", access.TokenRequest{Name: "a", Grants: grants, Life: access.MaxTokenLife + 1}},
		"a negative life":        {"expires", access.TokenRequest{Name: "a", Grants: grants, Life: -time.Hour}},
		"a life that never ends": {"expires", access.TokenRequest{Name: "a", Grants: grants, Life: time.Hour, Never: true}},
	} {
		_, err := s.CreateToken(t.Context(), c.request)
		wantRefusal(t, what, err, queue.KindInvalid, c.field)
	}
	if has, err := s.Tokens.HasTokens(t.Context()); err != nil || has {
		t.Errorf("a refused request stored a token: %v", err)
	}
}

func testAdminList(t *testing.T, s AdminStack) {
	first := s.create(t, "first", "system@*")
	second := s.create(t, "second", "worker@*/mail*")
	if err := s.Tokens.TouchToken(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RevokeToken(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	next, err := s.RotateToken(t.Context(), first.ID, access.Rotation{Overlap: time.Minute})
	if err != nil {
		t.Fatal(err)
	}

	want, err := s.Tokens.ListTokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.ListTokens(t.Context())
	if err != nil || !slices.EqualFunc(got, want, sameToken) || len(got) != 3 || got[0].Now.IsZero() {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if i := slices.IndexFunc(got, func(token access.Token) bool { return token.ID == next.ID }); i < 0 || got[i].Replaces != first.ID {
		t.Errorf("the list has no token that replaces %s: %+v", first.ID, got)
	}
}

func testAdminRotate(t *testing.T, s AdminStack) {
	for _, overlap := range []time.Duration{0, time.Minute} {
		former := s.create(t, "a", "system@*")
		next, err := s.RotateToken(t.Context(), former.ID, access.Rotation{Overlap: overlap})
		if err != nil || next.ID == former.ID || next.Replaces != former.ID || !slices.Equal(next.Grants, former.Grants) || next.Name != "a" {
			t.Fatalf("rotated to %+v, %v", next, err)
		}
		if _, err := s.Tokens.FindToken(t.Context(), next.Secret.Digest()); err != nil {
			t.Errorf("the secret is not that of the new token: %v", err)
		}
		ended, err := s.Tokens.GetToken(t.Context(), former.ID)
		if err != nil || ended.ExpiresAt.Sub(next.CreatedAt) != overlap {
			t.Errorf("with the overlap %v the former token is %+v, %v", overlap, ended, err)
		}
	}
}

func testAdminRotateRefused(t *testing.T, s AdminStack) {
	token := s.create(t, "a", "system@*")
	for _, overlap := range []time.Duration{-1, access.MaxOverlap + 1} {
		_, err := s.RotateToken(t.Context(), token.ID, access.Rotation{Overlap: overlap})
		wantRefusal(t, overlap.String(), err, queue.KindInvalid, "overlap")
	}
	_, err := s.RotateToken(t.Context(), "00000000", access.Rotation{})
	wantRefusal(t, "an unknown id", err, queue.KindNotFound, "")
	if _, err := s.RevokeToken(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	_, err = s.RotateToken(t.Context(), token.ID, access.Rotation{})
	wantRefusal(t, "a revoked token", err, queue.KindConflict, "")
	if all, err := s.ListTokens(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("the refused rotations stored tokens: %+v, %v", all, err)
	}
}

func testAdminRevoke(t *testing.T, s AdminStack) {
	token := s.create(t, "a", "system@*")
	first, err := s.RevokeToken(t.Context(), token.ID)
	if err != nil || first.ID != token.ID || first.Live() || first.RevokedAt.IsZero() {
		t.Fatalf("revoked %+v, %v", first, err)
	}
	if second, err := s.RevokeToken(t.Context(), token.ID); err != nil || !sameToken(second, first) {
		t.Errorf("the second revocation gives %+v, %v; want %+v", second, err, first)
	}
	_, err = s.RevokeToken(t.Context(), "00000000")
	wantRefusal(t, "an unknown id", err, queue.KindNotFound, "")
}

func testAdminWrongID(t *testing.T, s AdminStack) {
	secret := access.NewSecret().Reveal()
	for _, id := range []string{"short", "9 letters", "1234567é", secret} {
		_, err := s.RevokeToken(t.Context(), id)
		wantRefusal(t, id, err, queue.KindInvalid, "id")
		if strings.Contains(err.Error(), secret) {
			t.Error("the error has the secret")
		}
		_, err = s.RotateToken(t.Context(), id, access.Rotation{})
		wantRefusal(t, id, err, queue.KindInvalid, "id")
	}
}

func testAdminIdentity(t *testing.T, s AdminStack) {
	owner := access.Owner()
	got, err := s.WhoAmI(t.Context())
	want := access.Identity{ID: owner.ID, Name: owner.Name, Kind: owner.Kind, Grants: owner.Grants()}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func testAdminCan(t *testing.T, s AdminStack) {
	for _, q := range []access.Question{
		{Action: queue.ActionTaskCreate},
		{Action: queue.ActionTaskWork, Namespace: "billing", Queue: "mail"},
		{Action: queue.ActionAccessManage},
	} {
		if allowed, err := s.Can(t.Context(), q); err != nil || !allowed {
			t.Errorf("%+v: %v, %v", q, allowed, err)
		}
	}
	for field, q := range map[string]access.Question{
		"action":    {Action: "task.fly"},
		"namespace": {Action: queue.ActionTaskCreate, Namespace: "1"},
		"queue":     {Action: queue.ActionTaskCreate, Queue: "1"},
	} {
		_, err := s.Can(t.Context(), q)
		wantRefusal(t, field, err, queue.KindInvalid, field)
	}
}

func testAdminAudit(t *testing.T, s AdminStack) {
	var want []access.AuditEntry
	for range 3 {
		if err := s.Audit.RecordAudit(t.Context(), fullEntry()); err != nil {
			t.Fatal(err)
		}
		page, err := s.Audit.ListAudit(t.Context(), access.AuditFilter{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, page.Entries[0])
	}
	slices.Reverse(want)

	first, err := s.ListAudit(t.Context(), access.AuditFilter{Limit: 2})
	if err != nil || !reflect.DeepEqual(first.Entries, want[:2]) || first.Next == "" {
		t.Fatalf("got %+v, %v; want %+v", first, err, want[:2])
	}
	last, err := s.ListAudit(t.Context(), access.AuditFilter{Limit: 2, Cursor: first.Next})
	if err != nil || !reflect.DeepEqual(last.Entries, want[2:]) || last.Next != "" {
		t.Errorf("got %+v, %v; want %+v", last, err, want[2:])
	}
}

func testAdminAuditFilter(t *testing.T, s AdminStack) {
	if err := s.Audit.RecordAudit(t.Context(), fullEntry()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, f := range []access.AuditFilter{
		{},
		{Principal: "token001"},
		{Action: queue.ActionTaskOperate},
		{Namespace: "default"},
		{Queue: "mail"},
		{Outcome: access.AuditOK},
		{Since: now.Add(-time.Hour)},
		{Until: now.Add(time.Hour)},
	} {
		if page, err := s.ListAudit(t.Context(), f); err != nil || len(page.Entries) != 1 {
			t.Errorf("%+v: %+v, %v", f, page, err)
		}
	}
	for _, f := range []access.AuditFilter{
		{Principal: "token002"},
		{Action: queue.ActionQueueManage},
		{Namespace: "billing"},
		{Queue: "other"},
		{Outcome: string(queue.KindDenied)},
		{Since: now.Add(time.Hour)},
		{Until: now.Add(-time.Hour)},
	} {
		if page, err := s.ListAudit(t.Context(), f); err != nil || len(page.Entries) != 0 {
			t.Errorf("%+v: %+v, %v", f, page, err)
		}
	}
	for field, f := range map[string]access.AuditFilter{
		"principal": {Principal: strings.Repeat("x", access.MaxAuditText+1)}, "action": {Action: "task.fly"}, "namespace": {Namespace: "1"}, "queue": {Queue: "no name"},
		"outcome": {Outcome: "fine"}, "limit": {Limit: queue.MaxPage + 1}, "cursor": {Cursor: "x"},
	} {
		_, err := s.ListAudit(t.Context(), f)
		wantRefusal(t, field, err, queue.KindInvalid, field)
	}
}

// testAdminDenied calls each operation as a viewer, which has a right to the questions about itself alone.
func testAdminDenied(t *testing.T, s AdminStack) {
	ctx := t.Context()
	_, created := s.CreateToken(ctx, access.TokenRequest{Name: "a", Grants: []string{"viewer@default"}})
	_, listed := s.ListTokens(ctx)
	_, rotated := s.RotateToken(ctx, "00000000", access.Rotation{})
	_, revoked := s.RevokeToken(ctx, "00000000")
	_, audited := s.ListAudit(ctx, access.AuditFilter{})
	for what, err := range map[string]error{"create": created, "list": listed, "rotate": rotated, "revoke": revoked, "audit": audited} {
		wantRefusal(t, what, err, queue.KindDenied, "")
	}

	for q, want := range map[access.Question]bool{
		{Action: queue.ActionTaskRead}:                       true,
		{Action: queue.ActionTaskRead, Queue: "mail"}:        true,
		{Action: queue.ActionTaskRead, Namespace: "billing"}: false,
		{Action: queue.ActionTaskCreate}:                     false,
	} {
		if allowed, err := s.Can(ctx, q); err != nil || allowed != want {
			t.Errorf("%+v: %v, %v; want %v", q, allowed, err, want)
		}
	}
}
