package postgres

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A notification's payload is "sender ns/queue,ns/queue,…": who sends, then the queues in which tasks became ready. No
// queues mean any queue; "ns/" means any of the namespace. A sender skips what it sent itself: it has woken its own
// consumers directly. A list that begins with "?" is a sender's proof to itself that LISTEN delivers, no hint.
const (
	// maxNotifyBytes keeps a payload below PostgreSQL's limit of 8,000 bytes.
	maxNotifyBytes = 7900
	// anonymous sends for everyone, the process of the sender too.
	anonymous = "-"
	// proofMark begins the list of a proof.
	proofMark = "?"
	// notifyTimeout bounds one send: a hint that comes later than a poll is none.
	notifyTimeout = 2 * time.Second
)

// encodeWakeUps is the payload that tells every process of wakes, this one too: for a notification inside a caller's
// transaction, of whose commit this process hears like any other.
func encodeWakeUps(wakes []queue.Wake) string { return payloadFrom(anonymous, wakes) }

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

// parsePayload undoes payloadFrom. What it does not understand wakes everyone: a hint too much costs one look.
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

// notifier tells other processes of tasks that became ready: at once when it has not done so for notifyEvery, else when
// that time is over, one statement for all queues until then. Its goroutine lives only while there is something to send.
type notifier struct {
	sender string
	every  time.Duration
	off    bool
	send   func(ctx context.Context, payload string) error
	failed func(error)

	quit chan struct{} // closed by close: send what is there and end
	done sync.WaitGroup

	mu      sync.Mutex
	pending map[queue.Wake]struct{}
	any     bool // more than can be told one by one
	running bool
	closed  bool
	last    time.Time // of the last send
}

// maxPending bounds the queues that wait to be told; more would not fit into a payload anyway.
const maxPending = 1000

var sendWakeUps = statement("notify.send")

func newNotifier(s *Store) *notifier {
	return &notifier{
		sender:  rand.Text(),
		every:   s.opt.notifyEvery,
		off:     s.opt.noNotify,
		quit:    make(chan struct{}),
		pending: map[queue.Wake]struct{}{},
		send: func(ctx context.Context, payload string) error {
			_, err := s.pool.Exec(ctx, s.sql.Of(sendWakeUps), s.sql.Values(sendWakeUps, []sqltext.Arg{arg("channel", s.notifyChannel()), arg("payload", payload)})...)
			return err
		},
		failed: func(err error) {
			s.opt.logger.Warn("could not notify other processes; they will find the tasks by polling", "error", err)
		},
	}
}

// notifyReady says that tasks became ready in these queues. It never blocks. After close it does nothing.
func (n *notifier) notifyReady(wakes []queue.Wake) {
	if n.off || len(wakes) == 0 {
		return
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}

	for _, w := range wakes {
		if len(n.pending) >= maxPending {
			n.any = true
			break
		}
		n.pending[w] = struct{}{}
	}

	if !n.running {
		n.running = true
		n.done.Go(n.runNotifier)
	}
}

// closeNotifier sends what is still to be told and ends the goroutine, within twice notifyTimeout.
func (n *notifier) closeNotifier() {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.quit)
	}
	n.mu.Unlock()
	n.done.Wait()
}

func (n *notifier) runNotifier() {
	for {
		n.pauseNotifier()
		wakes, ok := n.takePending()
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
		if err := n.send(ctx, payloadFrom(n.sender, wakes)); err != nil {
			n.failed(err)
		}
		cancel()
	}
}

// pauseNotifier waits until the next send is allowed.
func (n *notifier) pauseNotifier() {
	n.mu.Lock()
	wait := n.every - time.Since(n.last)
	n.mu.Unlock()
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.quit:
	}
}

// takePending empties what is pending; not ok when there is nothing, and then the goroutine has ended.
func (n *notifier) takePending() ([]queue.Wake, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.pending) == 0 {
		n.running = false
		return nil, false
	}

	wakes := make([]queue.Wake, 0, len(n.pending))
	for w := range n.pending {
		wakes = append(wakes, w)
	}

	if n.any {
		wakes = []queue.Wake{{}}
	}

	clear(n.pending)
	n.any = false
	n.last = time.Now()
	return wakes, true
}
