package access

import "sync"

// TokenWatcher is the optional power of a store of tokens to report changes, those of other processes included.
type TokenWatcher interface {
	// WatchTokens calls changed soon after each change of tokens, and when one may have been missed, until stop is called. It is
	// a hint: a change must take effect without it too, only later. changed must return at once and not call the store.
	WatchTokens(changed func()) (stop func())
}

// Watchers has the functions that a store calls after a change of tokens. The zero value is ready for use. It is safe for
// concurrent use.
type Watchers struct {
	mu      sync.Mutex
	changed map[*func()]struct{}
}

// WatchTokens implements [TokenWatcher].
func (w *Watchers) WatchTokens(changed func()) (stop func()) {
	key := &changed
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = map[*func()]struct{}{}
	}
	w.changed[key] = struct{}{}

	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.changed, key)
	}
}

// Report calls each function. After the stop of one it is not called any more.
func (w *Watchers) Report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for changed := range w.changed {
		(*changed)()
	}
}
