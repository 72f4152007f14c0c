package postgres

import (
	"cmp"
	"context"
	"errors"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Tasks that fail for good in a queue with a dead letter queue leave a task there, in the transaction of the failure.

// deadTask is a task that failed for good, as far as its move knows it.
type deadTask struct {
	q       *storedQueue
	id      int64
	attempt int
	group   string
	kind    string // of the last error
}

var readDeadTasks = statement("move.dead")

// addDeadTask adds a task that needs a dead letter.
func (m *moves) addDeadTask(d taskMove) {
	if d.q.DeadLetter != "" && d.life.Status == queue.StatusFailed {
		m.dead = append(m.dead, deadTask{q: d.q, id: d.id, attempt: d.life.Attempt, group: d.group, kind: d.errorKind})
	}
}

// writeDeadLetters creates the dead letters of m. It fails with errNeedPartition before it has written anything. A queue that has been
// deleted a moment before gets none.
func (s *Store) writeDeadLetters(ctx context.Context, t *txn.Tx, m *moves) error {
	if len(m.dead) == 0 {
		return nil
	}

	places := make([]taskPlace, len(m.dead))
	for i, d := range m.dead {
		places[i] = taskPlace{d.q.id, d.id}
	}
	content := map[int64]*queue.Task{}
	var fault error
	err := t.Query(ctx, readDeadTasks, scanRows(pickedTaskColumns, func(r taskRow) {
		task := &queue.Task{ID: r.id}
		fault = errors.Join(fault, r.fillTask(task))
		content[r.id] = task
	}), placeColumns.Arrays(nil, places)...)
	if err := cmp.Or(err, fault); err != nil {
		return err
	}

	creates := map[string][]queue.NewTask{} // by namespace
	for _, d := range m.dead {
		task := content[d.id]
		if task == nil { // deleted by hand
			continue
		}
		task.Attempt, task.Group = d.attempt, d.group
		creates[d.q.Namespace] = append(creates[d.q.Namespace], d.q.MakeDeadLetter(task, d.kind))
	}
	for _, namespace := range sortedKeys(creates) {
		b, err := s.createTasksIn(ctx, t, queue.Create{Namespace: namespace, Tasks: creates[namespace], Unlimited: true}, keysWait)
		m.letters = append(m.letters, b)
		if err != nil {
			return err
		}
		m.woken = append(m.woken, b.woken...)
	}
	return nil
}

// needsPartition reports whether err asks for a partition for the dead letters.
func (m *moves) needsPartition(err error) bool {
	return len(m.letters) > 0 && errors.Is(err, errNeedPartition)
}

// lastLetter returns the largest id of a dead letter.
func (m *moves) lastLetter() (id int64) {
	for _, b := range m.letters {
		id = max(id, b.maxID)
	}
	return id
}

// settleDeadLetters records what the commit of dead letters has made certain.
func (s *Store) settleDeadLetters(m *moves) {
	for _, b := range m.letters {
		s.lanes.confirmLanes(b.lanes, b.generation)
		s.extendSoon(b.maxID)
	}
}

// checkDeadLetter checks the dead letter queue of q. It locks the queues on the way, so that no circle comes about meanwhile and none of
// them is deleted.
func checkDeadLetter(ctx context.Context, t *txn.Tx, q *queue.Queue) error {
	return q.CheckDeadLetter(func(name string) (*queue.Queue, error) {
		found, err := lockQueueByName(ctx, t, q.Namespace, name)
		if err != nil {
			return nil, err
		}
		return &found.Queue, nil
	})
}
