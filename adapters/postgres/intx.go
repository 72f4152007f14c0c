package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// InTx is the queue inside a transaction of the caller. Its effects happen when that transaction commits, together
// with the caller's own writes, or not at all. Before the commit no other session sees them, and no wake-up is sent.
//
// It takes no connection of the pool while it works. The transaction may have any isolation level. At repeatable read
// and serializable a call may fail with SQLSTATE 40001, like any statement there, when another transaction has
// changed a key or a lease since the snapshot. Repeat the whole transaction then.
//
// It is not safe for concurrent use, as the pgx.Tx is not. An error of the domain (unknown queue, key reused, lease
// lost) leaves the transaction usable. An error of PostgreSQL aborts it.
type InTx struct {
	store     *Store
	tx        pgx.Tx
	namespace string
	limited   bool
}

var _ queue.Producer = (*InTx)(nil)

// InTx binds the store to tx and a namespace ("" = default). The transaction must be on the store's database.
func (s *Store) InTx(tx pgx.Tx, namespace string) (*InTx, error) {
	if namespace == "" {
		namespace = queue.DefaultNamespace
	}
	namespace, err := queue.NamespaceName(namespace)
	if err != nil {
		return nil, err
	}

	if err := txn.EncodingFault(tx.Conn().PgConn()); err != nil {
		return nil, err
	}

	s.db.NoteConnection(tx.Conn())
	return &InTx{store: s, tx: tx, namespace: namespace}, nil
}

// WithMaxWaiting returns x with creates that max_waiting of a queue refuses, as outside of a transaction: KindExhausted. Without it
// a transaction of the caller does not fail because a queue is full.
func (x *InTx) WithMaxWaiting() *InTx {
	limited := *x
	limited.limited = true
	return &limited
}

// CreateTask creates one task in the transaction. It returns the errors of queue.Producer.
func (x *InTx) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	tasks, err := x.createInTx(ctx, "create task", []queue.NewTask{{Queue: name, TaskMeta: meta}})
	if err != nil {
		return nil, err
	}
	return tasks[0], nil
}

// CreateTasks creates up to MaxBatch tasks in the transaction, all or none. It returns the errors of queue.Producer.
func (x *InTx) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	return x.createInTx(ctx, "create tasks", tasks)
}

// ReleaseTasks ends leases in the transaction and answers each release in order. A task is thus complete exactly when
// the caller's work for it is committed. The transaction locks the lease rows until its end, so rescues of these
// tasks wait, and heartbeats write beside the rows.
func (x *InTx) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	const op = "release tasks"
	out := make([]queue.Released, len(releases))

	// An invalid release gets its answer here and does not end the call.
	sound := make([]queue.Release, 0, len(releases))
	places := make([]int, 0, len(releases))

	for i, r := range releases {
		if err := cmp.Or(r.Check(x.store.opt.maxPayload), checkOwnScope(r)); err != nil {
			out[i].Err = queue.WithOp("release task", err)
			continue
		}
		sound, places = append(sound, r), append(places, i)
	}

	if len(sound) == 0 {
		return out, nil
	}

	answers := make([]queue.Released, len(sound))
	var m *moves
	write := func(ctx context.Context, t *txn.Tx) (woken []queue.Wake, err error) {
		clear(answers)
		if m, err = x.store.releaseTasksIn(ctx, t, x.namespace, sound, answers, false); err != nil {
			return nil, err
		}
		return m.woken, nil
	}
	err := x.runStep(ctx, op, write)
	// The step fails before it writes a row, so it can run again in the same transaction.
	for learned := false; errors.Is(err, errNeedPartition); learned = true {
		if err := x.needPartition(ctx, m.maxLetter, learned); err != nil {
			return nil, err
		}
		err = x.runStep(ctx, op, write)
	}
	if err != nil {
		return nil, err
	}
	if m.maxLetter > 0 {
		x.store.extendSoon(m.maxLetter)
	}
	for i, at := range places {
		out[at] = answers[i]
	}
	return out, nil
}

// checkOwnScope refuses a delay of a whole group or queue: their rows would stay locked until the end of the transaction.
func checkOwnScope(r queue.Release) error {
	if r.Scope == "" || r.Scope == queue.ScopeTask {
		return nil
	}
	return queue.Invalid("scope", fmt.Sprintf("must be task in a transaction, got %.64q; release the task outside of it", r.Scope))
}

