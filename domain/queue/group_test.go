package queue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestGroupNumber holds the bounds of groups with settings and pauses: only a change that adds one is refused.
func TestGroupNumber(t *testing.T) {
	limited, paused, none := queue.GroupPolicy{Concurrency: 1}, queue.GroupPolicy{PausedUntil: time.Unix(1, 0)}, queue.GroupPolicy{}
	const with, all = queue.MaxGroupPolicies, queue.MaxGroupPauses
	for _, c := range []struct {
		sentence      string
		before, after queue.GroupPolicy
		with, all     int
		field         string
	}{
		{"the last group with settings", none, limited, with, with, ""},
		{"one more group with settings", none, limited, with + 1, with + 1, "group"},
		{"settings of a paused group", paused, limited, with + 1, with + 1, "group"},
		{"a change of settings", limited, queue.GroupPolicy{RateLimit: 1}, with + 1, with + 1, ""},
		{"an end of settings", limited, none, with + 1, with + 1, ""},
		{"a pause beside many settings", none, paused, with + 1, with + 1, ""},
		{"the last pause", none, paused, 1, all, ""},
		{"one more pause", none, paused, 1, all + 1, "paused_until"},
		{"a longer pause", paused, paused, 1, all + 1, ""},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			field := ""
			if err, refused := errors.AsType[*queue.Error](c.after.CheckGroupNumber(c.before, c.with, c.all)); refused {
				field = err.Field
			}
			if field != c.field {
				t.Errorf("refused field %q, want %q", field, c.field)
			}
		})
	}
}
