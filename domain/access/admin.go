package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// DefaultOverlap is how long a rotated token stays valid when its owner names no other time.
const DefaultOverlap = 24 * time.Hour

// MaxOverlap is the longest time for which a rotated token stays valid.
const MaxOverlap = 90 * 24 * time.Hour

// Admin has the operations on tokens and rights. The principal of a call comes from its context; clients of a server send
// their credential instead. All methods are safe for concurrent use and fail with *queue.Error.
type Admin interface {
	// CreateToken makes a token. Its secret is in the answer alone: nothing can show it again. A token has only rights that
	// its creator has: KindDenied otherwise, and KindInvalid for a wrong name, grant or life. The first token of an open
	// server must have the role system, because it closes the server.
	CreateToken(ctx context.Context, r TokenRequest) (IssuedToken, error)
	// ListTokens lists the live tokens and the newest [MaxEndedTokens] of those that have ended, the newest first.
	// KindTooLarge above queue.MaxListBytes.
	ListTokens(ctx context.Context) ([]Token, error)
	// RotateToken makes a token with the name, the grants and the life of the one with id. The former one ends after the
	// overlap. KindNotFound for an unknown id, KindConflict for a token that has ended.
	RotateToken(ctx context.Context, id string, r Rotation) (IssuedToken, error)
	// RevokeToken ends a token. Every server refuses it within 10 s, and ends its open streams and waiting calls.
	RevokeToken(ctx context.Context, id string) (Token, error)
	// WhoAmI returns the identity of the caller.
	WhoAmI(ctx context.Context) (Identity, error)
	// ListAudit returns a page of the audit. KindNotFound for a store without one.
	ListAudit(ctx context.Context, f AuditFilter) (AuditPage, error)
	// Can reports whether the caller has a right. KindInvalid for an unknown action.
	Can(ctx context.Context, q Question) (bool, error)
}

// TokenRequest describes a token to be made.
type TokenRequest struct {
	// Name is for people.
	Name string
	// Grants have the form of [ParseGrant].
	Grants []string
	// Life is the time until the token expires, 1m to [MaxTokenLife]; 0 = [DefaultTokenLife].
	Life time.Duration
	// Never makes a token that does not expire. Life must be 0 then.
	Never bool
}

// Rotation describes the replacement of a token.
type Rotation struct {
	// Overlap is how long the former token stays valid, 0 to [MaxOverlap].
	Overlap time.Duration
}

// IssuedToken is a new token with its secret.
type IssuedToken struct {
	Token
	Secret Secret
}

// Identity is a principal as it sees itself.
type Identity struct {
	ID     string
	Name   string
	Kind   Kind
	Grants []Grant
}

// Question asks for one right.
type Question struct {
	Action    queue.Action
	Namespace string
	// Queue is a name; "" asks for the namespace as a whole.
	Queue string
}

// admin is the Admin over a store.
type admin struct {
	tokens Tokens
	AdminOptions
}

// AdminOptions configure an Admin. The zero value is the Admin of the owner of a database.
type AdminOptions struct {
	// Changed is called after each change of tokens, so that caches are emptied; nil = no call.
	Changed func()
	// Audit records each change of tokens and each refusal; nil = none.
	Audit *AuditRecorder
	// OtherCredential reports whether there is a credential that is not in the store, as an issuer of JWTs; nil = there is none.
	OtherCredential func() bool
}

// NewAdmin returns the operations on the tokens of a store.
func NewAdmin(tokens Tokens, o AdminOptions) Admin { return &admin{tokens, o} }

// Require returns nil when the principal of ctx has the right a in namespace as a whole. For an action of the
// installation namespace is "". KindUnauthenticated without a principal, KindDenied without the right.
func Require(ctx context.Context, a queue.Action, namespace string) error {
	s, err := findActionScope(ctx, a, namespace)
	if err != nil {
		return err
	}
	return checkNamespace(s, a, namespace)
}

// requireManage returns the principal of a call that may manage tokens.
func requireManage(ctx context.Context) (*Principal, error) {
	return From(ctx), Require(ctx, queue.ActionAccessManage, "")
}

// CreateToken makes a token, and records it.
func (a *admin) CreateToken(ctx context.Context, r TokenRequest) (IssuedToken, error) {
	issued, err := a.createToken(ctx, r)
	var changes []AuditChange
	if err == nil {
		changes = settingsOfToken(issued.Token)
	}
	a.recordChange(ctx, queue.OpCreateToken, issued.ID, err, changes...)
	return issued, err
}

