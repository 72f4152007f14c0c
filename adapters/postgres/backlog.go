package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// backlogAge bounds the age of a count of waiting tasks by which a create is refused. Within it the creates of other
// processes are not counted.
const backlogAge = time.Second

// backlogs remembers how many tasks wait in the queues with max_waiting. It is safe for concurrent use.
type backlogs struct {
	mu     sync.Mutex
	queues map[int32]*backlog
}

// backlog is the number of waiting tasks of one queue.
type backlog struct {
	waiting int64
	readAt  time.Time
}

// backlogCheck admits the tasks of one create.
type backlogCheck map[int32]*admission

// admission counts the tasks of one queue that a create may make.
type admission struct {
	q       *storedQueue
	waiting int64
	more    int
}

// checkBacklogs reads the numbers of waiting tasks that a create needs: none without a queue that limits them.
func (s *Store) checkBacklogs(ctx context.Context, t *txn.Tx, c queue.Create, queues map[string]*storedQueue) (backlogCheck, error) {
	if c.Unlimited {
		return nil, nil
	}

	var check backlogCheck
	for _, q := range queues {
		if q.MaxWaiting == 0 {
			continue
		}
		waiting, known := s.backlogs.find(q.id)
		if !known {
			err := t.Query(ctx, readCounts, scanRows(queueCountColumns, func(k queueCounts) {
				waiting = k.byStatus[statusNew] + k.byStatus[statusRetry]
			}), arg("namespace", q.Namespace), arg("name", q.Name))
			if err != nil {
				return nil, err
			}
			s.backlogs.set(q.id, waiting)
		}

		if check == nil {
			check = backlogCheck{}
		}
		check[q.id] = &admission{q: q, waiting: waiting}
	}

	// The tasks count from now on, also when the create fails: the next reading is a second away at most.
	for i := range c.Tasks {
		if q := queues[c.Tasks[i].Queue]; q != nil && check[q.id] != nil {
			s.backlogs.add(q.id, 1)
		}
	}
	return check, nil
}

// admitTask refuses one more task of q when too many wait.
func (c backlogCheck) admitTask(q *storedQueue) error {
	if q == nil || c[q.id] == nil {
		return nil
	}
	a := c[q.id]
	a.more++
	return a.q.CheckWaiting(a.waiting, a.more)
}

// find returns the number of waiting tasks of a queue; false when it was read too long ago.
func (b *backlogs) find(id int32) (int64, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[id]
	if q == nil || time.Since(q.readAt) > backlogAge {
		return 0, false
	}
	return q.waiting, true
}

func (b *backlogs) set(id int32, waiting int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queues == nil || len(b.queues) > 10_000 { // a bound: a forgotten queue costs one reading
		b.queues = map[int32]*backlog{}
	}
	b.queues[id] = &backlog{waiting: waiting, readAt: time.Now()}
}

func (b *backlogs) add(id int32, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[id]; q != nil {
		q.waiting += n
	}
}
