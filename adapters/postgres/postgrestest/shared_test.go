package postgrestest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestSharedCalls keeps a caller's transaction open and has others of the namespace call at the same time, so that the batcher
// puts them into the same Store calls: they are answered while that transaction is open still. Its end depends on them, so a
// call that waits for it fails the test by its deadline, at any speed of the machine.
func TestSharedCalls(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, c := range []struct {
		sentence string
		// hold does something in an open transaction; blocked is what has to wait for its end, innocent what has not.
		hold     func(e *sharing, tx *postgres.InTx) error
		blocked  func(e *sharing) error
		innocent []func(e *sharing, i int) error
		commit   bool
	}{
		{
			sentence: "a completion in an open transaction holds up no heartbeat, release, create or retain of others",
			hold: func(e *sharing, tx *postgres.InTx) error {
				_, err := tx.Complete(e.ctx, e.mine[0], nil)
				return err
			},
			innocent: []func(e *sharing, i int) error{(*sharing).beat, (*sharing).release, (*sharing).create, (*sharing).keyed},
			commit:   true,
		},
		{
			sentence: "nor a heartbeat of its own task and of those retained together with it",
			hold: func(e *sharing, tx *postgres.InTx) error {
				_, err := tx.Complete(e.ctx, e.mine[0], nil)
				return err
			},
			innocent: []func(e *sharing, i int) error{(*sharing).beatMine, (*sharing).beat},
		},
		{
			sentence: "a release of a task that was retained together with it waits, alone",
			hold: func(e *sharing, tx *postgres.InTx) error {
				_, err := tx.Complete(e.ctx, e.mine[0], nil)
				return err
			},
			blocked:  func(e *sharing) error { return e.end(e.mine[1]) },
			innocent: []func(e *sharing, i int) error{(*sharing).release, (*sharing).beat},
			commit:   true,
		},
		{
			sentence: "a key that is taken in an open transaction holds up creates with that key alone; it commits",
			hold: func(e *sharing, tx *postgres.InTx) error {
				_, err := tx.CreateTask(e.ctx, "other", queue.TaskMeta{Key: "taken"})
				return err
			},
			blocked: func(e *sharing) error {
				task, err := e.m.CreateTask(e.ctx, "other", queue.TaskMeta{Key: "taken"})
				if err == nil && !task.Replayed {
					err = errors.New("the key that was committed made a second task")
				}
				return err
			},
			innocent: []func(e *sharing, i int) error{(*sharing).create, (*sharing).keyed, (*sharing).beat, (*sharing).release},
			commit:   true,
		},
		{
			sentence: "a key that is taken in an open transaction holds up creates with that key alone; it rolls back",
			hold: func(e *sharing, tx *postgres.InTx) error {
				_, err := tx.CreateTask(e.ctx, "other", queue.TaskMeta{Key: "taken"})
				return err
			},
			blocked: func(e *sharing) error {
				task, err := e.m.CreateTask(e.ctx, "other", queue.TaskMeta{Key: "taken"})
				if err == nil && task.Replayed {
					err = errors.New("the key that was rolled back has a task")
				}
				return err
			},
			innocent: []func(e *sharing, i int) error{(*sharing).create, (*sharing).keyed},
		},
		{
			sentence: "a bulk of many keys waits for the one that is taken, and others for none of them",
			hold: func(e *sharing, tx *postgres.InTx) error {
				_, err := tx.CreateTask(e.ctx, "other", queue.TaskMeta{Key: "taken"})
				return err
			},
			blocked: func(e *sharing) error {
				tasks := make([]queue.NewTask, 50)
				for i := range tasks {
					tasks[i] = queue.NewTask{Queue: "other", TaskMeta: queue.TaskMeta{Key: fmt.Sprint("bulk", i)}}
				}
				tasks[33].Key = "taken"
				_, err := e.m.CreateTasks(e.ctx, tasks)
				return err
			},
			innocent: []func(e *sharing, i int) error{(*sharing).create, (*sharing).keyed},
		},
		{
			sentence: "the first task of a priority, created in an open transaction, holds up no other of that priority",
			hold: func(e *sharing, tx *postgres.InTx) error {
				_, err := tx.CreateTask(e.ctx, "other", queue.TaskMeta{Priority: 7})
				return err
			},
			innocent: []func(e *sharing, i int) error{func(e *sharing, _ int) error {
				_, err := e.m.CreateTask(e.ctx, "other", queue.TaskMeta{Priority: 7})
				return err
			}, (*sharing).create},
			commit: true,
		},
		{
			sentence: "a task that waits for its FIFO group and is replaced in an open transaction holds up its group alone",
			hold:     func(e *sharing, tx *postgres.InTx) error { return e.replaceIn(tx, "fifo", "k0") },
			blocked:  func(e *sharing) error { return e.replace("fifo", "k0") },
			innocent: []func(e *sharing, i int) error{
				takeFrom("fifo"), takeFrom("fifo", "other"), takeFrom(), (*sharing).create, func(e *sharing, _ int) error { return e.replace("fifo", "k1") },
			},
			commit: true,
		},
		{
			sentence: "a task that waits for its group and is replaced in an open transaction holds up no start of others",
			hold: func(e *sharing, tx *postgres.InTx) error {
				if err := e.endFirst("limited"); err != nil {
					return err
				}
				return e.replaceIn(tx, "limited", "k1")
			},
			blocked:  func(e *sharing) error { return e.replace("limited", "k1") },
			innocent: []func(e *sharing, i int) error{takeFrom("limited"), takeFrom("limited", "other"), takeFrom(), (*sharing).create},
		},
		{
			sentence: "a task that is debounced in an open transaction holds up creates with its key alone",
			hold:     func(e *sharing, tx *postgres.InTx) error { return e.replaceIn(tx, "other", "late") },
			blocked:  func(e *sharing) error { return e.replace("other", "late") },
			innocent: []func(e *sharing, i int) error{(*sharing).create, (*sharing).keyed, takeFrom("other"), (*sharing).beat},
			commit:   true,
		},
		{
			sentence: "a task of a bulk that is replaced in an open transaction holds up no other task of that bulk",
			hold:     func(e *sharing, tx *postgres.InTx) error { return e.replaceIn(tx, "bulk", "k0") },
			blocked:  func(e *sharing) error { return e.replace("bulk", "k0") },
			innocent: []func(e *sharing, i int) error{
				func(e *sharing, i int) error { return e.replace("bulk", fmt.Sprint("k", 1+i)) },
				takeFrom("bulk"), (*sharing).create, (*sharing).keyed,
			},
		},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			t.Parallel()
			e := newSharing(t)
			tx, err := e.s.Pool().Begin(e.ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.WithoutCancel(e.ctx)) }()
			in, err := e.s.InTx(tx, "tests")
			if err == nil {
				err = c.hold(e, in)
			}
			if err != nil {
				t.Fatal(err)
			}

			blocked := make(chan error, 1)
			if c.blocked != nil {
				go func() { blocked <- c.blocked(e) }()
			}
			for range 3 { // the later rounds meet the blocked call at work
				answers := make(chan error)
				const each = 4
				for _, innocent := range c.innocent {
					i := e.next
					e.next += each
					for i := i; i < e.next; i++ {
						go func() { answers <- innocent(e, i) }()
					}
				}
				for range each * len(c.innocent) {
					if err := <-answers; err != nil {
						t.Error("while the transaction is open: ", err)
					}
				}
			}
			if c.blocked != nil {
				select {
				case err := <-blocked:
					t.Fatalf("the call that had to wait was answered: %v", err)
				default:
				}
			}

			end := tx.Rollback
			if c.commit {
				end = tx.Commit
			}
			if err := end(e.ctx); err != nil {
				t.Fatal(err)
			}
			if c.blocked != nil {
				if err := <-blocked; err != nil {
					t.Error("behind its end: ", err)
				}
			}
			noContradictions(t, e.s)
		})
	}
}