// settingsOfToken returns the settings of a new token for the audit. A token that never expires has no expiry.
func settingsOfToken(t Token) []AuditChange {
	changes := []AuditChange{{Field: "name", New: t.Name}, {Field: "grants", New: strings.Join(FormatGrants(t.Grants), ",")}}
	if !t.ExpiresAt.IsZero() {
		changes = append(changes, AuditChange{Field: "expires_at", New: t.ExpiresAt.UTC().Format(time.RFC3339)})
	}
	return changes
}

// recordChange records an operation on the token with id.
func (a *admin) recordChange(ctx context.Context, op queue.Op, id string, err error, changes ...AuditChange) {
	e := entryOf(op, "", "")
	e.Token = id
	e.Changes = changes
	a.Audit.Record(ctx, e, err)
}

func (a *admin) createToken(ctx context.Context, r TokenRequest) (IssuedToken, error) {
	creator, err := requireManage(ctx)
	if err != nil {
		return IssuedToken{}, err
	}
	grants, err := ParseGrants(r.Grants)
	if err != nil {
		return IssuedToken{}, err
	}

	life := r.Life
	switch {
	case r.Never && life != 0:
		return IssuedToken{}, queue.Invalid("expires", fmt.Sprintf("must be a time or never, got %v and never; leave one out", life))
	case !r.Never && life == 0:
		life = DefaultTokenLife
	case life < 0:
		return IssuedToken{}, badLife(life)
	}

	n, secret, err := Issue(creator, r.Name, grants, life)
	if err != nil {
		return IssuedToken{}, err
	}
	// Last before the write, so that little time lies between the look for credentials and the new one.
	if err := a.checkLocal(ctx, creator, grants); err != nil {
		return IssuedToken{}, err
	}
	return a.storeToken(ctx, n, secret)
}

// checkLocal refuses changes of tokens by the local principal of an open server once there is a credential, also one that has
// ended: a token of a caller without a credential would outlive the closing of the server. grants are those of a new token, nil for
// other changes. The first token must hold the role system, because it closes the server.
func (a *admin) checkLocal(ctx context.Context, caller *Principal, grants []Grant) error {
	if caller.Kind != KindLocal {
		return nil
	}

	if a.OtherCredential != nil && a.OtherCredential() {
		return errLocalChange
	}
	tokens, err := a.tokens.ListTokens(ctx)
	switch {
	case err != nil:
		return err
	case len(tokens) > 0:
		return errLocalChange
	case grants != nil && !hasSystem(grants):
		return queue.Invalid("grants", fmt.Sprintf("must hold system@* in the first token, because it closes this server, got %.200q; create a token with system@* first", strings.Join(FormatGrants(grants), ",")))
	}
	return nil
}

var errLocalChange = &queue.Error{
	Kind: queue.KindDenied,
	Msg:  "must be a caller with a credential of the role system, because there is one, got a caller without; give its token, or use the command on the database",
}

func hasSystem(grants []Grant) bool {
	return slices.ContainsFunc(grants, func(g Grant) bool { return g.Role == RoleSystem })
}

// storeToken stores n and returns it with its secret.
func (a *admin) storeToken(ctx context.Context, n NewToken, secret Secret) (IssuedToken, error) {
	t, err := a.tokens.CreateToken(ctx, n)
	if err != nil {
		return IssuedToken{}, err
	}
	a.reportChange()
	return IssuedToken{t, secret}, nil
}

func (a *admin) reportChange() {
	if a.Changed != nil {
		a.Changed()
	}
}

// ListTokens lists the tokens. It records a refusal alone.
func (a *admin) ListTokens(ctx context.Context) ([]Token, error) {
	if _, err := requireManage(ctx); err != nil {
		a.recordChange(ctx, queue.OpListTokens, "", err)
		return nil, err
	}
	return a.tokens.ListTokens(ctx)
}

// RotateToken makes a token in place of the one with id, and records the id of the former one.
func (a *admin) RotateToken(ctx context.Context, id string, r Rotation) (IssuedToken, error) {
	issued, err := a.rotateToken(ctx, id, r)
	var changes []AuditChange
	if err == nil {
		changes = append(changes, AuditChange{Field: "token", Old: id, New: issued.ID})
		changes = append(changes, settingsOfToken(issued.Token)...)
	}
	a.recordChange(ctx, queue.OpRotateToken, auditedTokenID(id), err, changes...)
	return issued, err
}

