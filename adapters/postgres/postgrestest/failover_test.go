package postgrestest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// ledger records the answers that clients got while a primary was killed. They must be true afterwards.
type ledger struct {
	mu       sync.Mutex
	sent     int
	ids      map[int64]string // to payload, which differs by task
	created  map[string]bool
	released map[string]int64 // to token
	worked   map[string]int   // by the worker's handlers
	faults   map[queue.Kind]int
	wrong    []string
}

func newLedger() *ledger {
	return &ledger{
		ids: map[int64]string{}, created: map[string]bool{}, released: map[string]int64{}, worked: map[string]int{},
		faults: map[queue.Kind]int{},
	}
}

func (l *ledger) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// wrongf must have mu.
func (l *ledger) wrongf(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// fault counts err, and rests a little after it.
func (l *ledger) fault(err error) bool {
	if err == nil {
		return false
	}
	l.note(func() { l.faults[queue.KindOf(err)]++ })
	time.Sleep(5 * time.Millisecond) // as a client does before it repeats
	return true
}

func (l *ledger) sizes() (created, released, worked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.created), len(l.released), len(l.worked)
}

// create creates tasks in name until ctx ends. With keys it repeats what it is not sure of until it is.
func (l *ledger) create(ctx context.Context, m queue.Service, name string, keys bool) {
	for ctx.Err() == nil {
		var mark string
		l.note(func() {
			l.sent++
			mark = fmt.Sprintf(`"%d"`, l.sent)
		})
		meta := queue.TaskMeta{Payload: []byte(mark)}
		if keys {
			meta.Key = mark
		}
		for {
			// A call that has begun is finished: its answer must hold true.
			task, err := m.CreateTask(context.WithoutCancel(ctx), name, meta)
			if l.fault(err) {
				if keys {
					continue
				}
				break
			}
			l.note(func() {
				if other, twice := l.ids[task.ID]; twice {
					l.wrongf("id %d was given to %s and to %s", task.ID, other, mark)
				}
				l.ids[task.ID], l.created[mark] = mark, true
			})
			break
		}
	}
}

// take retains and releases tasks of name until ctx ends, and repeats each release until it is sure of it.
func (l *ledger) take(ctx context.Context, m queue.Service, name string) {
	for ctx.Err() == nil {
		tasks, err := m.RetainTasks(context.WithoutCancel(ctx), queue.RetainRequest{Worker: "hand", Queues: []string{name}, Limit: 5, Wait: 100 * time.Millisecond})
		if l.fault(err) || len(tasks) == 0 {
			continue
		}
		releases := make([]queue.Release, len(tasks))
		for i, task := range tasks {
			releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess}
		}
		for {
			answers, err := m.ReleaseTasks(context.WithoutCancel(ctx), releases)
			if len(answers) != len(releases) && l.fault(err) { // with all answers, each release has its own error
				continue
			}
			l.note(func() {
				for i, a := range answers {
					r := releases[i]
					if a.Err != nil {
						l.wrongf("the release of task %d by its holder was refused: %v", r.ID, a.Err)
						continue
					}
					mark := string(tasks[i].Payload)
					if token, twice := l.released[mark]; twice {
						l.wrongf("task %d was released under the tokens %d and %d", r.ID, token, r.Token)
					}
					l.released[mark] = r.Token
				}
			})
			break
		}
	}
}

// clients are a ledger with the callers that write it, on one store.
type clients struct {
	*ledger
	m     *manager.Manager
	end   context.CancelFunc
	stop  context.CancelFunc // of what creates and takes
	hands sync.WaitGroup
	runs  sync.WaitGroup
}

