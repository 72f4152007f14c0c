package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// keyTaken is errKeyTaken where err is a wait for a lock that took too long, else err.
func keyTaken(err error, how keysHow) error {
	if how == keysTry && lockTimedOut(err) {
		return errKeyTaken
	}
	return err
}

func lockTimedOut(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "55P03"
}

// keyClaims are keys that a create asks for, as columns.
type keyClaims struct {
	queues []int32
	keys   []string
	ids    []int64
	prints [][]byte
}

func (k *keyClaims) add(slot keySlot, o *keyOwner) {
	k.queues, k.keys = append(k.queues, slot.queue), append(k.keys, slot.key)
	k.ids, k.prints = append(k.ids, o.id), append(k.prints, o.print)
}

// part are the claims from one place to another.
func (k keyClaims) part(from, to int) keyClaims {
	return keyClaims{k.queues[from:to], k.keys[from:to], k.ids[from:to], k.prints[from:to]}
}

// make takes keys. won are those that were free, held those that an open transaction has taken; the others have an owner.
func (k keyClaims) make(ctx context.Context, t *tx, how keysHow, won, held map[keySlot]bool) error {
	each := func(r pgx.Rows) error {
		var slot keySlot
		err := r.Scan(&slot.queue, &slot.key)
		won[slot] = true
		return err
	}
	switch how {
	case keysWait:
		return t.read(ctx, "create.keys", each, k.queues, k.keys, k.ids, k.prints)
	case keysTry:
		return keyTaken(t.read(ctx, "create.keys.free", each, k.queues, k.keys, k.ids, k.prints, keyPatience), how)
	case keysApart:
	}
	return k.makeApart(ctx, t, each, held)
}

// makeApart takes the keys of k; when one of them cannot be had it tries the halves.
func (k keyClaims) makeApart(ctx context.Context, t *tx, each func(pgx.Rows) error, held map[keySlot]bool) error {
	t.batch.Queue("savepoint pgqueue_keys")
	err := t.read(ctx, "create.keys.free", each, k.queues, k.keys, k.ids, k.prints, apartPatience)
	if !lockTimedOut(err) {
		t.batch.Queue("release savepoint pgqueue_keys")
		return err
	}

	t.batch.Queue("rollback to savepoint pgqueue_keys")
	if err := t.flush(ctx); err != nil { // alone: nothing else may be prepared before it
		return err
	}
	t.batch.Queue("release savepoint pgqueue_keys")
	n := len(k.keys)
	if n == 1 {
		held[keySlot{k.queues[0], k.keys[0]}] = true
		return nil
	}
	if err := k.part(0, n/2).makeApart(ctx, t, each, held); err != nil {
		return err
	}
	return k.part(n/2, n).makeApart(ctx, t, each, held)
}