// auditedTokenID returns id, or "" for a text of another form, which may be a whole token.
func auditedTokenID(id string) string {
	if checkTokenID(id) != nil {
		return ""
	}
	return id
}

func (a *admin) rotateToken(ctx context.Context, id string, r Rotation) (IssuedToken, error) {
	creator, err := requireManage(ctx)
	if err != nil {
		return IssuedToken{}, err
	}
	if err := a.checkLocal(ctx, creator, nil); err != nil {
		return IssuedToken{}, err
	}
	if r.Overlap < 0 || r.Overlap > MaxOverlap {
		return IssuedToken{}, queue.Invalid("overlap", fmt.Sprintf("must be 0s to %dd, got %v; choose another", int(MaxOverlap.Hours()/24), r.Overlap))
	}
	if err := checkTokenID(id); err != nil {
		return IssuedToken{}, err
	}

	former, err := a.tokens.GetToken(ctx, id)
	if err != nil {
		return IssuedToken{}, err
	}

	var life time.Duration
	if !former.ExpiresAt.IsZero() {
		// A former rotation may have shortened this life, but never below the least one of a token.
		life = max(former.ExpiresAt.Sub(former.CreatedAt), minTokenLife)
	}
	// Issue checks that the creator has these grants still: a rotation must not pass on rights that it lacks.
	n, secret, err := Issue(creator, former.Name, former.Grants, life)
	if err != nil {
		return IssuedToken{}, err
	}
	n.Replaces = id
	n.Overlap = r.Overlap
	return a.storeToken(ctx, n, secret)
}

// RevokeToken ends a token, and records it.
func (a *admin) RevokeToken(ctx context.Context, id string) (Token, error) {
	t, err := a.revokeToken(ctx, id)
	a.recordChange(ctx, queue.OpRevokeToken, auditedTokenID(id), err)
	return t, err
}

func (a *admin) revokeToken(ctx context.Context, id string) (Token, error) {
	caller, err := requireManage(ctx)
	if err != nil {
		return Token{}, err
	}
	if err := a.checkLocal(ctx, caller, nil); err != nil {
		return Token{}, err
	}
	if err := checkTokenID(id); err != nil {
		return Token{}, err
	}

	t, err := a.tokens.RevokeToken(ctx, id)
	if err == nil {
		a.reportChange()
	}
	return t, err
}

// checkTokenID refuses a text that cannot be the id of a token. A whole token is a likely slip, and its text must not reach
// a log.
func checkTokenID(id string) error {
	if strings.HasPrefix(id, secretPrefix) {
		return queue.Invalid("id", fmt.Sprintf("must be the %d letters of the id alone, got the form of a token; give the part between the underscores", idLetters))
	}
	if len(id) != idLetters || strings.Trim(id, base62) != "" {
		return queue.Invalid("id", fmt.Sprintf("must be the %d letters and digits of the id of a token, got %.64q; list the tokens", idLetters, id))
	}
	return nil
}

func (a *admin) WhoAmI(ctx context.Context) (Identity, error) {
	p := From(ctx)
	if p == nil {
		return Identity{}, errNoPrincipal
	}
	return Identity{ID: p.ID, Name: p.Name, Kind: p.Kind, Grants: p.Grants()}, nil
}

// ListAudit returns a page of the audit.
func (a *admin) ListAudit(ctx context.Context, f AuditFilter) (AuditPage, error) {
	if a.Audit == nil {
		return AuditPage{}, &queue.Error{Kind: queue.KindNotFound, Subject: "audit", Msg: "must be kept by the store, got a store without one; use PostgreSQL"}
	}
	return a.Audit.List(ctx, f)
}

func (a *admin) Can(ctx context.Context, q Question) (bool, error) {
	p := From(ctx)
	if p == nil {
		return false, errNoPrincipal
	}
	if actionBits[q.Action] == 0 {
		return false, queue.Invalid("action", fmt.Sprintf("must be one of %s, got %.64q; choose one", joinNames(Actions()), string(q.Action)))
	}

	namespace := q.Namespace
	if namespace != "" {
		normal, err := queue.NamespaceName(namespace)
		if err != nil {
			return false, err
		}
		namespace = normal
	}
	name := q.Queue
	if name != "" {
		normal, err := queue.QueueName(name)
		if err != nil {
			return false, err
		}
		name = normal
	}
	return p.May(q.Action, namespace, name), nil
}

// Actions lists every action, sorted by name.
func Actions() []queue.Action {
	all := RoleSystem.Actions()
	slices.Sort(all)
	return all
}
