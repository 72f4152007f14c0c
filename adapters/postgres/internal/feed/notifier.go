package feed

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The payload of a notification is "sender ns/queue,ns/queue,…": the id of the sender, then the queues with new ready
// tasks. An empty list stands for any queue; "ns/" stands for any queue of the namespace. A sender ignores its own
// notifications, because it has woken its own waiting callers directly. A list that begins with "?" is not a wake-up:
// the sender proves to itself that LISTEN delivers.
const (
	// maxNotifyBytes keeps a payload below PostgreSQL's limit of 8,000 bytes.
	maxNotifyBytes = 7900
	// anonymous is a sender that no process ignores, the sending process included.
	anonymous = "-"
	// proofMark begins the list of a proof.
	proofMark = "?"
	// tokensPayload says that tokens have changed. An older version takes it for a wake-up of all queues.
	tokensPayload = anonymous + " !tokens"
	// notifyTimeout bounds one send: a wake-up that arrives after the next poll is useless.
	notifyTimeout = 2 * time.Second
)

// payloadFrom returns the payload of sender for wakes. A payload above maxNotifyBytes becomes one for any queue.
func payloadFrom(sender string, wakes []queue.Wake) string {
	names := make([]string, 0, len(wakes))
	size := len(sender) + 1
	for _, w := range wakes {
		name := w.Namespace + "/" + w.Queue
		if size += len(name) + 1; w.Namespace == "" || size > maxNotifyBytes {
			return sender + " "
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return sender + " " + strings.Join(slices.Compact(names), ",")
}

// parsePayload reads the output of payloadFrom. Text of another form wakes all queues: a needless wake-up costs one
// search.
func parsePayload(text string) (sender string, wakes []queue.Wake, proof string) {
	sender, list, ok := strings.Cut(text, " ")
	if proof, ok := strings.CutPrefix(list, proofMark); ok {
		return sender, nil, proof
	}
	if !ok || list == "" {
		return sender, []queue.Wake{{}}, ""
	}
	for item := range strings.SplitSeq(list, ",") {
		namespace, name, ok := strings.Cut(item, "/")
		if !ok {
			return sender, []queue.Wake{{}}, ""
		}
		wakes = append(wakes, queue.Wake{Namespace: namespace, Queue: name})
	}
	return sender, wakes, ""
}

// Notifier notifies other processes of tasks that became ready: at once when its last send is older than the interval, and
// otherwise at the end of that interval, with one statement for all queues. All methods are safe for concurrent use.
type Notifier struct {
	sender string
	config Config
	send   func(ctx context.Context, payload string) error

	// signals has one item when wake-ups are pending. The wake-ups themselves are a set, because the commits of an interval
	// name the same few queues again and again.
	signals *batch.Batcher[struct{}, struct{}, struct{}]

	mu      sync.Mutex
	pending map[queue.Wake]struct{}
	any     bool // pending exceeds maxPending: wake all queues
}

// maxPending bounds the queues that wait for a send; a payload cannot hold more names anyway.
const maxPending = 1000

// Config has the settings of a notifier.
type Config struct {
	Channel string        // of NOTIFY, one for each schema
	Every   time.Duration // the least time between two sends
	Off     bool          // sends nothing
	Failed  func(error)   // reports a send that failed
}

// NewNotifier returns the notifier of a process. It has no goroutine before the first NotifyReady.
func NewNotifier(db *txn.Database, c Config) *Notifier {
	n := &Notifier{
		sender:  rand.Text(),
		config:  c,
		pending: map[queue.Wake]struct{}{},
		send: func(ctx context.Context, payload string) error {
			values := db.Text.Values(sendWakeUps, []sqltext.Arg{arg("channel", c.Channel), arg("payload", payload)})
			_, err := db.Pool.Exec(ctx, db.Text.Of(sendWakeUps), values...)
			return err
		},
	}

	n.signals = batch.New(batch.Options[struct{}, struct{}, struct{}]{
		Commit:      n.sendPending,
		Timeout:     notifyTimeout,
		MinInterval: c.Every,
		Unclaimed: func(_ struct{}, _, _ []struct{}, err error) {
			if err != nil {
				c.Failed(err)
			}
		},
	})
	return n
}

// QueueWakeUps adds a notification to a transaction of the caller: PostgreSQL sends it at the commit. Every process
// obeys it, this one too, because it learns of that commit only by the notification.
func (n *Notifier) QueueWakeUps(t *txn.Tx, wakes []queue.Wake) {
	if len(wakes) > 0 && !n.config.Off {
		t.Queue(sendWakeUps, arg("channel", n.config.Channel), arg("payload", payloadFrom(anonymous, wakes)))
	}
}

// QueueTokenChange adds a notification of changed tokens to a transaction: PostgreSQL sends it at the commit.
func (n *Notifier) QueueTokenChange(t *txn.Tx) {
	if !n.config.Off {
		t.Queue(sendWakeUps, arg("channel", n.config.Channel), arg("payload", tokensPayload))
	}
}

// SendProof sends a notification with nonce that wakes no listener of this process, and returns its payload.
func (n *Notifier) SendProof(ctx context.Context, nonce string) (payload string, err error) {
	payload = n.sender + " " + proofMark + nonce
	return payload, n.send(ctx, payload)
}

// NotifyReady schedules a notification that the queues of wakes have ready tasks. It never blocks. After Close
// it has no effect.
func (n *Notifier) NotifyReady(wakes []queue.Wake) {
	if n.config.Off || len(wakes) == 0 {
		return
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	isFirst := len(n.pending) == 0

	// The bound keeps the memory small; beyond it one wake-up for all queues replaces the names.
	for _, w := range wakes {
		if len(n.pending) >= maxPending {
			n.any = true
			break
		}
		n.pending[w] = struct{}{}
	}

	if isFirst {
		n.signals.Add(struct{}{}, struct{}{})
	}
}

// Close sends the pending wake-ups and ends the goroutine, within twice notifyTimeout.
func (n *Notifier) Close() {
	n.signals.Close()
	n.signals.Wait()
}

// sendPending sends the pending wake-ups in one notification, which is not repeated.
func (n *Notifier) sendPending(ctx context.Context, _ struct{}, signals []struct{}) ([]struct{}, error) {
	return signals, n.send(ctx, payloadFrom(n.sender, n.takePending()))
}

// takePending returns the pending wake-ups and clears them.
func (n *Notifier) takePending() []queue.Wake {
	n.mu.Lock()
	defer n.mu.Unlock()
	wakes := slices.Collect(maps.Keys(n.pending))

	// After an overflow the names are incomplete, so the payload wakes all queues.
	if n.any {
		wakes = []queue.Wake{{}}
	}

	clear(n.pending)
	n.any = false

	return wakes
}
