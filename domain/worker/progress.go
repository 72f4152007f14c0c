package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Bounds of the progress that a handler reports. The whole document has at most queue.MaxProgressBytes.
const (
	// MaxProgressValueBytes bounds the value of Progress as JSON.
	MaxProgressValueBytes = queue.MaxProgressBytes / 2
	// MaxLogLineBytes bounds one log line; a longer line is cut.
	MaxLogLineBytes = 1 << 10
	// MaxLogLines bounds the log lines kept; the newest stay.
	MaxLogLines = 100
	// progressPace is the shortest time between two progress reports of a task. Flush does not wait for it.
	progressPace = time.Second
	// reportOverhead bounds the bytes of the document besides the value and the lines.
	reportOverhead = 64
)

// progressReport is the progress that the handler of one task has reported. Its document is
//
//	{"progress": <value>, "log": [{"at": "<RFC 3339, the worker's clock>", "line": "…"}, …], "log_dropped": <n>}
//
// An absent value, an empty log and a zero count are left out.
type progressReport struct {
	mu      sync.Mutex
	value   json.RawMessage
	lines   []json.RawMessage
	size    int // bytes of lines, with their commas
	dropped int
	// version grows by one with each change; seen is the last version that the service has.
	version, seen int
	// flushes are the calls of Flush that wait until the service has their version.
	flushes []flushed
}

type flushed struct {
	version int
	done    chan error
}

// Progress reports the progress of the handler of ctx: v is any JSON of at most MaxProgressValueBytes. It does not
// wait. The next heartbeat carries the value, within a second; of several values in that time the last counts. Outside
// a handler it returns ErrNoTask, for a v that cannot be stored KindTooLarge or KindInvalid.
func Progress(ctx context.Context, v any) error {
	h := heldTaskFrom(ctx)
	if h == nil {
		return ErrNoTask
	}

	b, err := copyJSON(v)
	if err != nil {
		return queue.At("progress", err)
	}
	// Marshal gives no bytes for nil. The document needs a value there.
	if len(b) == 0 {
		b = json.RawMessage("null")
	}
	if err := queue.CheckJSON("progress", b, MaxProgressValueBytes); err != nil {
		return err
	}
	h.changeReport(func(n *progressReport) { n.value = b })
	return nil
}

// Logf adds a line to the log of the task of ctx. The service stores the log with the progress: the newest lines, at
// most MaxLogLines and queue.MaxProgressBytes. Outside a handler it does nothing.
func Logf(ctx context.Context, format string, args ...any) {
	h := heldTaskFrom(ctx)
	if h == nil {
		return
	}
	line := strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")
	if len(line) > MaxLogLineBytes {
		// The cut may have split a character.
		line = strings.ToValidUTF8(line[:MaxLogLineBytes], "")
	}

	b, err := json.Marshal(struct {
		At   time.Time `json:"at"`
		Line string    `json:"line"`
	}{time.Now().UTC(), line})
	if err != nil { // cannot happen: a valid time and a valid string always marshal
		return
	}
	h.changeReport(func(n *progressReport) {
		n.lines = append(n.lines, b)
		n.size += len(b) + 1
	})
}

// Flush sends the progress of the handler of ctx now, and waits until the service has it. One call carries the flushes
// of several tasks. The error is that of the service, or the cause of ctx's end: then the release carries the progress.
func Flush(ctx context.Context) error {
	h := heldTaskFrom(ctx)
	if h == nil {
		return ErrNoTask
	}

	n := h.progress.Load()
	if n == nil || h.run == nil {
		return nil
	}
	done := n.awaitFlush()
	if done == nil {
		return nil
	}

	if !h.run.advanceHeartbeat(h, time.Now()) {
		return ErrLeaseLost
	}

	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	// The run has ended, so no heartbeat will answer.
	case <-h.run.calls.Done():
		return ErrDraining
	}
}

// awaitFlush returns a channel that receives once the service has the current version; nil when it has it already.
func (n *progressReport) awaitFlush() <-chan error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.version == n.seen {
		return nil
	}
	done := make(chan error, 1)
	n.flushes = append(n.flushes, flushed{n.version, done})
	return done
}

// answerFlushes ends all waiting flushes with err.
func (n *progressReport) answerFlushes(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.flushes {
		f.done <- err
	}
	n.flushes = nil
}

// changeReport changes the progress of h and schedules the heartbeat that carries it.
func (h *heldTask) changeReport(change func(*progressReport)) {
	n := h.progress.Load()
	if n == nil {
		// Two goroutines of a handler may report first. Both use the one that won.
		h.progress.CompareAndSwap(nil, &progressReport{})
		n = h.progress.Load()
	}

	n.mu.Lock()
	change(n)
	n.dropOldLines()
	// Later changes ride with the heartbeat that the first one has scheduled.
	first := n.version == n.seen
	n.version++
	n.mu.Unlock()

	if first && h.run != nil {
		h.run.advanceHeartbeat(h, time.Now().Add(progressPace))
	}
}

// advanceHeartbeat moves the next heartbeat of h forward to by. It returns false when h is no longer held.
func (r *run) advanceHeartbeat(h *heldTask, by time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.pos < 0 {
		return false
	}
	if by.Before(h.heartbeatDue) {
		h.heartbeatDue = by
		r.wakeHeartbeaterBy(by)
	}
	return true
}

// dropOldLines drops the oldest lines until the document fits its bounds. The caller holds mu.
func (n *progressReport) dropOldLines() {
	drop, size := 0, n.size
	for len(n.lines)-drop > MaxLogLines || reportOverhead+len(n.value)+size > queue.MaxProgressBytes {
		size -= len(n.lines[drop]) + 1
		drop++
	}
	n.lines, n.size = slices.Delete(n.lines, 0, drop), size
	n.dropped += drop
}

// hasUnsent reports whether the service lacks the current version.
func (n *progressReport) hasUnsent() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version != n.seen
}

// encodeUnsent encodes the document as JSON, or nil when the service has it. It also returns the version.
func (n *progressReport) encodeUnsent() (json.RawMessage, int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.version == n.seen {
		return nil, n.version
	}

	b := make([]byte, 0, reportOverhead+len(n.value)+n.size)
	b = append(b, '{')
	if n.value != nil {
		b = append(append(b, `"progress":`...), n.value...)
	}

	if len(n.lines) > 0 {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, `"log":[`...)
		for i, l := range n.lines {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, l...)
		}
		b = append(b, ']')
	}

	if n.dropped > 0 {
		b = fmt.Appendf(b, `,"log_dropped":%d`, n.dropped)
	}
	return append(b, '}'), n.version
}

// recordSent records that the service has the version. It reports whether a newer version exists, and whether a Flush
// waits for that.
func (n *progressReport) recordSent(version int) (newer, urgent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = max(n.seen, version)
	n.flushes = slices.DeleteFunc(n.flushes, func(f flushed) bool {
		if f.version > n.seen {
			return false
		}
		f.done <- nil
		return true
	})
	return n.seen < n.version, len(n.flushes) > 0
}

// discardUnsent keeps the current version from being sent again.
func (n *progressReport) discardUnsent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = n.version
}
