package postgres

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ access.SessionStore = (*Store)(nil)

// storedSession is a session as its row has it.
type storedSession struct {
	id, principalID, kind, name, issuer, subject string
	grants, basis                                []string
	isCode                                       bool
	createdAt, expiresAt, usedAt                 time.Time
	endsAt, endedAt                              *time.Time
	idle                                         int64
}

// sessionColumns are the columns of a session without its digest.
var sessionColumns = table.Of[storedSession]()

// The statements on sessions.
var (
	findSessionByDigest = statement("session.by_digest")
	findSessionByID     = statement("session.by_id")
	listSessionDigests  = statement("session.digests")
	listSessions        = statement("session.list")
	lockSessions        = statement("session.lock")
	countLiveSessions   = statement("session.live")
	insertSession       = statement("session.insert")
	redeemSession       = statement("session.redeem")
	endSession          = statement("session.end")
	touchSession        = statement("session.touch")
	pruneSessions       = statement("session.prune")
)

// isLiveSession returns the condition that a session with the alias s is live, as [access.Session.Live] says: neither its life, that
// of the credential of its opener, nor its idle time is over, and neither it nor its token was ended. The statement joins the
// token as t. Each statement uses this one condition, so that a limit counts the sessions that the list shows.
func isLiveSession(s string) string {
	return s + ".ended_at is null and t.revoked_at is null and least(" + s + ".expires_at, " + s + ".ends_at, t.expires_at, " +
		s + ".used_at + pgqueue.nanos(" + s + ".idle)) > pgqueue.clock()"
}

// sessionScan collects the sessions of a result. Behind their columns are those of the token that opened them and the time
// of the database.
type sessionScan struct {
	sessions []access.Session
	room     queue.ListRoom
}

func (s *sessionScan) scanSession(rows pgx.Rows) error {
	var row storedSession
	var tokenStored bool
	var tokenExpires, tokenRevoked *time.Time
	var now time.Time
	if err := rows.Scan(append(sessionColumns.Targets(nil, &row), &tokenStored, &tokenExpires, &tokenRevoked, &now)...); err != nil {
		return err
	}

	end := row.expiresAt
	for _, other := range []*time.Time{row.endsAt, tokenExpires} {
		if other != nil && other.Before(end) {
			end = *other
		}
	}
	ended := timeFromPointer(row.endedAt)
	if ended.IsZero() {
		ended = timeFromPointer(tokenRevoked)
	}

	session := access.Session{
		ID: row.id, CreatedAt: row.createdAt.UTC(), ExpiresAt: end.UTC(), Idle: time.Duration(row.idle), UsedAt: row.usedAt.UTC(),
		EndedAt: ended, TokenStored: tokenStored, Now: now.UTC(),
		Opener: access.Opener{
			PrincipalID: row.principalID, Kind: access.Kind(row.kind), Name: row.name, Grants: access.ParseKnownGrants(row.grants),
			Issuer: row.issuer, Subject: row.subject, Basis: row.basis,
		},
	}
	s.sessions = append(s.sessions, session)
	return s.room.Add(session.Bytes(), queue.RemedySessions)
}

// CreateSession implements access.SessionStore.
func (s *Store) CreateSession(ctx context.Context, n access.NewSession) (access.Session, error) {
	const op = "create session"
	var made sessionScan
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		made = sessionScan{} // the transaction may run again after a passing fault
		var live int64
		principal := []sqltext.Arg{arg("principal_id", n.PrincipalID), arg("kind", string(n.Kind))}
		t.Queue(lockSessions, principal...)
		t.QueueQuery(countLiveSessions, func(rows pgx.Rows) error { return rows.Scan(&live) }, principal...)
		err := t.Query(ctx, insertSession, made.scanSession,
			arg("id", n.ID), arg("digest", n.Digest[:]), arg("is_code", n.IsCode), arg("principal_id", n.PrincipalID), arg("kind", string(n.Kind)),
			arg("name", n.Name), arg("grants", access.FormatGrants(n.Grants)), arg("issuer", n.Issuer), arg("subject", n.Subject),
			arg("basis", append([]string{}, n.Basis...)),
			arg("life", int64(n.Life)), arg("within", int64(n.Within)), arg("idle", int64(n.Idle)))
		switch {
		case err != nil:
			return err
		case len(made.sessions) == 0:
			return access.SessionExists(n.ID)
		case live >= access.MaxSessions:
			return access.TooManySessions()
		}
		return nil
	})
	if err != nil {
		return access.Session{}, queue.WithOp(op, err)
	}
	return made.sessions[0], nil
}

// RedeemCode implements access.SessionStore.
func (s *Store) RedeemCode(ctx context.Context, r access.Redemption) (access.Session, error) {
	const op = "redeem code"
	var made sessionScan
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		made = sessionScan{}
		return t.Query(ctx, redeemSession, made.scanSession, arg("code", r.Code[:]), arg("id", r.ID), arg("digest", r.Digest[:]),
			arg("life", int64(r.Life)), arg("idle", int64(r.Idle)))
	})
	if err != nil {
		return access.Session{}, err
	}
	if len(made.sessions) == 0 || !made.sessions[0].Live() {
		return access.Session{}, queue.WithOp(op, access.NoSession(""))
	}
	return made.sessions[0], nil
}

// FindSession implements access.SessionStore.
func (s *Store) FindSession(ctx context.Context, digest [sha256.Size]byte) (access.Session, error) {
	return s.readOneSession(ctx, "find session", "", findSessionByDigest, arg("digest", digest[:]))
}

// LiveSessionDigests implements access.SessionStore.
func (s *Store) LiveSessionDigests(ctx context.Context) ([][sha256.Size]byte, error) {
	return s.readDigests(ctx, "list digests of sessions", listSessionDigests, arg("limit", access.MaxLiveDigests))
}

// GetSession implements access.SessionStore.
func (s *Store) GetSession(ctx context.Context, id string) (access.Session, error) {
	return s.readOneSession(ctx, "get session", id, findSessionByID, arg("id", id))
}

// EndSession implements access.SessionStore.
func (s *Store) EndSession(ctx context.Context, id string) (access.Session, error) {
	return s.readOneSession(ctx, "end session", id, endSession, arg("id", id))
}

func (s *Store) readOneSession(ctx context.Context, op, id string, text sqltext.Statement, args ...sqltext.Arg) (access.Session, error) {
	var found sessionScan
	if err := s.db.Query(ctx, op, text, found.scanSession, args...); err != nil {
		return access.Session{}, err
	}
	if len(found.sessions) == 0 {
		return access.Session{}, queue.WithOp(op, access.NoSession(id))
	}
	return found.sessions[0], nil
}

// ListSessions implements access.SessionStore.
func (s *Store) ListSessions(ctx context.Context) ([]access.Session, error) {
	var found sessionScan
	if err := s.db.Query(ctx, "list sessions", listSessions, found.scanSession); err != nil {
		return nil, err
	}
	live := []access.Session{}
	for _, one := range found.sessions {
		if one.Live() {
			live = append(live, one)
		}
	}
	return live, nil
}

// TouchSession implements access.SessionStore.
func (s *Store) TouchSession(ctx context.Context, id string) error {
	return s.db.Run(ctx, "touch session", func(_ context.Context, t *txn.Tx) error {
		t.Queue(touchSession, arg("id", id))
		return nil
	})
}
