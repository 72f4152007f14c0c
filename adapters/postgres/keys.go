package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// keysHow selects the behaviour of a create at keys that an open transaction has taken. The create learns only at the
// end of that transaction whether such a key is new.
type keysHow uint8

const (
	keysWait  keysHow = iota // waits without a limit, as PostgreSQL does; for a transaction of the caller
	keysTry                  // waits for keyPatience in total, then returns errKeyTaken
	keysApart                // finds the taken keys and leaves them out; the attempt after errKeyTaken
)

// These limits bound the wait of one statement for the transaction that has taken a key. Concurrent creates of the same
// key end in less than keyPatience. An attempt pays apartPatience only after errKeyTaken, at most log2(n) times for
// each taken key.
const (
	keyPatience   = "50ms"
	apartPatience = "5ms"
)

// errKeyTaken reports that an open transaction has taken a key of a create. The create has written nothing.
var errKeyTaken = errors.New("an open transaction has taken a key")

// asKeyTaken returns errKeyTaken for a lock timeout under keysTry, and err in all other cases.
func asKeyTaken(err error, how keysHow) error {
	if how == keysTry && isPgCode(err, sqlstate.LockNotAvailable) {
		return errKeyTaken
	}
	return err
}

// keyClaim is a key that a create asks for.
type keyClaim struct {
	keySlot
	taskID      int64
	fingerprint []byte
}

var keyColumns = table.Of[keyClaim]()

type keyClaims []keyClaim

func (k *keyClaims) addClaim(slot keySlot, o *keyOwner) {
	*k = append(*k, keyClaim{keySlot: slot, taskID: o.id, fingerprint: o.print})
}

// appendArgs returns the arguments first and then the columns of the claims.
func (k keyClaims) appendArgs(first ...sqltext.Arg) []sqltext.Arg { return keyColumns.Arrays(first, k) }

// claimAll takes the keys of k. It adds the keys that were free to won, and those of an open transaction to held. All
// other keys have an owner already.
func (k keyClaims) claimAll(ctx context.Context, t *txn.Tx, how keysHow, won, held map[keySlot]bool) error {
	each := func(r pgx.Rows) error {
		var slot keySlot
		err := r.Scan(&slot.queueID, &slot.key)
		won[slot] = true
		return err
	}
	switch how {
	case keysWait:
		return t.Query(ctx, claimKeys, each, k.appendArgs()...)
	case keysTry:
		return asKeyTaken(t.Query(ctx, claimFreeKeys, each, k.appendArgs(arg("patience", keyPatience))...), how)
	case keysApart:
	}
	return k.claimByHalves(ctx, t, each, held)
}

// claimByHalves takes the keys of k. When an open transaction has one of them, it tries both halves. A half of one key
// goes to held.
func (k keyClaims) claimByHalves(ctx context.Context, t *txn.Tx, each func(pgx.Rows) error, held map[keySlot]bool) error {
	t.QueueText("savepoint pgqueue_keys")
	err := t.Query(ctx, claimFreeKeys, each, k.appendArgs(arg("patience", apartPatience))...)
	if !isPgCode(err, sqlstate.LockNotAvailable) {
		t.QueueText("release savepoint pgqueue_keys")
		return err
	}

	t.QueueText("rollback to savepoint pgqueue_keys")
	// The aborted transaction refuses to prepare any other statement, so the rollback travels alone.
	if err := t.Flush(ctx); err != nil {
		return err
	}
	t.QueueText("release savepoint pgqueue_keys")

	// A failed claim of a single key identifies the taken key.
	n := len(k)
	if n == 1 {
		held[k[0].keySlot] = true
		return nil
	}

	// The search halves again until each taken key stands alone.
	if err := k[:n/2].claimByHalves(ctx, t, each, held); err != nil {
		return err
	}
	return k[n/2:].claimByHalves(ctx, t, each, held)
}
