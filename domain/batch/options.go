package batch

import (
	"cmp"
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// Defaults of the options.
const (
	DefaultMaxItems   = 1000
	DefaultMaxBytes   = 8 << 20
	DefaultMaxWaiting = 100_000
)

// Options configures a [Batcher]. Commit is required; zero fields mean their defaults.
type Options[K comparable, In, Out any] struct {
	// Commit carries out a batch and answers its items in order. An error says that nothing of the batch was done, unless
	// its kind says otherwise. Many goroutines call it at once, for one key at most as many as MaxInFlight allows.
	Commit func(ctx context.Context, key K, items []In) ([]Out, error)
	// Context bounds all commits: its end cancels them. Default: context.Background().
	Context context.Context //nolint:containedctx // bounds the commits of the Batcher's goroutines, not a request
	// Timeout bounds one commit. 0 = none.
	Timeout time.Duration
	// Go starts a goroutine of the Batcher and reports whether it did. Default: goroutines that [Batcher.Wait] waits for.
	Go func(func()) bool
	// Owner names the component in errors, as "manager".
	Owner string

	// MaxItems bounds the items of one batch, MaxBytes their bytes. A call that alone has more goes alone.
	MaxItems, MaxBytes int
	// MaxInFlight bounds the batches of one key in flight. Default 1: more gain nothing for small batches.
	MaxInFlight int
	// MaxFullInFlight bounds them while the next batch has a weight of MaxItems or more. Default: MaxInFlight.
	MaxFullInFlight int
	// MaxGoroutines bounds the batches in flight over all keys. Default: as many as one key may have.
	MaxGoroutines int
	// MaxWaiting bounds the callers of Do that wait, and the items of Add that were not sent.
	MaxWaiting int
	// MaxDelay holds each batch back for more items to join. MinInterval is the least time between two batches.
	MaxDelay, MinInterval time.Duration
	// FailurePause, when its Min is set, keeps a key from sending its next batch after one that failed as a whole.
	FailurePause retry.Backoff

	// Bytes measures an item for MaxBytes. Default: 0 bytes.
	Bytes func(In) int
	// Weight measures an item for MaxFullInFlight. Default: 1.
	Weight func(In) int
	// Copy appends the memory that the caller may change after its call to dst, and points the item at the copy. Restore
	// points the answer at the caller's own memory again. Default: items are not copied.
	Copy    func(dst []byte, item *In) []byte
	Restore func(answer *Out, item In)
	// Number notes on an item the number of its call in the batch, from 1. Default: the service does not need it.
	Number func(item *In, call int)
	// Locked selects the answers of items that another transaction has locked. Do tries these again, apart from other
	// items. Default: none.
	Locked func(Out) bool
	// FaultOf says whether an error of Commit may be the fault of one item. Default: [FaultOf].
	FaultOf func(error) Fault
	// Unclaimed takes the answers that no caller waits for: of items of Add, and of callers that left. outs are nil when
	// err is set. It runs before the next batch of its goroutine.
	Unclaimed func(key K, items []In, outs []Out, err error)
	// Unanswered is the kind of error for a caller that leaves, or a Timeout that passes, during a commit:
	// KindIndeterminate where the commit may have happened, else KindUnavailable, the default.
	Unanswered queue.Kind
}

func (o *Options[K, In, Out]) setDefaults() {
	o.MaxItems = cmp.Or(o.MaxItems, DefaultMaxItems)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 1)
	o.MaxFullInFlight = cmp.Or(o.MaxFullInFlight, o.MaxInFlight)
	o.MaxGoroutines = cmp.Or(o.MaxGoroutines, max(o.MaxInFlight, o.MaxFullInFlight))
	o.MaxWaiting = cmp.Or(o.MaxWaiting, DefaultMaxWaiting)
	o.Owner = cmp.Or(o.Owner, "batcher")
	o.Unanswered = cmp.Or(o.Unanswered, queue.KindUnavailable)

	if o.Context == nil {
		o.Context = context.Background()
	}
	if o.FaultOf == nil {
		o.FaultOf = FaultOf
	}
}
