package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// InTx is the queue inside a transaction of the caller's: what it does happens when that transaction commits, together
// with the caller's own writes, or not at all. Until then nobody sees it and nobody is woken by it.
//
// It takes no connection of the pool while it works. The transaction may have any isolation level: at repeatable read and
// serializable a call may fail with SQLSTATE 40001, as any statement there may, when it meets what others have changed since
// the snapshot (a key, a lease); repeat the whole transaction then.
//
// It is as safe for concurrent use as the pgx.Tx, that is: not. An error that the domain found (unknown queue, key
// reused, lease lost) leaves the transaction usable; an error of PostgreSQL aborts it, as ever.
type InTx struct {
	store     *Store
	tx        pgx.Tx
	namespace string
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
	if err := encodingFault(tx.Conn().PgConn()); err != nil {
		return nil, err
	}
	s.noteNewConnection(tx.Conn())
	return &InTx{store: s, tx: tx, namespace: namespace}, nil
}

// CreateTask creates one task with the transaction. Errors as of queue.Producer.
func (x *InTx) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	tasks, err := x.createInTx(ctx, "create task", []queue.NewTask{{Queue: name, TaskMeta: meta}})
	if err != nil {
		return nil, err
	}
	return tasks[0], nil
}

// CreateTasks creates up to MaxBatch tasks with the transaction, all or none. Errors as of queue.Producer.
func (x *InTx) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	return x.createInTx(ctx, "create tasks", tasks)
}

// ReleaseTasks ends holds with the transaction and answers each in order: a task is completed exactly when the work it
// stands for is committed. The leases' rows are locked until the transaction ends, so their heartbeats and rescues wait.
func (x *InTx) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	const op = "release tasks"
	out := make([]queue.Released, len(releases))
	sound := make([]queue.Release, 0, len(releases))
	places := make([]int, 0, len(releases))
	for i, r := range releases {
		if err := r.Check(x.store.opt.maxPayload); err != nil {
			out[i].Err = queue.WithOp("release task", err)
			continue
		}
		sound, places = append(sound, r), append(places, i)
	}
	if len(sound) == 0 {
		return out, nil
	}
	answers := make([]queue.Released, len(sound))
	err := x.runStep(ctx, op, func(ctx context.Context, t *tx) ([]queue.Wake, error) {
		m, err := x.store.releaseTasksIn(ctx, t, x.namespace, sound, answers, false)
		if err != nil {
			return nil, err
		}
		return m.woken, nil
	})
	if err != nil {
		return nil, err
	}
	for i, at := range places {
		out[at] = answers[i]
	}
	return out, nil
}

// Complete releases a retained task with success and creates the tasks that follow from it, with the transaction. task is
// as the retain gave it; result is anything that queue.Marshal takes.
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
	if len(then) > 0 {
		if _, err := x.CreateTasks(ctx, then); err != nil {
			return nil, err
		}
	}
	return out[0].Task, nil
}

func (x *InTx) createInTx(ctx context.Context, op string, tasks []queue.NewTask) ([]*queue.Task, error) {
	if err := queue.CheckInt("tasks", len(tasks), 1, queue.MaxBatch); err != nil {
		return nil, queue.WithOp(op, err)
	}
	c := queue.Create{Namespace: x.namespace, Tasks: make([]queue.NewTask, len(tasks)), Atomic: true}
	for i, n := range tasks {
		var err error
		if c.Tasks[i], err = n.Normalize(x.store.opt.maxPayload); err != nil {
			return nil, queue.WithOp(op, queue.At(fmt.Sprintf("tasks[%d]", i), err))
		}
	}
	var b *insertBatch
	write := func(ctx context.Context, t *tx) (woken []queue.Wake, err error) {
		b, err = x.store.createTasksIn(ctx, t, c, keysWait)
		return b.woken, err
	}
	err := x.runStep(ctx, op, write)
	for learned := false; errors.Is(err, errNeedPartition); learned = true { // nothing was written yet
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

// needPartition finds, or has made, the partition of id. It takes no connection of the pool, which may be all in the hands
// of callers like this one: it asks on the transaction's own first, and then has the store make it on one beside the pool.
// That is rare: background work, and every create, makes partitions ahead of need.
func (x *InTx) needPartition(ctx context.Context, id int64, learned bool) error {
	ctx, cancel := x.store.withCallTimeout(ctx)
	defer cancel()
	if !learned {
		t := &tx{on: x.tx, sql: x.store.sql, batch: &pgx.Batch{}}
		if err := x.store.learnPartsIn(ctx, t); err != nil {
			return translateError("list partitions", err)
		}
	}
	return x.store.extendAside(ctx, id)
}

// runStep runs a step in the caller's transaction. The hint to others leaves with its commit.
func (x *InTx) runStep(ctx context.Context, op string, step func(context.Context, *tx) ([]queue.Wake, error)) error {
	ctx, cancel := x.store.withCallTimeout(ctx)
	defer cancel()
	t := &tx{on: x.tx, sql: x.store.sql, batch: &pgx.Batch{}}
	woken, err := step(ctx, t)
	if err != nil {
		if needPartition(err) {
			return err
		}
		return translateError(op, err)
	}
	if len(woken) > 0 && !x.store.opt.noNotify {
		t.queueStatement(sendWakeUps, arg("channel", x.store.notifyChannel()), arg("payload", encodeWakeUps(woken)))
	}
	return translateError(op, t.flushBatch(ctx))
}