// sharing is a namespace with tasks of two holders.
type sharing struct {
	ctx    context.Context
	s      *postgres.Store
	m      *manager.Manager
	mine   []*queue.Task // of the caller with the transaction, in one lease
	theirs []*queue.Task // of others, each in a lease of its own
	first  []*queue.Task // of the queue that limits its groups
	next   int
}

func newSharing(t *testing.T) *sharing {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	e := &sharing{ctx: ctx, s: postgrestest.Open(t)}
	for _, name := range []string{"mine", "other", "bulk"} {
		makeQueue(t, e.s, "tests", name)
	}
	makeFlowQueue(t, e.s, "tests", "fifo", queue.FlowMeta{Order: new(queue.OrderFIFO)})
	makeFlowQueue(t, e.s, "tests", "limited", queue.FlowMeta{GroupConcurrency: new(1)})
	m, err := manager.New(e.s, manager.WithNamespace("tests"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.WithoutCancel(ctx)) })
	e.m = m
	makeTask(t, e.s, "tests", "mine", "mine", "mine")
	const n = 60
	tasks := make([]queue.NewTask, n)
	for i := range tasks {
		tasks[i].Queue = "other"
	}
	if _, err := m.CreateTasks(ctx, tasks); err != nil {
		t.Fatal(err)
	}
	if e.mine, err = m.RetainTasks(ctx, queue.RetainRequest{Worker: "w1", Queues: []string{"mine"}, Limit: 3}); err != nil || len(e.mine) != 3 {
		t.Fatal(e.mine, err)
	}
	for range n {
		one, err := m.RetainTasks(ctx, queue.RetainRequest{Worker: "w2", Queues: []string{"other"}})
		if err != nil || len(one) != 1 {
			t.Fatal(one, err)
		}
		e.theirs = append(e.theirs, one...)
	}

	// Three tasks of one group with keys, and many of other groups; of the limited queue one is in hand and the others wait.
	for _, name := range []string{"fifo", "limited", "bulk"} {
		c := queue.Create{Namespace: "tests", Atomic: true}
		for i := range 100 {
			task := queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Group: fmt.Sprint("h", i)}}
			if name == "bulk" {
				task.Group, task.Key = "", fmt.Sprint("k", i)
			} else if i < 3 {
				task.Group, task.Key = "g", fmt.Sprint("k", i)
			}
			c.Tasks = append(c.Tasks, task)
		}
		if _, err := e.s.CreateTasks(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	late := queue.NewTask{Queue: "other", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Key: "late", KeyRule: queue.KeyRule{Debounce: time.Hour}}}
	if _, err := e.s.CreateTasks(ctx, queue.Create{Namespace: "tests", Tasks: []queue.NewTask{late}, Atomic: true}); err != nil {
		t.Fatal(err)
	}
	if e.first, err = m.RetainTasks(ctx, queue.RetainRequest{Worker: "w3", Queues: []string{"limited"}, Limit: 10}); err != nil || len(e.first) != 10 {
		t.Fatal(e.first, err)
	}
	return e
}

