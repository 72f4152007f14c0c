package postgres

import (
	"context"
	"slices"
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

// backlogCheck admits the tasks of one create. It has the numbers of waiting tasks of the queues that limit them.
type backlogCheck map[int32]int64

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
		check[q.id] = waiting
	}
	return check, nil
}

// admitRows claims the keys of b, and then refuses new tasks beyond the limits of their queues. The repeat of a key makes no task,
// so a limit neither refuses nor counts it. A refused task leaves its key as it was: the claim begins again without it.
func (c backlogCheck) admitRows(ctx context.Context, t *txn.Tx, b *insertBatch, of queue.Create, claim func(context.Context) error) error {
	if len(c.refuseRows(b.rows)) == 0 { // nothing is refused when all tasks are new
		return claim(ctx)
	}

	asked, locked := slices.Clone(b.rows), len(b.locked)
	for {
		t.QueueText("savepoint pgqueue_admit")
		if err := claim(ctx); err != nil {
			return err
		}
		refused := c.refuseRows(b.rows)
		if len(refused) == 0 {
			t.QueueText("release savepoint pgqueue_admit")
			return nil
		}

		t.QueueText("rollback to savepoint pgqueue_admit")
		t.QueueText("release savepoint pgqueue_admit")
		for place, err := range refused {
			if err := b.recordFault(of, place, err); err != nil {
				return err
			}
		}
		asked = slices.DeleteFunc(asked, func(r newTask) bool { return refused[r.place] != nil })
		b.rows, b.locked = slices.Clone(asked), b.locked[:locked]
		for _, r := range asked {
			r.task.SetLife(r.life) // a replacement had the time of its debounce
		}
	}
}

// refuseRows returns the faults of the rows that exceed a limit, by place.
func (c backlogCheck) refuseRows(rows []newTask) (refused map[int]error) {
	more := map[int32]int{}
	for _, r := range rows {
		waiting, limited := c[r.q.id]
		if !limited {
			continue
		}
		more[r.q.id]++
		if err := r.q.CheckWaiting(waiting, more[r.q.id]); err != nil {
			if refused == nil {
				refused = map[int]error{}
			}
			refused[r.place] = err
		}
	}
	return refused
}

// addRows counts new tasks from now on, also when their create fails: the next reading is a second away at most.
func (b *backlogs) addRows(rows []newTask) {
	for i := range rows {
		if q := rows[i].q; q.MaxWaiting > 0 {
			b.add(q.id, 1)
		}
	}
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
