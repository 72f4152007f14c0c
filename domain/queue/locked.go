package queue

import (
	"context"
	"errors"
	"fmt"
)

// errLocked marks errors of Locked.
var errLocked = errors.New("locked by an open transaction")

// Locked answers an element of a call while another transaction holds a lock on its row: nothing was changed, and the same call is
// good once that transaction has ended. It is of KindUnavailable.
func Locked(id int64) error {
	return &Error{
		Kind: KindUnavailable, Subject: fmt.Sprintf("task %d", id), Err: errLocked,
		Msg: "nothing was changed; repeat the call when that transaction has ended",
	}
}

// LockedKey is the same for a create with a key that an open transaction uses.
func LockedKey(name, key string) error {
	return &Error{
		Kind: KindUnavailable, Subject: "queue " + name, Field: "key", Err: errLocked,
		Msg: fmt.Sprintf("key %.64q is in use; nothing was changed; repeat the call when that transaction has ended", key),
	}
}

// IsLocked reports whether err is of Locked or LockedKey.
func IsLocked(err error) bool { return errors.Is(err, errLocked) }

type withoutWait struct{}

// WithoutWait has a Store answer elements that another transaction has locked with Locked at once, instead of trying them
// again until ctx ends: many callers share the call, and none waits for what only another needs.
func WithoutWait(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutWait{}, true)
}

// Waits reports whether a Store is to wait for what another transaction has locked.
func Waits(ctx context.Context) bool { return ctx.Value(withoutWait{}) == nil }