// replaceIn replaces a task in the open transaction.
func (e *sharing) replaceIn(tx *postgres.InTx, name, key string) error {
	_, err := tx.CreateTask(e.ctx, name, ruledTask(name, key).TaskMeta)
	return err
}

// replace replaces a task beside the open transaction.
func (e *sharing) replace(name, key string) error {
	_, err := e.m.CreateTask(e.ctx, name, ruledTask(name, key).TaskMeta)
	return err
}

// ruledTask returns a task that takes the place of the one with its key.
func ruledTask(name, key string) queue.NewTask {
	meta := queue.TaskMeta{Payload: queue.EmptyJSON, Key: key, KeyRule: queue.KeyRule{OnConflict: queue.ConflictReplace}}
	switch name {
	case "fifo", "limited":
		meta.Group = "g"
	case "other":
		meta.KeyRule = queue.KeyRule{Debounce: time.Hour}
	}
	return queue.NewTask{Queue: name, TaskMeta: meta}
}

// endFirst ends the first task of the group with keys, so that the next one may start.
func (e *sharing) endFirst(name string) error {
	for _, task := range e.first {
		if task.Queue == name && task.Group == "g" {
			return e.end(task)
		}
	}
	return errors.New("no task of the group is in hand")
}

// takeFrom returns a call that retains one task from queues, of which one is not held up.
func takeFrom(names ...string) func(e *sharing, i int) error {
	return func(e *sharing, _ int) error {
		if slices.Contains(names, "other") || len(names) == 0 {
			if err := e.create(0); err != nil {
				return err
			}
		}
		got, err := e.m.RetainTasks(e.ctx, queue.RetainRequest{Worker: "w4", Queues: names, Wait: time.Minute})
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("a retain from %v got %d tasks", names, len(got))
		}
		return err
	}
}

