package access_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// matrix says by hand which roles have which action. It is the second statement of the table of roles: a slip in one of the
// two fails.
const matrix = `
	task.create     producer operator admin system
	task.result     producer viewer operator admin system
	task.work       worker admin system
	task.read       observer viewer operator admin system
	task.payload    viewer operator admin system
	task.operate    operator admin system
	queue.read      producer worker observer viewer operator admin system
	queue.pause     operator admin system
	queue.manage    admin system
	ticker.read     observer viewer operator admin system
	ticker.listen   worker admin system
	ticker.run      operator admin system
	ticker.manage   admin system
	event.read      observer viewer operator admin system
	worker.read     observer viewer operator admin system
	namespace.list  producer worker observer viewer operator admin system
	system.read     system metrics
	access.self     metrics producer worker observer viewer operator admin system
	access.manage   system
	audit.read      system`

// readMatrix returns the roles of each action.
func readMatrix() map[queue.Action][]string {
	rows := map[queue.Action][]string{}
	for line := range strings.Lines(strings.TrimSpace(matrix)) {
		fields := strings.Fields(line)
		rows[queue.Action(fields[0])] = fields[1:]
	}
	return rows
}

func TestRoles(t *testing.T) {
	rows := readMatrix()
	for _, role := range access.Roles() {
		has := role.Actions()
		for action, roles := range rows {
			if want := slices.Contains(roles, string(role)); slices.Contains(has, action) != want {
				t.Errorf("%s: %s is %v, want %v", role, action, !want, want)
			}
		}
		for _, action := range has {
			if rows[action] == nil {
				t.Errorf("%s has %s, which the matrix does not have", role, action)
			}
		}
	}

	if got := access.Role("owner").Actions(); got != nil {
		t.Errorf("an unknown role has %v", got)
	}
}

// Every operation that callers may use has an action of the matrix.
func TestEachOperationHasAnAction(t *testing.T) {
	rows := readMatrix()
	for _, op := range queue.Ops() {
		if action := op.Operation().Action; action != "" && rows[action] == nil {
			t.Errorf("%s needs %s, which no role has", op, action)
		}
	}
}

func mustGrants(t *testing.T, texts ...string) []access.Grant {
	t.Helper()
	grants := make([]access.Grant, len(texts))
	for i, text := range texts {
		g, err := access.ParseGrant(text)
		if err != nil {
			t.Fatal(err)
		}
		grants[i] = g
	}
	return grants
}

// decidePlainly is the second, plain implementation of a decision.
func decidePlainly(rows map[queue.Action][]string, grants []string, action queue.Action, namespace, name string) bool {
	for _, grant := range grants {
		role, where, _ := strings.Cut(grant, "@")
		space, pattern, narrow := strings.Cut(where, "/")
		if !slices.Contains(rows[action], role) || space != "*" && space != namespace {
			continue
		}
		if !narrow || name != "" && name == pattern ||
			name != "" && strings.HasSuffix(pattern, "*") && strings.HasPrefix(name, strings.TrimSuffix(pattern, "*")) {
			return true
		}
	}
	return false
}

// TestDecisions compares both implementations over each action, role, form of grant, namespace and queue, and over pairs of
// grants.
func TestDecisions(t *testing.T) {
	rows := readMatrix()
	forms := []string{"%s@own", "%s@*", "%s@own/mail", "%s@own/mail*", "%s@*/mail", "%s@other/mail*", "%s@other"}
	var single []string
	for _, role := range access.Roles() {
		for _, form := range forms {
			if g := fmt.Sprintf(form, role); role != access.RoleSystem && role != access.RoleMetrics || form == "%s@*" {
				single = append(single, g)
			}
		}
	}

	sets := [][]string{{}}
	for i, g := range single {
		sets = append(sets, []string{g})
		sets = append(sets, []string{g, single[(i*7+3)%len(single)]})
	}

	for _, set := range sets {
		p := access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, set...))
		for action := range rows {
			for _, namespace := range []string{"own", "other", "third", ""} {
				for _, name := range []string{"", "mail", "mail-fast", "mai", "bills"} {
					want := decidePlainly(rows, set, action, namespace, name)
					if got := p.May(action, namespace, name); got != want {
						t.Fatalf("%v: %s in %q/%q is %v, want %v", set, action, namespace, name, got, want)
					}
				}
			}
		}
	}
}

func TestScope(t *testing.T) {
	p := access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "worker@own/mail*", "worker@*/bills", "viewer@own"))
	work := p.Scope(queue.ActionTaskWork, "own")
	if work.All() || work.None() || !slices.Equal(work.Patterns(), []string{"mail*", "bills"}) {
		t.Errorf("the scope of task.work has the patterns %v, all %v", work.Patterns(), work.All())
	}
	if read := p.Scope(queue.ActionTaskRead, "own"); !read.All() || !read.Has("") {
		t.Error("a grant without a queue does not hold for the namespace as a whole")
	}
	if manage := p.Scope(queue.ActionQueueManage, "own"); !manage.None() {
		t.Error("the scope of a missing right is not empty")
	}
	if unknown := p.Scope("task.burn", "own"); !unknown.None() {
		t.Error("an unknown action has a scope")
	}

	var none *access.Principal
	if !none.Scope(queue.ActionQueueRead, "own").None() {
		t.Error("the nil principal has a right")
	}
}

