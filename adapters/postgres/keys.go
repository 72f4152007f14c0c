package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
)

// keysHow is what a create does about keys that an open transaction has taken: whether they are new is not known before that
// transaction ends.
type keysHow uint8

const (
	keysWait  keysHow = iota // waits, as PostgreSQL does: in a caller's own transaction
	keysTry                  // waits for keyPatience in all and then gives up: errKeyTaken
	keysApart                // finds those keys and does without them, in an attempt behind errKeyTaken
)

// How long a statement waits for the transaction that has taken a key. Others that create the same key at the same moment are
// through in less than the first; the second is paid for each taken key, log2(n) times at most, once it is known that there is
// one.
const (
	keyPatience   = "50ms"
	apartPatience = "5ms"
)

// errKeyTaken: some key of a create is taken by an open transaction, and nothing was written.
var errKeyTaken = errors.New("an open transaction has taken a key")

// asKeyTaken is errKeyTaken where err is a wait for a lock that took too long, else err.
func asKeyTaken(err error, how keysHow) error {
	if how == keysTry && isLockTimeout(err) {
		return errKeyTaken
	}
	return err
}

func isLockTimeout(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "55P03"
}

// keyClaim is a key that a create asks for.
type keyClaim struct {
	slot  keySlot
	id    int64
	print []byte
}

var keyColumns = table.New(
	table.Col("queue_id", func(k *keyClaim) *int32 { return &k.slot.queue }),
	table.Col("key", func(k *keyClaim) *string { return &k.slot.key }),
	table.Col("task_id", func(k *keyClaim) *int64 { return &k.id }),
	table.Col("fingerprint", func(k *keyClaim) *[]byte { return &k.print }),
)

type keyClaims []keyClaim

func (k *keyClaims) addClaim(slot keySlot, o *keyOwner) {
	*k = append(*k, keyClaim{slot: slot, id: o.id, print: o.print})
}

// appendArgs returns the claims as arguments, after first.
func (k keyClaims) appendArgs(first ...sqltext.Arg) []sqltext.Arg { return keyColumns.Arrays(first, k) }

// claimAll takes keys. won are those that were free, held those that an open transaction has taken; the others have an owner.
func (k keyClaims) claimAll(ctx context.Context, t *tx, how keysHow, won, held map[keySlot]bool) error {
	each := func(r pgx.Rows) error {
		var slot keySlot
		err := r.Scan(&slot.queue, &slot.key)
		won[slot] = true
		return err
	}
	switch how {
	case keysWait:
		return t.queryRows(ctx, claimKeys, each, k.appendArgs()...)
	case keysTry:
		return asKeyTaken(t.queryRows(ctx, claimFreeKeys, each, k.appendArgs(arg("patience", keyPatience))...), how)
	case keysApart:
	}
	return k.claimByHalves(ctx, t, each, held)
}

// claimByHalves takes the keys of k; when one of them cannot be had it tries the halves.
func (k keyClaims) claimByHalves(ctx context.Context, t *tx, each func(pgx.Rows) error, held map[keySlot]bool) error {
	t.batch.Queue("savepoint pgqueue_keys")
	err := t.queryRows(ctx, claimFreeKeys, each, k.appendArgs(arg("patience", apartPatience))...)
	if !isLockTimeout(err) {
		t.batch.Queue("release savepoint pgqueue_keys")
		return err
	}

	t.batch.Queue("rollback to savepoint pgqueue_keys")
	if err := t.flushBatch(ctx); err != nil { // alone: nothing else may be prepared before it
		return err
	}
	t.batch.Queue("release savepoint pgqueue_keys")
	n := len(k)
	if n == 1 {
		held[k[0].slot] = true
		return nil
	}
	if err := k[:n/2].claimByHalves(ctx, t, each, held); err != nil {
		return err
	}
	return k[n/2:].claimByHalves(ctx, t, each, held)
}
