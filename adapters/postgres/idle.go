package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// idleAgents remembers the background agents with nothing to do in their last step. Such an agent first asks by one
// statement, outside of a transaction, whether work is due. An idle program thus sends a fourth of the statements of
// full steps. An agent with work does not pay for the question. It is safe for concurrent use.
type idleAgents struct {
	mu sync.Mutex
	of map[queue.Chore]bool
}

// is reports whether the agent was idle in its last step.
func (i *idleAgents) is(chore queue.Chore) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.of[chore]
}

// note records whether the agent was idle in its last step.
func (i *idleAgents) note(chore queue.Chore, idle bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.of == nil {
		i.of = map[queue.Chore]bool{}
	}
	i.of[chore] = idle
}

// looks has the statements for idle agents. A statement returns the time at which the agent has work (null: never) and
// the present time. floors names the watermarks from which the statement reads.
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

// nothingDue reports whether an idle agent has no work now, and in out the time until it has. After an error it
// returns false: the step itself reports the fault.
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

	// The watermarks stay, but the read costs time: they record it to pace their reads from the beginning.
	for i, name := range look.floors {
		s.watermarks.set(name, from[i], from[i], began)
	}
	return out, true
}