func (e *sharing) beatOf(task *queue.Task) error {
	out, err := e.m.HeartbeatTasks(e.ctx, []queue.Heartbeat{{ID: task.ID, Token: task.Lease.Token}})
	if err == nil {
		err = out[0].Err
	}
	return err
}

func (e *sharing) end(task *queue.Task) error {
	out, err := e.m.ReleaseTasks(e.ctx, []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess}})
	if err == nil {
		err = out[0].Err
	}
	return err
}

func (e *sharing) beat(i int) error     { return e.beatOf(e.theirs[i]) }
func (e *sharing) beatMine(i int) error { return e.beatOf(e.mine[i%3]) }
func (e *sharing) release(i int) error  { return e.end(e.theirs[i]) }

func (e *sharing) create(int) error {
	_, err := e.m.CreateTask(e.ctx, "other", queue.TaskMeta{})
	return err
}

func (e *sharing) keyed(i int) error {
	_, err := e.m.CreateTask(e.ctx, "other", queue.TaskMeta{Key: fmt.Sprint("innocent", i)})
	return err
}

// noContradictions has doctor's check find nothing.
func noContradictions(t *testing.T, s *postgres.Store) {
	t.Helper()
	found, _, err := s.FindContradictions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found {
		t.Errorf("the rows contradict each other: %+v", c)
	}
}

// TestReplaceLeavesNeighbours: a create that replaces a task in an open transaction holds no other task of its bulk create up.
func TestReplaceLeavesNeighbours(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	rule := queue.KeyRule{OnConflict: queue.ConflictReplace}
	for name, replace := range map[string]func(t *testing.T, s *postgres.Store, tx pgx.Tx, key string) error{
		"in Go": func(t *testing.T, s *postgres.Store, tx pgx.Tx, key string) error {
			in, err := s.InTx(tx, "tests")
			if err == nil {
				_, err = in.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: queue.EmptyJSON, Key: key, KeyRule: rule})
			}
			return err
		},
		"in SQL": func(t *testing.T, _ *postgres.Store, tx pgx.Tx, key string) error {
			_, err := tx.Exec(t.Context(), `select pgqueue.create_task('mail', '{}'::json, key => $1, namespace => 'tests', options => '{"on_conflict": "replace"}')`, key)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, conn := open(t, dsn), connect(t, dsn)
			firstPartition(t, s)
			makeQueue(t, s, "tests", "mail")
			const n = 192
			c := queue.Create{Namespace: "tests", Atomic: true}
			for i := range n { // runs of tasks without a key stand beside those with one
				task := queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}}
				if i%64 < 32 {
					task.Key = fmt.Sprint("k", i)
				}
				if i%64 < 16 { // without a rule too: a later create brings one
					task.KeyRule = rule
				}
				c.Tasks = append(c.Tasks, task)
			}
			if _, err := s.CreateTasks(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if rows := value[int](t, conn, "select count(*) from pgqueue.ready"); rows > n/2+6 {
				t.Errorf("%d tasks, half of them without a key, have %d rows", n, rows)
			}

			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"k5", "k31", "k64"} {
				if err := replace(t, s, tx, key); err != nil {
					t.Fatal(err)
				}
			}
			got := map[int64]bool{}
			for range 3 {
				out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 100}}})
				if err != nil {
					t.Fatal(err)
				}
				for _, task := range out[0] {
					got[task.ID] = true
				}
			}
			if len(got) != n-3 {
				t.Errorf("%d tasks are retained beside the open transaction, want %d", len(got), n-3)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