// startClients has tasks created, retained and released by hand in queue "hand" and by a worker in queue "work", until finish.
func startClients(t *testing.T, s *postgres.Store) *clients {
	t.Helper()
	m, err := manager.New(s, manager.WithNamespace("tests"), manager.WithCallTimeout(5*time.Second), manager.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	retries, none := 1000, time.Duration(0)
	for name, lease := range map[string]time.Duration{"hand": time.Hour, "work": 3 * time.Second} {
		if _, err := m.RegisterQueue(t.Context(), queue.QueueMeta{Name: name, Lease: &lease, Retries: &retries, RetryDelay: &none}); err != nil {
			t.Fatal(err)
		}
	}
	l := &clients{ledger: newLedger(), m: m}
	ctx, end := context.WithCancel(t.Context())
	hands, stop := context.WithCancel(ctx)
	l.end, l.stop = end, stop
	w := worker.New(m, worker.WithConcurrency(8), worker.WithInProcess(), worker.WithDrain(patience),
		worker.WithLogger(slog.New(slog.DiscardHandler)))
	w.Handle("work", worker.HandlerFunc(func(_ context.Context, task *queue.Task) (any, error) {
		l.note(func() { l.worked[string(task.Payload)]++ })
		return nil, nil
	}))
	l.runs.Go(func() { _ = m.Run(ctx) })
	l.runs.Go(func() {
		if err := w.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			l.note(func() { l.wrongf("the worker ended: %v", err) })
		}
	})
	for i := range 4 {
		l.hands.Go(func() { l.create(hands, m, []string{"hand", "work"}[i%2], i < 2) })
		l.hands.Go(func() { l.take(hands, m, "hand") })
	}
	t.Cleanup(func() { l.close(t) })
	return l
}

// more waits until so many more tasks have been created, released by hand and worked.
func (l *clients) more(t *testing.T, n int) {
	t.Helper()
	c0, r0, w0 := l.sizes()
	waitFor(t, func() (bool, string) {
		c, r, w := l.sizes()
		return c >= c0+n && r >= r0+n/4 && w >= w0+n/4, fmt.Sprintf("%d created, %d released, %d worked", c-c0, r-r0, w-w0)
	})
}

// finish ends what creates, and waits until all is worked.
func (l *clients) finish(t *testing.T, s *postgres.Store) {
	t.Helper()
	l.stop()
	l.hands.Wait()
	rest, end := context.WithCancel(t.Context())
	var last sync.WaitGroup
	last.Go(func() { l.take(rest, l.m, "hand") }) // the tasks left behind
	defer last.Wait()
	defer end()
	// A retain that lost its answer with the primary leaves tasks under leases without a worker, for an hour in "hand".
	waitFor(t, func() (bool, string) {
		left := map[string]int64{}
		stats, err := s.QueueStats(t.Context(), "tests", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range stats {
			left[q.Queue] = q.Counts[queue.StatusNew] + q.Counts[queue.StatusRetry]
			if q.Queue == "work" {
				left[q.Queue] += q.Counts[queue.StatusRetained]
			}
		}
		return left["hand"]+left["work"] == 0, fmt.Sprint(left)
	})
}

func (l *clients) close(t *testing.T) {
	l.stop()
	l.hands.Wait()
	l.end()
	l.runs.Wait()
	ctx, cancel := cleanupContext(t)
	defer cancel()
	if err := l.m.Close(ctx); err != nil {
		t.Error(err)
	}
}

// kept compares the ledger with what is there: the acknowledged creates and releases that are lost, and what is there twice.
func (l *clients) kept(t *testing.T, s *postgres.Store, conn *pgx.Conn) (lostCreates, lostReleases int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	rows, err := conn.Query(t.Context(), "select payload::text, id from pgqueue.task")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]int64{}
	var mark string
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&mark, &id}, func() error {
		if other, twice := there[mark]; twice && mark != string(queue.EmptyJSON) {
			l.wrongf("create %s left the tasks %d and %d", mark, id, other)
		}
		there[mark] = id
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	status := map[int64]queue.Status{}
	for ids := range slices.Chunk(slices.Collect(maps.Values(there)), 1000) {
		tasks, err := s.GetTasks(t.Context(), "tests", ids, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			status[task.ID] = task.Status
		}
	}
	for mark := range l.created {
		if there[mark] == 0 {
			lostCreates++
		}
	}
	for mark := range l.released {
		if status[there[mark]] != queue.StatusReleased {
			lostReleases++
		}
	}
	for _, w := range l.wrong {
		t.Error(w)
	}
	return lostCreates, lostReleases
}

