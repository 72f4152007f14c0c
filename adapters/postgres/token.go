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

var (
	_ access.Tokens       = (*Store)(nil)
	_ access.TokenWatcher = (*Store)(nil)
	_ access.TaskQueues   = (*Store)(nil)
)

// storedToken is a token as its row has it.
type storedToken struct {
	id, name, createdBy, replaces string
	grants                        []string
	createdAt                     time.Time
	expiresAt, usedAt, revokedAt  *time.Time
}

// tokenColumns are the columns of a token without its digest.
var tokenColumns = table.Of[storedToken]()

// The statements on tokens.
var (
	findTokenByDigest = statement("token.by_digest")
	findTokenByID     = statement("token.by_id")
	listTokens        = statement("token.list")
	hasTokens         = statement("token.has")
	lockToken         = statement("token.lock")
	countLiveTokens   = statement("token.live")
	endToken          = statement("token.end")
	insertToken       = statement("token.insert")
	revokeToken       = statement("token.revoke")
	touchToken        = statement("token.touch")
)

// tokenScan collects the tokens of a result. Its last column is the time of the database.
type tokenScan struct {
	tokens []access.Token
	room   queue.ListRoom
}

func (s *tokenScan) scanToken(rows pgx.Rows) error {
	var row storedToken
	var now time.Time
	if err := rows.Scan(append(tokenColumns.Targets(nil, &row), &now)...); err != nil {
		return err
	}

	token := access.Token{
		ID: row.id, Name: row.name, Grants: access.ParseKnownGrants(row.grants), CreatedBy: row.createdBy, Replaces: row.replaces, CreatedAt: row.createdAt.UTC(),
		ExpiresAt: timeFromPointer(row.expiresAt), UsedAt: timeFromPointer(row.usedAt), RevokedAt: timeFromPointer(row.revokedAt), Now: now.UTC(),
	}
	s.tokens = append(s.tokens, token)
	return s.room.Add(token.Bytes(), queue.RemedyTokens)
}

// CreateToken implements access.Tokens.
func (s *Store) CreateToken(ctx context.Context, n access.NewToken) (access.Token, error) {
	const op = "create token"
	var made tokenScan
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		made = tokenScan{} // the transaction may run again after a passing fault
		if n.Replaces != "" {
			if err := endFormerToken(ctx, t, n); err != nil {
				return err
			}
		}

		var live int64
		s.notify.QueueTokenChange(t)
		t.QueueQuery(countLiveTokens, func(rows pgx.Rows) error { return rows.Scan(&live) })
		err := t.Query(ctx, insertToken, made.scanToken,
			arg("id", n.ID), arg("digest", n.Digest[:]), arg("name", n.Name), arg("grants", access.FormatGrants(n.Grants)), arg("created_by", n.CreatedBy),
			arg("life", int64(n.Life)), arg("replaces", n.Replaces))
		switch {
		case err != nil:
			return err
		case len(made.tokens) == 0:
			return access.TokenExists(n.ID)
		case live >= access.MaxTokens:
			return access.TooManyTokens()
		}
		return nil
	})
	if err != nil {
		return access.Token{}, queue.WithOp(op, err)
	}
	return made.tokens[0], nil
}

// endFormerToken makes the token that n replaces expire after the overlap.
func endFormerToken(ctx context.Context, t *txn.Tx, n access.NewToken) error {
	var former tokenScan
	if err := t.Query(ctx, lockToken, former.scanToken, arg("id", n.Replaces)); err != nil {
		return err
	}
	switch {
	case len(former.tokens) == 0:
		return access.NoToken(n.Replaces)
	case !former.tokens[0].Live():
		return access.TokenEnded(n.Replaces)
	}
	t.Queue(endToken, arg("overlap", int64(n.Overlap)), arg("id", n.Replaces))
	return nil
}

// FindToken implements access.Tokens.
func (s *Store) FindToken(ctx context.Context, digest [sha256.Size]byte) (access.Token, error) {
	return s.readOneToken(ctx, "find token", "", findTokenByDigest, arg("digest", digest[:]))
}

// GetToken implements access.Tokens.
func (s *Store) GetToken(ctx context.Context, id string) (access.Token, error) {
	return s.readOneToken(ctx, "get token", id, findTokenByID, arg("id", id))
}

// RevokeToken implements access.Tokens.
func (s *Store) RevokeToken(ctx context.Context, id string) (access.Token, error) {
	const op = "revoke token"
	var ended tokenScan
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		ended = tokenScan{} // the transaction may run again after a passing fault
		s.notify.QueueTokenChange(t)
		if err := t.Query(ctx, revokeToken, ended.scanToken, arg("id", id)); err != nil {
			return err
		}
		if len(ended.tokens) == 0 {
			return access.NoToken(id)
		}
		return nil
	})
	if err != nil {
		return access.Token{}, queue.WithOp(op, err)
	}
	return ended.tokens[0], nil
}

func (s *Store) readOneToken(ctx context.Context, op, id string, text sqltext.Statement, args ...sqltext.Arg) (access.Token, error) {
	var found tokenScan
	if err := s.db.Query(ctx, op, text, found.scanToken, args...); err != nil {
		return access.Token{}, err
	}
	if len(found.tokens) == 0 {
		return access.Token{}, queue.WithOp(op, access.NoToken(id))
	}
	return found.tokens[0], nil
}

// WatchTokens implements access.TokenWatcher. It reports only while Listen runs, by the same connection.
func (s *Store) WatchTokens(changed func()) (stop func()) {
	return s.listener.AccessTokens.WatchTokens(changed)
}

// ListTokens implements access.Tokens.
func (s *Store) ListTokens(ctx context.Context) ([]access.Token, error) {
	list := tokenScan{tokens: []access.Token{}}
	if err := s.db.Query(ctx, "list tokens", listTokens, list.scanToken, arg("ended", access.MaxEndedTokens)); err != nil {
		return nil, err
	}
	return list.tokens, nil
}

// HasTokens implements access.Tokens.
func (s *Store) HasTokens(ctx context.Context) (bool, error) {
	var has bool
	err := s.db.Query(ctx, "has tokens", hasTokens, func(rows pgx.Rows) error { return rows.Scan(&has) })
	return has, err
}

// TouchToken implements access.Tokens.
func (s *Store) TouchToken(ctx context.Context, id string) error {
	return s.db.Run(ctx, "touch token", func(ctx context.Context, t *txn.Tx) error {
		t.Queue(touchToken, arg("id", id))
		return nil
	})
}
