package access

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Kind is the kind of credential that proved the identity of a principal.
type Kind string

// The kinds of principals.
const (
	KindToken       Kind = "token"
	KindSession     Kind = "session"
	KindJWT         Kind = "jwt"
	KindCertificate Kind = "certificate"
	// KindLocal is the caller of an open server; it proved nothing.
	KindLocal Kind = "local"
	// KindDatabase is a program with a connection to the database of its own.
	KindDatabase Kind = "database"
)

// Principal is a caller with its rights. It is immutable and safe for concurrent use. The nil Principal has no rights.
type Principal struct {
	// ID identifies the principal in logs and in the audit, as the public part of a token. It is not secret.
	ID string
	// Name is for people.
	Name string
	Kind Kind
	// Issuer and Subject identify the owner of a JWT for the audit; "" for other kinds. They are set before the principal is
	// shared.
	Issuer  string
	Subject string
	// basis is the [Opener.Basis] of a session that the principal opens.
	basis []string
	// expires is the end of such a credential, mapped the rules that gave it grants, and trusted the Trusted of its proof.
	expires time.Time
	mapped  *ruleSet
	trusted func() bool
	grants  []Grant
	// everywhere has the actions of grants for all namespaces, wide those of grants for all queues of a namespace.
	everywhere actionSet
	wide       map[string]actionSet
	narrow     []narrowGrant
}

// narrowGrant is a grant for some queues.
type narrowGrant struct {
	Grant
	actions actionSet
}

// NewPrincipal returns a principal with the rights of grants.
func NewPrincipal(id, name string, kind Kind, grants []Grant) *Principal {
	p := &Principal{ID: id, Name: name, Kind: kind, grants: slices.Clone(grants), wide: map[string]actionSet{}}
	for _, g := range grants {
		set := collectActions(g.Role)
		switch {
		case g.Queue != "":
			p.narrow = append(p.narrow, narrowGrant{g, set})
		case g.Namespace == "*":
			p.everywhere |= set
		default:
			p.wide[g.Namespace] |= set
		}
	}
	return p
}

// Local is the principal of a caller of an open server: it has every right.
func Local() *Principal {
	return NewPrincipal("local", "local", KindLocal, []Grant{{Role: RoleSystem, Namespace: "*"}})
}

// Owner is the principal of a program that works on the database directly: it has every right.
func Owner() *Principal {
	return NewPrincipal("database", "database", KindDatabase, []Grant{{Role: RoleSystem, Namespace: "*"}})
}

// Grants returns the grants of p.
func (p *Principal) Grants() []Grant { return slices.Clone(p.grants) }

// Scope is the set of queues of one namespace in which a principal has a right. The zero Scope is empty.
type Scope struct {
	all      bool
	patterns []string
}

// All reports whether the right holds in every queue, and so for the namespace as a whole.
func (s Scope) All() bool { return s.all }

// None reports whether the right holds nowhere.
func (s Scope) None() bool { return !s.all && len(s.patterns) == 0 }

// Has reports whether the right holds in the queue called name; "" means the namespace as a whole.
func (s Scope) Has(name string) bool {
	return s.all || name != "" && slices.ContainsFunc(s.patterns, func(pattern string) bool { return matchesPattern(pattern, name) })
}

// Patterns returns the names of queues, or starts of names with a final "*", when the right holds in some queues.
func (s Scope) Patterns() []string { return slices.Clone(s.patterns) }

// Scope returns where p may do a in namespace. For an action of the installation namespace is "". It allocates only for a
// principal with grants for some queues.
func (p *Principal) Scope(a queue.Action, namespace string) Scope {
	return p.findScope(actionBits[a], namespace)
}

// findScope is Scope for the bit of an action; 0 is an unknown one.
func (p *Principal) findScope(bit actionSet, namespace string) Scope {
	if p == nil || bit == 0 {
		return Scope{}
	}
	if p.everywhere&bit != 0 || p.wide[namespace]&bit != 0 {
		return Scope{all: true}
	}

	var s Scope
	for _, g := range p.narrow {
		if g.coversNamespace(namespace) && g.actions&bit != 0 {
			s.patterns = append(s.patterns, g.Queue)
		}
	}
	return s
}

// hasSomewhere reports whether p may do a in any queue of any namespace.
func (p *Principal) hasSomewhere(a queue.Action) bool {
	return slices.ContainsFunc(p.grants, func(g Grant) bool { return collectActions(g.Role)&actionBits[a] != 0 })
}

// May reports whether p may do a in the queue called name of namespace; name "" means the namespace as a whole.
func (p *Principal) May(a queue.Action, namespace, name string) bool {
	return p.Scope(a, namespace).Has(name)
}

// Exceeds returns the first of grants that gives a right which p does not have, and true; false when p has all of them. A
// principal can hand on only its own rights.
func (p *Principal) Exceeds(grants []Grant) (Grant, bool) {
	for _, g := range grants {
		for _, a := range g.Role.Actions() {
			if !p.covers(a, g) {
				return g, true
			}
		}
	}
	return Grant{}, false
}

// covers reports whether p may do a everywhere where g holds.
func (p *Principal) covers(a queue.Action, g Grant) bool {
	bit := actionBits[a]
	if p == nil || bit == 0 {
		return false
	}
	if p.everywhere&bit != 0 || p.wide[g.Namespace]&bit != 0 {
		return true
	}

	return g.Queue != "" && slices.ContainsFunc(p.narrow, func(own narrowGrant) bool {
		return own.coversNamespace(g.Namespace) && own.actions&bit != 0 && coversPattern(own.Queue, g.Queue)
	})
}

// coversPattern reports whether outer matches every name that inner matches.
func coversPattern(outer, inner string) bool {
	if outer == inner {
		return true
	}
	// The text before the final "*" of inner is the shortest name that it matches; "*" is not a letter of a name.
	return outer[len(outer)-1] == '*' && matchesPattern(outer, inner)
}

// key is the key of the principal in a context.
type key struct{}

// With returns ctx with the principal of its call.
func With(ctx context.Context, p *Principal) context.Context { return context.WithValue(ctx, key{}, p) }

// From returns the principal of a call; nil without one.
func From(ctx context.Context) *Principal {
	p, _ := ctx.Value(key{}).(*Principal)
	return p
}