// waitIn has another process wait for a task of queue name, without polling.
func waitIn(t *testing.T, s *postgres.Store, name string) <-chan error {
	t.Helper()
	m, err := manager.New(s, manager.WithNamespace("tests"), manager.WithPollInterval(rarely), manager.WithBackgroundWork(false))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	runs.Go(func() { _ = m.Run(ctx) })
	out := make(chan error, 1)
	runs.Go(func() {
		for {
			tasks, err := m.RetainTasks(ctx, queue.RetainRequest{Worker: "idle", Queues: []string{name}, Wait: queue.MaxWait})
			if len(tasks) == 1 || ctx.Err() != nil {
				out <- err
				return
			}
		}
	})
	t.Cleanup(func() {
		end()
		runs.Wait()
		if err := m.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	return out
}

// TestFailover kills a primary under load and has its standby take over, with clients that know both and are not restarted.
func TestFailover(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for round := range sized(t, 1, 5) {
		p := startPair(t, true, "on")
		s, idle := openPair(t, p), openPair(t, p)
		l := startClients(t, s)
		makeQueue(t, s, "tests", "idle")
		waiting := waitIn(t, idle, "idle")
		l.more(t, 500)
		began := time.Now()
		p.failOver(t)
		promoted := time.Now()
		l.more(t, 500)
		t.Logf("round %d: promoted after %v, %v later 500 more were created and 125 worked", round, promoted.Sub(began), time.Since(promoted))

		waitFor(t, func() (bool, string) { return idle.Listening() && s.Listening(), "no store listens" })
		makeTask(t, s, "tests", "idle")
		select {
		case err := <-waiting: // by a notification: it does not poll
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("a waiting retain was not woken after the failover")
		}

		l.finish(t, s)
		conn := connect(t, p.standbyURL)
		creates, releases := l.kept(t, s, conn)
		if creates > 0 || releases > 0 {
			t.Errorf("%d acknowledged creates and %d releases are lost", creates, releases)
		}
		recounted(t, s)
		c, r, worked := l.sizes()
		t.Logf("round %d: %d creates and %d releases were acknowledged, %d were worked; errors: %v", round, c, r, worked, l.faults)
		for kind := range l.faults {
			if !slices.Contains([]queue.Kind{queue.KindUnavailable, queue.KindIndeterminate, queue.KindDeadline}, kind) {
				t.Errorf("a failover was answered by %s", kind)
			}
		}
		l.close(t)
	}
}

// TestFailoverThatLoses fails over to a standby that lags: the commits that it lacks are lost, and everything else continues.
// The clients are not restarted, so their memory of the lost commits must do no harm.
func TestFailoverThatLoses(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, tt := range []struct {
		name          string
		isSynchronous bool
		commit        string
	}{
		{"an asynchronous standby", false, "on"},
		{"a synchronous standby that commits do not wait for, local", true, "local"},
		{"a synchronous standby that commits do not wait for, off", true, "off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, tt.isSynchronous, tt.commit)
			s := openPair(t, p)
			l := startClients(t, s)
			l.more(t, 300)
			p.cut(t)
			l.more(t, 300) // only the primary has these
			// A queue and a priority of the lost time, which the process remembers.
			makeQueue(t, s, "tests", "lost")
			if _, err := l.m.CreateTask(t.Context(), "work", queue.TaskMeta{Priority: 7, Payload: []byte(`"early"`)}); err != nil {
				t.Fatal(err)
			}
			p.failOver(t)
			l.more(t, 300)
			late, err := l.m.CreateTask(t.Context(), "work", queue.TaskMeta{Priority: 7, Payload: []byte(`"late"`)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.m.CreateTask(t.Context(), "lost", queue.TaskMeta{}); queue.KindOf(err) != queue.KindNotFound {
				t.Errorf("a create in a queue that was lost ended with %v", err)
			}
			waitFor(t, func() (bool, string) {
				task, err := s.GetTasks(t.Context(), "tests", []int64{late.ID}, false)
				if err != nil || len(task) != 1 {
					t.Fatal(task, err)
				}
				return task[0].Status == queue.StatusReleased, fmt.Sprintf("a task of a priority that was lost is %s", task[0].Status)
			})
			l.stop()
			l.hands.Wait()
			c, r, _ := l.sizes()
			l.note(func() { l.wrong = nil }) // ids and tokens of the lost time were given again
			creates, releases := l.kept(t, s, connect(t, p.standbyURL))
			t.Logf("of %d acknowledged creates %d are lost, of %d releases %d; errors: %v", c, creates, r, releases, l.faults)
			if creates == 0 {
				t.Error("nothing was lost: this shows nothing")
			}
			recounted(t, s)
		})
	}
}

// TestUnconfirmedCommits has commits wait for a standby that does not answer, until an administrator ends the wait. PostgreSQL
// commits all the same then: the rows are visible, and a failover loses them. So the call may not be acknowledged, not even
// to a caller that repeats it and finds the rows.
func TestUnconfirmedCommits(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	p := startPair(t, true, "on")
	admin := connect(t, p.primaryURL)
	hasty, patient := open(t, p.primaryURL, postgres.WithCallTimeout(500*time.Millisecond)), open(t, p.primaryURL+"&application_name=patient")
	makeQueue(t, patient, "tests", "mail")
	create := func(s *postgres.Store, key string) error {
		_, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "tests", Tasks: []queue.NewTask{
			{Queue: "mail", TaskMeta: queue.TaskMeta{Key: key, Payload: queue.EmptyJSON}},
		}})
		return err
	}
	if err := create(patient, "before"); err != nil {
		t.Fatal(err)
	}
	tasks, err := patient.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 1, Lease: time.Hour}}})
	if err != nil || len(tasks[0]) != 1 {
		t.Fatal(tasks, err)
	}
	release := func(s *postgres.Store) error {
		_, err := s.ReleaseTasks(t.Context(), "tests", []queue.Release{{ID: tasks[0][0].ID, Token: tasks[0][0].Lease.Token, Outcome: queue.OutcomeSuccess}})
		return err
	}
	p.cut(t)
	there := func(key string) bool {
		return value[bool](t, admin, "select exists (select from pgqueue.task where key = $1)", key)
	}
	refused := func(name string, err error) {
		t.Helper()
		if queue.KindOf(err) != queue.KindIndeterminate {
			t.Errorf("%s ended with %v", name, err)
		}
	}
	refused("a create past its deadline", create(hasty, "a"))
	waitFor(t, func() (bool, string) { return there("a"), "the wait goes on" })
	refused("its repeat", create(hasty, "a"))
	refused("a release past its deadline", release(hasty))
	waitFor(t, func() (bool, string) {
		task, err := patient.GetTasks(t.Context(), "tests", []int64{tasks[0][0].ID}, false)
		return err == nil && task[0].Status == queue.StatusReleased, fmt.Sprint(task, err)
	})
	refused("its repeat", release(hasty))

	cancelled := make(chan error, 1)
	go func() { cancelled <- create(patient, "b") }()
	waitFor(t, func() (bool, string) {
		n := value[int](t, admin, "select count(*) filter (where pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep' and application_name = 'patient'")
		return n > 0, "no session waits"
	})
	refused("a create after an administrator ended its wait", <-cancelled)
	if !there("b") {
		t.Error("it is not there: this shows nothing")
	}

	p.rejoin(t)
	for _, key := range []string{"a", "b"} {
		if err := create(patient, key); err != nil {
			t.Error(err)
		}
	}
	if err := release(patient); err != nil {
		t.Error(err)
	}
	p.failOver(t)
	after := connect(t, p.standbyURL)
	if n := value[int](t, after, "select count(*) from pgqueue.task where key in ('a', 'b')"); n != 2 {
		t.Errorf("%d of 2 tasks are there that were acknowledged at last", n)
	}
	task, err := openPair(t, p).GetTasks(t.Context(), "tests", []int64{tasks[0][0].ID}, false)
	if err != nil || len(task) != 1 || task[0].Status != queue.StatusReleased {
		t.Error("the release is lost that was acknowledged at last", task, err)
	}
}