// Complete releases a retained task with success and creates its follow-up tasks, in the transaction. task is the
// result of the retain. result is any value that queue.Marshal takes.
func (x *InTx) Complete(ctx context.Context, task *queue.Task, result any, then ...queue.NewTask) (*queue.Task, error) {
	const op = "complete task"
	r := queue.Release{ID: task.ID, Outcome: queue.OutcomeSuccess}
	if task.Lease != nil {
		r.Token = task.Lease.Token
	}

	var err error
	if r.Result, err = queue.Marshal(result); err != nil {
		return nil, queue.WithOp(op, err)
	}

	out, err := x.ReleaseTasks(ctx, []queue.Release{r})
	if err != nil {
		return nil, err
	}
	if out[0].Err != nil {
		return nil, queue.WithOp(op, out[0].Err)
	}
	// The lease has ended before. Only the repeat of a completion may commit the work of the caller once more.
	if status := out[0].Task.Status; out[0].Replayed && status != queue.StatusReleased && status != queue.StatusCancelled {
		return nil, queue.WithOp(op, makeLeaseLostError(task.ID))
	}

	if len(then) > 0 {
		if _, err := x.CreateTasks(ctx, then); err != nil {
			return nil, err
		}
	}
	return out[0].Task, nil
}

// createInTx creates tasks in the caller's transaction, all or none.
func (x *InTx) createInTx(ctx context.Context, op string, tasks []queue.NewTask) ([]*queue.Task, error) {
	if err := queue.CheckInt("tasks", len(tasks), 1, queue.MaxBatch); err != nil {
		return nil, queue.WithOp(op, err)
	}

	normalized, err := queue.NormalizeTasks(tasks, x.store.opt.maxPayload)
	if err != nil {
		return nil, queue.WithOp(op, err)
	}
	c := queue.Create{Namespace: x.namespace, Tasks: normalized, Atomic: true, Unlimited: !x.limited}

	var b *insertBatch
	write := func(ctx context.Context, t *txn.Tx) (woken []queue.Wake, err error) {
		b, err = x.store.createTasksIn(ctx, t, c, keysWait)
		return b.woken, err
	}

	err = x.runStep(ctx, op, write)
	// The step fails before it writes a row, so it can run again in the same transaction.
	for learned := false; errors.Is(err, errNeedPartition); learned = true {
		if err := x.needPartition(ctx, b.maxID, learned); err != nil {
			return nil, err
		}
		err = x.runStep(ctx, op, write)
	}

	if noPartition(err) { // PostgreSQL has aborted the transaction
		x.store.partitions.upper.Store(0)
		return nil, &queue.Error{
			Op: op, Kind: queue.KindUnavailable, Err: err,
			Msg: "a partition that was there is gone, as after a restore; roll the transaction back and repeat it",
		}
	}

	if err != nil {
		return nil, err
	}

	x.store.extendSoon(b.maxID)
	out := make([]*queue.Task, len(b.out))
	for i := range b.out {
		out[i] = b.out[i].Task
	}
	return out, nil
}

// needPartition finds the partition of id, or creates it. It takes no connection of the pool: callers like this one
// may hold all of them. It first asks on the caller's own transaction, and then the store creates the partition on a
// connection beside the pool. That is rare, because background work and each create make partitions ahead of need.
func (x *InTx) needPartition(ctx context.Context, id int64, learned bool) error {
	ctx, cancel := x.store.db.WithTimeout(ctx)
	defer cancel()

	if !learned {
		t := txn.Within(x.tx, x.store.db.Text)
		if err := x.store.learnPartsIn(ctx, t); err != nil {
			return txn.Translate("list partitions", err)
		}
	}

	return x.store.extendAside(ctx, id)
}

// runStep runs a step in the caller's transaction, within the timeout of a call. The wake-up leaves with the commit
// of that transaction.
func (x *InTx) runStep(ctx context.Context, op string, step func(context.Context, *txn.Tx) ([]queue.Wake, error)) error {
	ctx, cancel := x.store.db.WithTimeout(ctx)
	defer cancel()

	t := txn.Within(x.tx, x.store.db.Text)
	woken, err := step(ctx, t)
	if err != nil {
		if needPartition(err) { // the caller creates the partition and repeats the step
			return err
		}
		return txn.Translate(op, err)
	}

	// NOTIFY is part of the transaction, so it is sent at the commit.
	x.store.notify.QueueWakeUps(t, woken)

	return txn.Translate(op, t.Flush(ctx))
}
