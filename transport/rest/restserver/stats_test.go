package restserver

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestStatsStreamsLeaveOutTime: an age that grows with time does not count as a change, and another age does.
func TestStatsStreamsLeaveOutTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	sent := map[string]sentStats{}
	for i, c := range []struct {
		name    string
		passed  time.Duration
		stats   queue.QueueStats
		changed bool
	}{
		{"the first reading", 0, queue.QueueStats{Ready: 1, OldestReadyAge: time.Minute}, true},
		{"a second later", time.Second, queue.QueueStats{Ready: 1, OldestReadyAge: time.Minute + time.Second}, false},
		{"an hour later, by a reading that is shared", time.Hour, queue.QueueStats{Ready: 1, OldestReadyAge: time.Hour + time.Minute - time.Second}, false},
		{"another task is the oldest", time.Hour, queue.QueueStats{Ready: 1, OldestReadyAge: time.Second}, true},
		{"none is ready, though the number is the same", time.Hour, queue.QueueStats{Ready: 1}, true},
		{"still none", 2 * time.Hour, queue.QueueStats{Ready: 1}, false},
		{"one is ready again", 2 * time.Hour, queue.QueueStats{Ready: 1, OldestReadyAge: time.Second}, true},
		{"a limit", 2 * time.Hour, queue.QueueStats{Ready: 1, OldestReadyAge: time.Second, Concurrency: 2}, true},
		{"a pause until a time", 2 * time.Hour, queue.QueueStats{Ready: 1, OldestReadyAge: time.Second, Concurrency: 2, PausedUntil: at}, true},
		{"the same again", 2 * time.Hour, queue.QueueStats{Ready: 1, OldestReadyAge: time.Second, Concurrency: 2, PausedUntil: at}, false},
	} {
		c.stats.Queue = "mail"
		change, changed := findChange(sent, []*queue.QueueStats{&c.stats}, at.Add(c.passed))
		if changed != c.changed || len(change.Body) == 1 != c.changed {
			t.Errorf("%d, %s: changed %v, %+v", i, c.name, changed, change)
		}
	}
	if change, changed := findChange(sent, nil, at); !changed || len(change.Deleted) != 1 {
		t.Errorf("a deleted queue: %+v", change)
	}
}
