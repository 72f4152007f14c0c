package wire

import (
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// Token converts t for the wire.
func Token(t access.Token) *pb.Token {
	return &pb.Token{
		Id: t.ID, Name: t.Name, Grants: access.FormatGrants(t.Grants), CreatedBy: t.CreatedBy, CreatedAt: Time(t.CreatedAt),
		ExpiresAt: Time(t.ExpiresAt), UsedAt: Time(t.UsedAt), RevokedAt: Time(t.RevokedAt), Replaces: t.Replaces, Now: Time(t.Now),
	}
}

// Token reads t from the wire. A grant of a newer server that this program does not know is left out.
func (r *Reader) Token(t *pb.Token) access.Token {
	return access.Token{
		ID: t.GetId(), Name: t.GetName(), Grants: access.ParseKnownGrants(t.GetGrants()), CreatedBy: t.GetCreatedBy(),
		CreatedAt: r.Time("created_at", t.GetCreatedAt()), ExpiresAt: r.Time("expires_at", t.GetExpiresAt()),
		UsedAt: r.Time("used_at", t.GetUsedAt()), RevokedAt: r.Time("revoked_at", t.GetRevokedAt()), Replaces: t.GetReplaces(),
		Now: r.Time("now", t.GetNow()),
	}
}

// IssuedToken converts t for the wire. The message has the secret, so it must not be printed.
func IssuedToken(t access.IssuedToken) *pb.IssuedToken {
	return &pb.IssuedToken{Token: Token(t.Token), Secret: t.Secret.Reveal()}
}

// IssuedToken reads t from the wire.
func (r *Reader) IssuedToken(t *pb.IssuedToken) access.IssuedToken {
	// The first fault counts: later fields may only be wrong because of it.
	secret, err := access.ParseSecret(t.GetSecret())
	if err != nil && r.err == nil {
		r.err = err
	}
	return access.IssuedToken{Token: r.Token(t.GetToken()), Secret: secret}
}

// TokenRequest converts t for the wire.
func TokenRequest(t access.TokenRequest) *pb.CreateTokenRequest {
	return &pb.CreateTokenRequest{Name: t.Name, Grants: t.Grants, Expires: Duration(t.Life), NeverExpires: t.Never}
}

// TokenRequest reads t from the wire. An absent life is the default, so a stated 0 is refused.
func (r *Reader) TokenRequest(t *pb.CreateTokenRequest) access.TokenRequest {
	life := r.optionalDuration("expires", t.GetExpires())
	request := access.TokenRequest{Name: t.GetName(), Grants: t.GetGrants(), Never: t.GetNeverExpires()}
	if life == nil {
		return request
	}
	// 0 on the wire was written on purpose; taken as a default it would give a token a longer life.
	if *life == 0 && r.err == nil {
		r.err = access.ErrNoLife
	}
	request.Life = *life
	return request
}

// Rotation reads a rotation from the wire.
func (r *Reader) Rotation(m *pb.RotateTokenRequest) access.Rotation {
	// An absent overlap is the default one; 0 ends the old token at once.
	if overlap := r.optionalDuration("overlap", m.GetOverlap()); overlap != nil {
		return access.Rotation{Overlap: *overlap}
	}
	// Absent is the default; a stated 0 ends the former token at once.
	return access.Rotation{Overlap: access.DefaultOverlap}
}

// AuditEntry converts e for the wire.
func AuditEntry(e access.AuditEntry) *pb.AuditEntry {
	return &pb.AuditEntry{
		Id: e.ID, At: Time(e.At), PrincipalId: e.PrincipalID, PrincipalName: e.PrincipalName, PrincipalKind: string(e.PrincipalKind),
		Issuer: e.Issuer, Subject: e.Subject, RequestId: e.RequestID, Via: string(e.Via), Remote: e.Remote, Reason: e.Reason,
		Action: string(e.Action), Operation: e.Operation, Namespace: e.Namespace, Queue: e.Queue, Ticker: e.Ticker, Task: e.Task,
		Token: e.Token, Filter: e.Filter, Ids: int64(e.IDs), DryRun: e.DryRun, Outcome: e.Outcome, Calls: int64(e.Calls),
		Matched: e.Matched, Moved: e.Moved, Changes: auditChanges(e.Changes),
	}
}

func auditChanges(changes []access.AuditChange) []*pb.AuditChange {
	var all []*pb.AuditChange
	for _, c := range changes {
		all = append(all, &pb.AuditChange{Field: c.Field, Old: c.Old, New: c.New})
	}
	return all
}

func readAuditChanges(all []*pb.AuditChange) []access.AuditChange {
	var changes []access.AuditChange
	for _, c := range all {
		changes = append(changes, access.AuditChange{Field: c.GetField(), Old: c.GetOld(), New: c.GetNew()})
	}
	return changes
}

// AuditEntry reads e from the wire.
func (r *Reader) AuditEntry(e *pb.AuditEntry) access.AuditEntry {
	return access.AuditEntry{
		ID: e.GetId(), At: r.Time("at", e.GetAt()), PrincipalID: e.GetPrincipalId(), PrincipalName: e.GetPrincipalName(),
		PrincipalKind: access.Kind(e.GetPrincipalKind()), Issuer: e.GetIssuer(), Subject: e.GetSubject(),
		Caller: access.Caller{
			RequestID: e.GetRequestId(), Via: access.Via(e.GetVia()), Remote: e.GetRemote(), Reason: e.GetReason(),
		},
		Action: queue.Action(e.GetAction()), Operation: e.GetOperation(), Namespace: e.GetNamespace(), Queue: e.GetQueue(),
		Ticker: e.GetTicker(), Task: e.GetTask(), Token: e.GetToken(), Filter: e.GetFilter(), IDs: r.Int("ids", e.GetIds()),
		DryRun: e.GetDryRun(), Outcome: e.GetOutcome(), Calls: r.Int("calls", e.GetCalls()), Matched: e.GetMatched(), Moved: e.GetMoved(),
		Changes: readAuditChanges(e.GetChanges()),
	}
}

// AuditFilter converts f for the wire.
func AuditFilter(f access.AuditFilter) *pb.ListAuditRequest {
	return &pb.ListAuditRequest{
		Since: Time(f.Since), Until: Time(f.Until), Principal: f.Principal, Action: string(f.Action), Namespace: f.Namespace,
		Queue: f.Queue, Outcome: f.Outcome, Limit: int64(f.Limit), Cursor: f.Cursor,
	}
}

// AuditFilter reads f from the wire.
func (r *Reader) AuditFilter(f *pb.ListAuditRequest) access.AuditFilter {
	return access.AuditFilter{
		Since: r.readFilterTime("since", f.GetSince()), Until: r.readFilterTime("until", f.GetUntil()), Principal: f.GetPrincipal(),
		Action: queue.Action(f.GetAction()), Namespace: f.GetNamespace(), Queue: f.GetQueue(), Outcome: f.GetOutcome(), Limit: r.Int("limit", f.GetLimit()),
		Cursor: f.GetCursor(),
	}
}
