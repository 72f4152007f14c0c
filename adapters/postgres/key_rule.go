package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A create with a rule for its key locks the row of the key first. So creates of one key come one after the other, and the task
// that has the key changes only by a retain, a release or an operator. See queue.KeyRule for the rules.

var (
	lockKeys     = statement("create.keys.lock")
	lockFreeKeys = statement("create.keys.lock.free")
)

// lockedKey is a key with an owner, locked by this transaction.
type lockedKey struct {
	keySlot
	taskID      int64
	fingerprint []byte
	since       *time.Time
}

// ruledKeys are the keys with an owner for which a create brings a rule.
type ruledKeys struct {
	keys   map[keySlot]bool
	wanted []wantedTask // owners that the create answers with
}

// lockedKeyColumns are the columns of a locked key. keySlotColumns are those that find one.
var (
	lockedKeyColumns = table.Of[lockedKey]()
	keySlotColumns   = lockedKeyColumns.Only("queue_id", "key")
)

// applyKeyRules decides about the keys that this batch did not win and that come with a rule. New owners stay in owners. A key
// that another transaction has locked is added to held.
func (s *Store) applyKeyRules(
	ctx context.Context, t *txn.Tx, b *insertBatch, c queue.Create, how keysHow, owners map[keySlot]*keyOwner, won, held map[keySlot]bool,
) (ruledKeys, error) {
	ruled := ruledKeys{keys: map[keySlot]bool{}}
	var asked []lockedKey
	for slot, o := range owners {
		if !won[slot] && !held[slot] && !c.Tasks[o.first.place].IsPlain() {
			ruled.keys[slot] = true
			asked = append(asked, lockedKey{keySlot: slot})
		}
	}
	if len(asked) == 0 {
		return ruled, nil
	}

	locked, err := lockRuledKeys(ctx, t, asked, how)
	if err != nil {
		return ruled, err
	}
	for _, k := range asked {
		held[k.keySlot] = !slices.ContainsFunc(locked, func(l lockedKey) bool { return l.keySlot == k.keySlot })
	}

	// A task that a retain takes meanwhile has another status at the next look. One that stays where it is has a locked row.
	r := keyRuling{s: s, now: b.now, create: c, owners: owners, out: &ruled, moves: makeMoves(b.now), take: takeFree}
	if how == keysWait {
		r.take = takeAll
	}
	for tries := 0; len(locked) > 0 && tries < maxTaskReads; tries++ {
		if locked, err = r.answerKeys(ctx, t, locked); err != nil {
			return ruled, err
		}
	}
	for _, k := range locked {
		held[k.keySlot] = true
	}
	r.moves.writeAllRows(t)
	return ruled, nil
}

// lockRuledKeys locks keys in their order, and returns those that it could lock with their owners.
func lockRuledKeys(ctx context.Context, t *txn.Tx, asked []lockedKey, how keysHow) (locked []lockedKey, err error) {
	slices.SortFunc(asked, func(a, b lockedKey) int { return compareKeySlots(a.keySlot, b.keySlot) })
	statement := lockFreeKeys
	if how == keysWait {
		statement = lockKeys
	}
	return locked, t.Query(ctx, statement, scanRows(lockedKeyColumns, func(k lockedKey) { locked = append(locked, k) }),
		keySlotColumns.Arrays(nil, asked)...)
}

// keyRuling decides about locked keys of one create.
type keyRuling struct {
	s      *Store
	now    time.Time
	create queue.Create
	owners map[keySlot]*keyOwner
	out    *ruledKeys
	moves  *moves // of the tasks that new ones replace
	take   takeStatements
}

// answerKeys decides about keys by the present state of their owners. It returns those with an owner that a retain took in
// between.
func (r *keyRuling) answerKeys(ctx context.Context, t *txn.Tx, locked []lockedKey) (left []lockedKey, err error) {
	ids := make([]int64, len(locked))
	for i, k := range locked {
		ids[i] = k.taskID
	}
	there, err := readTaskStates(ctx, t, r.create.Namespace, ids)
	if err != nil {
		return nil, err
	}

	var replaced []lockedKey
	var waiting []*nowRow
	for _, k := range locked {
		o, n := r.owners[k.keySlot], there[k.taskID]
		answer := queue.KeyTake // a task without a row was deleted a moment before its key
		if n != nil {
			answer = r.create.Tasks[o.first.place].Answer(n.task.Life())
		}

		switch answer {
		case queue.KeyTake:
			changeKeyOwner(t, k.keySlot, o, nil)
		case queue.KeySupersede:
			replaced, waiting = append(replaced, k), append(waiting, n)
		case queue.KeyReturn:
			r.out.wanted = append(r.out.wanted, wantedTask{k.queueID, k.taskID, int32(o.call)})
			*o = keyOwner{print: k.fingerprint, id: k.taskID}
		case queue.KeyReject:
			*o = keyOwner{rejects: true, id: k.taskID}
		}
	}
	if len(waiting) == 0 {
		return nil, nil
	}

	taken, err := r.s.take(ctx, t, waiting, r.take)
	for i, k := range replaced {
		switch {
		case err != nil:
		case taken[k.taskID]:
			err = r.replaceTask(t, k, waiting[i])
		default:
			left = append(left, k)
		}
	}
	return left, err
}

// replaceTask cancels a task that was taken, and gives its key to the new one.
func (r *keyRuling) replaceTask(t *txn.Tx, k lockedKey, n *nowRow) error {
	o := r.owners[k.keySlot]
	row, rule := o.first, r.create.Tasks[o.first.place].KeyRule
	since := n.task.CreatedAt
	if k.since != nil {
		since = k.since.UTC()
	}
	if rule.Debounce > 0 {
		row.life = row.q.Born(r.now, truncateToMicros(rule.DebouncedAt(r.now, since)))
		row.task.SetLife(row.life)
	}
	row.superseded, row.was = n.task.ID, n.task.Status
	changeKeyOwner(t, k.keySlot, o, &since)

	// The reads leave out the last result of the task: it stays where it is.
	next, err := row.q.Moved(n.task.Life(), queue.MoveCancel, queue.Circumstances{Now: r.moves.now})
	if err != nil {
		return err
	}
	if n.waitsForGroup {
		r.moves.addGroupWaiting(n.queue, -1)
	}
	r.moves.addMove(taskMove{
		q: row.q, id: n.task.ID, priority: n.task.Priority, bucket: n.bucket, group: n.task.Group, move: queue.MoveCancel, was: n.task.Status,
		wasLate: n.token == wasDelayed, life: next, startedAt: n.task.StartedAt, worker: n.task.Worker, keep: true,
	})
	r.moves.addFailure(n.queue, n.task.ID, queue.AttemptError{Attempt: n.task.Attempt, Worker: n.task.Worker, Error: queue.Superseded(row.task.ID)})
	return nil
}

// changeKeyOwner queues the statement that gives a key to the task of o.
func changeKeyOwner(t *txn.Tx, slot keySlot, o *keyOwner, since *time.Time) {
	t.Queue(replaceKeyOwner,
		arg("task_id", o.id), arg("fingerprint", o.print), arg("since", since), arg("queue_id", slot.queueID), arg("key", slot.key))
}
