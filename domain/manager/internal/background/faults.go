package background

import (
	"maps"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Bounds of the faults of one agent.
const (
	faultMaxAge    = 2 * time.Minute
	maxFaults      = 100
	maxFaultLines  = 10 // in faultLogWindow
	faultLogWindow = time.Minute
)

// faultLog keeps the faults of one agent by namespace and subject, and bounds their log lines.
type faultLog struct {
	at          map[string]time.Time // of the last step that passed over the subject
	faults      map[string]queue.Fault
	windowBegan time.Time
	lines       int // logged in the window
}

// recordFaults keeps faults, drops those that no step has reported for long, and returns those to log.
func (l *faultLog) recordFaults(faults []queue.Fault, now time.Time) (logged []queue.Fault) {
	if l.at == nil {
		l.at, l.faults = map[string]time.Time{}, map[string]queue.Fault{}
	}
	for key, at := range l.at {
		if now.Sub(at) > faultMaxAge {
			delete(l.at, key)
			delete(l.faults, key)
		}
	}
	if now.Sub(l.windowBegan) > faultLogWindow {
		l.windowBegan = now
		l.lines = 0
	}

	for _, f := range faults {
		key := f.Namespace + " " + f.Subject
		// Known subjects stay up to date in a full list; new ones wait for a free place.
		if _, kept := l.at[key]; kept || len(l.at) < maxFaults {
			l.at[key] = now
			l.faults[key] = f
		}
		if !f.Known && l.lines < maxFaultLines {
			l.lines++
			logged = append(logged, f)
		}
	}

	return logged
}

// listFaults returns the faults in the order of namespaces and subjects.
func (l *faultLog) listFaults() []queue.Fault {
	var all []queue.Fault
	for _, key := range slices.Sorted(maps.Keys(l.faults)) {
		all = append(all, l.faults[key])
	}

	return all
}
