package access

import (
	"context"
	"sync"
	"time"
)

const (
	// liveWait bounds the wait for the digests of the live credentials, so that a store that hangs ends no look-up late.
	liveWait = time.Second
	// livePause is the time between two reads of them, which take some 10 ms for 10,000 tokens.
	livePause = 50 * time.Millisecond
)

// liveDigests knows which credentials of a store are live. It reads their digests when an address has too many look-ups under way,
// so that the limit refuses no valid one: the made-up ones are not among them. It is safe for concurrent use.
type liveDigests struct {
	read func(context.Context) ([]credentialDigest, error)

	mu      sync.Mutex
	next    *liveRead // has not begun; nil for none
	reading bool
}

// liveRead is a read of the digests, which all callers share that came before its begin.
type liveRead struct {
	ended   chan struct{}
	digests map[credentialDigest]struct{}
}

// has reports whether digest is that of a credential that is live now. It is false after [liveWait], and when the store fails.
func (l *liveDigests) has(ctx context.Context, digest credentialDigest) bool {
	ctx, cancel := context.WithTimeout(ctx, liveWait)
	defer cancel()
	r := l.join()
	select {
	case <-r.ended:
		_, live := r.digests[digest]
		return live
	case <-ctx.Done():
		return false
	}
}

// join returns the next read. It begins after the call, so that it has each credential that was made before.
func (l *liveDigests) join() *liveRead {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &liveRead{ended: make(chan struct{})}
	}
	r := l.next
	if !l.reading {
		l.reading = true
		go l.run()
	}
	return r
}

// run reads the digests, once for the callers that came before the begin of a read, until there are none.
func (l *liveDigests) run() {
	for {
		l.mu.Lock()
		r := l.next
		l.next = nil
		l.reading = r != nil
		l.mu.Unlock()
		if r == nil {
			return
		}
		l.fill(r)
		time.Sleep(livePause) //nolint:forbidigo // it spaces the reads of a flood; no caller waits here
	}
}

// fill reads the digests into r. A store that fails or panics gives none.
func (l *liveDigests) fill(r *liveRead) {
	defer close(r.ended)
	defer func() { _ = recover() }() // the look-up itself reports the fault
	ctx, cancel := context.WithTimeout(context.Background(), liveWait)
	defer cancel()
	digests, err := l.read(ctx)
	if err != nil {
		return
	}

	live := make(map[credentialDigest]struct{}, len(digests))
	for _, d := range digests {
		live[d] = struct{}{}
	}
	r.digests = live
}
