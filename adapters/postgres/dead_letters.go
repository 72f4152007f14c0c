package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

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

const (
	// letterStep is the number of dead letters that one statement writes. Their headers are in memory meanwhile.
	letterStep = queue.MaxPageBytes / queue.MaxHeadersBytes
	// maxLetterBytes bounds the payloads, as they are stored, that one transaction copies into dead letters; the first goes in any
	// case. PostgreSQL copies them in about a second.
	maxLetterBytes = 64 << 20
)

var (
	readDeadTasks = statement("move.dead")
	readDeadSizes = statement("move.dead.size")
)

// addDeadTask adds a task that needs a dead letter.
func (m *moves) addDeadTask(d taskMove) {
	if d.q.DeadLetter != "" && d.life.Status == queue.StatusFailed {
		m.dead = append(m.dead, deadTask{q: d.q, id: d.id, attempt: d.life.Attempt, group: d.group, kind: d.errorKind})
		m.letterBytes += m.letterSizes[d.id]
	}
}

// queueLetterSizes queues the read of the bytes that the dead letters of tasks would copy. After it, exceedsLetters reports the tasks
// that belong into a later transaction.
func (m *moves) queueLetterSizes(t *txn.Tx, tasks []taskPlace) {
	if len(tasks) == 0 {
		return
	}
	m.letterSizes = make(map[int64]int64, len(tasks))
	t.QueueQuery(readDeadSizes, func(rows pgx.Rows) error {
		var id, bytes int64
		err := rows.Scan(&id, &bytes)
		m.letterSizes[id] = bytes
		return err
	}, placeColumns.Arrays(nil, tasks)...)
}

// exceedsLetters reports whether the transaction must leave a task because of maxLetterBytes.
func (m *moves) exceedsLetters(id int64) bool {
	bytes, counts := m.letterSizes[id]
	return counts && m.letterBytes > 0 && m.letterBytes+bytes > maxLetterBytes
}

// writeDeadLetters creates the dead letters of m. It fails with errNeedPartition before it has written anything. A queue that has been
// deleted a moment before gets none.
func (s *Store) writeDeadLetters(ctx context.Context, t *txn.Tx, m *moves) error {
	if len(m.dead) == 0 {
		return nil
	}
	byNamespace := map[string][]deadTask{}
	for _, d := range m.dead {
		byNamespace[d.q.Namespace] = append(byNamespace[d.q.Namespace], d)
	}

	// All ids come first, because a need for another partition must show before the first write.
	all := &insertBatch{}
	all.queueIDs(t, len(m.dead))
	for _, namespace := range sortedKeys(byNamespace) {
		for dead := range slices.Chunk(byNamespace[namespace], letterStep) {
			tasks, sources, err := readLetters(ctx, t, dead)
			if err != nil {
				return err
			}
			if m.maxLetter == 0 {
				m.maxLetter = all.ids[len(all.ids)-1]
				if !s.partitions.covers(m.maxLetter) {
					return errNeedPartition
				}
			}
			if len(tasks) == 0 {
				continue
			}

			b := &insertBatch{now: all.now, ids: all.ids[:len(tasks)], sources: sources}
			all.ids = all.ids[len(tasks):]
			err = s.createBatchIn(ctx, t, b, queue.Create{Namespace: namespace, Tasks: tasks, Unlimited: true}, keysWait)
			if err != nil {
				return err
			}
			m.woken = append(m.woken, b.woken...)
			// Without the rows, so that the headers of one step at most are in memory.
			m.letters = append(m.letters, &insertBatch{lanes: b.lanes, generation: b.generation})
		}
	}
	return nil
}

// readLetters returns the dead letters of tasks, without payloads, and the tasks that have these. A task that was deleted by hand has
// no dead letter.
func readLetters(ctx context.Context, t *txn.Tx, dead []deadTask) (letters []queue.NewTask, sources []taskPlace, err error) {
	places := make([]taskPlace, len(dead))
	for i, d := range dead {
		places[i] = taskPlace{d.q.id, d.id}
	}
	headers := map[int64]map[string]string{}
	err = t.Query(ctx, readDeadTasks, func(rows pgx.Rows) error {
		var id int64
		var encoded []byte
		if err := rows.Scan(&id, &encoded); err != nil {
			return err
		}
		decoded, err := decodeHeaders(encoded)
		headers[id] = decoded
		return err
	}, placeColumns.Arrays(nil, places)...)

	for i, d := range dead {
		if of, found := headers[d.id]; found {
			letters = append(letters, d.q.MakeDeadLetter(&queue.Task{ID: d.id, Attempt: d.attempt, Group: d.group, Headers: of}, d.kind))
			sources = append(sources, places[i])
		}
	}
	return letters, sources, err
}

// needsPartition reports whether err asks for a partition for the dead letters.
func (m *moves) needsPartition(err error) bool {
	return m.maxLetter > 0 && errors.Is(err, errNeedPartition)
}

// settleDeadLetters records what the commit of dead letters has made certain.
func (s *Store) settleDeadLetters(m *moves) {
	for _, b := range m.letters {
		s.lanes.confirmLanes(b.lanes, b.generation)
	}
	if m.maxLetter > 0 {
		s.extendSoon(m.maxLetter)
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