func TestParseGrant(t *testing.T) {
	for text, want := range map[string]access.Grant{
		"worker@default/mail*":  {Role: access.RoleWorker, Namespace: "default", Queue: "mail*"},
		"viewer@billing":        {Role: access.RoleViewer, Namespace: "billing"},
		"admin@*":               {Role: access.RoleAdmin, Namespace: "*"},
		"system@*":              {Role: access.RoleSystem, Namespace: "*"},
		"metrics@*":             {Role: access.RoleMetrics, Namespace: "*"},
		"producer@*/mail":       {Role: access.RoleProducer, Namespace: "*", Queue: "mail"},
		"operator@Billing/Mail": {Role: access.RoleOperator, Namespace: "billing", Queue: "mail"},
	} {
		got, err := access.ParseGrant(text)
		if err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
			continue
		}
		if again, err := access.ParseGrant(got.String()); err != nil || again != want {
			t.Errorf("%q reads back as %v, %v", got, again, err)
		}
	}

	for _, text := range []string{
		"", "worker", "worker@", "@default", "Worker@default", "owner@default", "worker@defa*", "worker@default/", "worker@default/*",
		"worker@default/ma*il", "worker@default/mail/x", "worker@pgqueue", "system@default", "metrics@default", "system@*/mail", "worker@**",
		"worker@default@other", "worker@1x", "worker@default/1x", "worker @default",
	} {
		g, err := access.ParseGrant(text)
		var e *queue.Error
		if !errors.As(err, &e) || e.Kind != queue.KindInvalid || e.Field != "grant" || !strings.Contains(e.Msg, "must ") || !strings.Contains(e.Msg, "got ") {
			t.Errorf("%q gives %v, %v; want KindInvalid of grant with its rule and the value", text, g, err)
		}
	}

	for _, texts := range [][]string{nil, make([]string, access.MaxGrants+1), {"viewer@billing", "x"}} {
		if _, err := access.ParseGrants(texts); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%d grants give %v", len(texts), err)
		}
	}
	if grants, err := access.ParseGrants([]string{"viewer@billing", "worker@*"}); err != nil || len(grants) != 2 {
		t.Errorf("two good grants give %v, %v", grants, err)
	}
}

// A principal hands on its own rights only.
func TestExceeds(t *testing.T) {
	for _, c := range []struct {
		own, given string
		exceeds    bool
	}{
		{"admin@billing", "viewer@billing", false},
		{"admin@billing", "viewer@billing/mail*", false},
		{"admin@billing", "viewer@other", true},
		{"admin@billing", "viewer@*", true},
		{"admin@*", "viewer@other", false},
		{"admin@*", "admin@*", false},
		{"admin@*", "system@*", true},
		{"admin@*", "metrics@*", true},
		{"system@*", "system@*", false},
		{"viewer@billing", "operator@billing", true},
		{"worker@billing/mail*", "worker@billing/mail-fast", false},
		{"worker@billing/mail*", "worker@billing/mail-f*", false},
		{"worker@billing/mail*", "worker@billing/mai*", true},
		{"worker@billing/mail", "worker@billing/mail*", true},
		{"worker@billing/mail", "worker@billing", true},
		{"worker@*/mail", "worker@billing/mail", false},
		{"worker@billing/mail", "worker@*/mail", true},
	} {
		p := access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, c.own))
		if g, exceeds := p.Exceeds(mustGrants(t, c.given)); exceeds != c.exceeds || exceeds && g.String() != c.given {
			t.Errorf("%s hands on %s: exceeds is %v (%s), want %v", c.own, c.given, exceeds, g, c.exceeds)
		}
	}

	var none *access.Principal
	if _, exceeds := none.Exceeds(mustGrants(t, "viewer@billing")); !exceeds {
		t.Error("the nil principal hands on a right")
	}
}

func TestContext(t *testing.T) {
	if p := access.From(context.Background()); p != nil {
		t.Errorf("a context without a principal has %v", p)
	}
	local := access.Local()
	if got := access.From(access.With(t.Context(), local)); got != local {
		t.Errorf("the context has %v, want %v", got, local)
	}
	for action := range readMatrix() {
		if !local.May(action, "any", "") {
			t.Errorf("the local principal may not %s", action)
		}
	}
}

// The decision for a principal with grants for whole namespaces allocates nothing.
func TestScopeAllocatesNothing(t *testing.T) {
	p := access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "worker@own", "viewer@other"))
	if n := testing.AllocsPerRun(100, func() { p.May(queue.ActionTaskWork, "own", "mail") }); n != 0 {
		t.Errorf("a decision allocates %v times", n)
	}
}

func BenchmarkMay(b *testing.B) {
	g, _ := access.ParseGrant("worker@own")
	p := access.NewPrincipal("id", "name", access.KindToken, []access.Grant{g})
	for b.Loop() {
		p.May(queue.ActionTaskWork, "own", "mail")
	}
}
