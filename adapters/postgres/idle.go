package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// idleAgents remembers which chores dealt with nothing in their last step. Such a chore asks by one statement, outside of a
// transaction, whether anything is due, before it makes a step: an idle program sends a fourth of the statements of full
// steps. A chore that has work does not pay for the look.
type idleAgents struct {
	mu sync.Mutex
	of map[queue.Chore]bool
}

func (i *idleAgents) is(chore queue.Chore) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.of[chore]
}

func (i *idleAgents) note(chore queue.Chore, idle bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.of == nil {
		i.of = map[queue.Chore]bool{}
	}
	i.of[chore] = idle
}

// looks are the statements by which an idle chore asks when it has something to do, each with the floors that it reads from.
// It answers that time, null for never, and now.
var looks = map[queue.Chore]struct {
	statement string
	floors    []string
}{
	queue.ChorePromote: {"promote.next", []string{"promote"}},
	queue.ChoreRescue:  {"hold.next", []string{"rescue"}},
	queue.ChoreExpire:  {"expire.next", []string{"expire.ready", "expire.delayed"}},
	queue.ChoreFold:    {"fold.next", nil},
	queue.ChoreTick:    {"ticker.next", nil},
}

// nothingDue says whether a chore that was idle has nothing to do now, and in how long it has. Faults are left to the step.
func (s *Store) nothingDue(ctx context.Context, chore queue.Chore) (out queue.Maintained, nothing bool) {
	look, ok := looks[chore]
	if !ok || !s.idle.is(chore) {
		return out, false
	}
	began := time.Now()
	from := make([]time.Time, len(look.floors))
	args := make([]any, len(look.floors))
	for i, name := range look.floors {
		from[i] = s.watermarks.get(name)
		args[i] = floorParam(from[i])
	}
	err := s.query(ctx, "look for work", look.statement, func(rows pgx.Rows) error {
		var at *time.Time
		var now time.Time
		err := rows.Scan(&at, &now)
		if nothing = at == nil || at.After(now); nothing && at != nil {
			out.NextIn = max(at.Sub(now), time.Millisecond)
		}
		return err
	}, args...)
	if err != nil || !nothing {
		return queue.Maintained{}, false
	}
	for i, name := range look.floors {
		s.watermarks.set(name, from[i], from[i], began)
	}
	return out, true
}
