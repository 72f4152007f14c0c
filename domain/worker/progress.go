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

// Bounds of what a handler reports. The whole document has at most queue.MaxProgressBytes.
const (
	// MaxProgressValueBytes bounds the value of Progress as JSON.
	MaxProgressValueBytes = queue.MaxProgressBytes / 2
	// MaxLogLineBytes bounds one log line; what is longer is cut.
	MaxLogLineBytes = 1 << 10
	// MaxLogLines bounds the log lines kept; the newest stay.
	MaxLogLines = 100
	// progressPace is the shortest time between two reports of a task, but for Flush.
	progressPace = time.Second
	// noteFrame is what the document has beside the value and the lines.
	reportOverhead = 64
)

// note is what the handler of one task has reported. Its document is
//
//	{"progress": <value>, "log": [{"at": "<RFC 3339, the worker's clock>", "line": "…"}, …], "log_dropped": <n>}
//
// where what there is none of is left out.
type progressReport struct {
	mu      sync.Mutex
	value   json.RawMessage
	lines   []json.RawMessage
	size    int // of lines, with their commas
	dropped int
	// version grows by one with each change; seen is the last that the service has.
	version, seen int
	// flushes that wait until the service has a version, and what became of them.
	flushes []flushed
}

type flushed struct {
	version int
	done    chan error
}

// Progress reports how far the handler of ctx is: v is any JSON of at most MaxProgressValueBytes. It goes with the
// next heartbeat, which comes within a second; of several reports in that time the last counts. It does not wait.
// ErrNoTask outside a handler; KindTooLarge and KindInvalid for a v that cannot be kept.
func Progress(ctx context.Context, v any) error {
	h := heldTaskFrom(ctx)
	if h == nil {
		return ErrNoTask
	}
	b, err := copyJSON(v)
	if err != nil {
		return queue.At("progress", err)
	}
	if len(b) == 0 {
		b = json.RawMessage("null")
	}
	if err := queue.CheckJSON("progress", b, MaxProgressValueBytes); err != nil {
		return err
	}
	h.changeReport(func(n *progressReport) { n.value = b })
	return nil
}

// Logf adds a line to the log of the task of ctx, which is kept with its progress: the newest MaxLogLines that have
// room. Outside a handler it does nothing.
func Logf(ctx context.Context, format string, args ...any) {
	h := heldTaskFrom(ctx)
	if h == nil {
		return
	}
	line := strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")
	if len(line) > MaxLogLineBytes {
		line = strings.ToValidUTF8(line[:MaxLogLineBytes], "")
	}
	b, err := json.Marshal(struct {
		At   time.Time `json:"at"`
		Line string    `json:"line"`
	}{time.Now().UTC(), line})
	if err != nil { // a time of today and a valid string always marshal
		return
	}
	h.changeReport(func(n *progressReport) {
		n.lines = append(n.lines, b)
		n.size += len(b) + 1
	})
}

// Flush sends what the handler of ctx has reported now, together with what others flush meanwhile, and waits until the
// service has it. The error is the service's; or why ctx ended, when what was reported goes with the task's end.
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
	case <-h.run.calls.Done():
		return ErrDraining
	}
}

// awaitFlush is settled when the service has what there is; nil when it has it.
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

// answerFlushes ends the flushes that wait.
func (n *progressReport) answerFlushes(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.flushes {
		f.done <- err
	}
	n.flushes = nil
}

// changeReport changes the note and has the keeper send it.
func (h *heldTask) changeReport(change func(*progressReport)) {
	n := h.progress.Load()
	if n == nil {
		h.progress.CompareAndSwap(nil, &progressReport{})
		n = h.progress.Load()
	}
	n.mu.Lock()
	change(n)
	n.dropOldLines()
	first := n.version == n.seen
	n.version++
	n.mu.Unlock()
	if first && h.run != nil {
		h.run.advanceHeartbeat(h, time.Now().Add(progressPace))
	}
}

// advanceHeartbeat moves h's next heartbeat up; false when h is no longer held.
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

// dropOldLines drops the oldest lines that have no room. Caller holds mu.
func (n *progressReport) dropOldLines() {
	drop, size := 0, n.size
	for len(n.lines)-drop > MaxLogLines || reportOverhead+len(n.value)+size > queue.MaxProgressBytes {
		size -= len(n.lines[drop]) + 1
		drop++
	}
	n.lines, n.size = slices.Delete(n.lines, 0, drop), size
	n.dropped += drop
}

func (n *progressReport) hasUnsent() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version != n.seen
}

// encodeUnsent is the note as JSON, nil when the service has it; and its version.
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

// recordSent notes that the service has the version. It says whether there is a newer one, and whether somebody waits for the
// service to have that.
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

// discardUnsent keeps what there is from being sent again.
func (n *progressReport) discardUnsent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = n.version
}
