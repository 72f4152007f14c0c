package postgrestest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestGroupsUnderRandomCalls creates, retains, releases, pauses, raises and lowers at random, over several processes. Afterwards
// every task ends: no wake-up is lost. While it works, the leases never exceed a limit that held all the time.
func TestGroupsUnderRandomCalls(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, c := range []struct {
		name string
		flow queue.FlowMeta
		most int // tasks of a group in hand
		// shares are the requests of a call.
		shares int
	}{
		{"places", queue.FlowMeta{GroupConcurrency: new(3)}, 5, 1},
		{"places in shared calls", queue.FlowMeta{GroupConcurrency: new(3)}, 5, 4},
		{"order", queue.FlowMeta{Order: new(queue.OrderFIFO), FIFOBatch: new(2)}, 2, 1},
		{"order in shared calls", queue.FlowMeta{Order: new(queue.OrderFIFO), FIFOBatch: new(8)}, 8, 4},
		{"order and shares", queue.FlowMeta{Order: new(queue.OrderFIFO), Fair: new(true)}, 1, 1},
		{"order and shares in shared calls", queue.FlowMeta{Order: new(queue.OrderFIFO), FIFOBatch: new(4), Fair: new(true)}, 4, 4},
		{"places, shares and rates", queue.FlowMeta{GroupConcurrency: new(2), Fair: new(true), GroupRateLimit: new(500), RateLimit: new(2000)}, 5, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &groupRun{T: t, most: c.most, shares: c.shares, ordered: c.flow.Order != nil, dsn: postgrestest.URL(t), name: "q"}
			for range 3 {
				r.stores = append(r.stores, postgrestest.OpenURL(t, r.dsn, postgres.WithMaxConns(4)))
			}
			q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: r.name, RetryDelay: new(time.Millisecond), FlowMeta: c.flow})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.stores[0].CreateQueue(t.Context(), q); err != nil {
				t.Fatal(err)
			}

			r.work(sized(t, 3*time.Second, time.Minute), c.flow.GroupConcurrency != nil)
			r.drain()
		})
	}
}

// groupRun is a run over one queue.
type groupRun struct {
	*testing.T
	most    int
	shares  int
	ordered bool
	dsn     string
	name    string
	stores  []*postgres.Store
	created atomic.Int64
}

// work calls at random for a time.
func (r *groupRun) work(length time.Duration, limits bool) {
	ctx, cancel := context.WithTimeout(r.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i, s := range r.stores {
		for w := range 2 {
			wg.Go(func() { r.retainAndRelease(ctx, s, fmt.Sprint("w", i, w), true) })
		}
		wg.Go(func() { r.create(ctx, s) })
		wg.Go(func() { r.maintain(ctx, s) })
	}
	wg.Go(func() { r.changeSettings(ctx, limits) })
	wg.Go(func() { r.watchLeases(ctx) })
	wg.Wait()
}

func (r *groupRun) create(ctx context.Context, s *postgres.Store) {
	for ctx.Err() == nil {
		tasks := make([]queue.NewTask, 1+rand.IntN(40))
		for i := range tasks {
			tasks[i] = queue.NewTask{Queue: r.name, TaskMeta: queue.TaskMeta{Group: fmt.Sprint("g", rand.IntN(12)), Payload: queue.EmptyJSON}}
			if r.shares > 1 {
				tasks[i].Payload = []byte(`"` + strings.Repeat("x", rand.IntN(3_000)) + `"`)
			}
			if rand.IntN(20) == 0 {
				tasks[i].Delay = time.Duration(1+rand.IntN(300)) * time.Millisecond
			}
		}
		if _, err := s.CreateTasks(ctx, queue.Create{Namespace: queue.DefaultNamespace, Tasks: tasks, Atomic: true}); err == nil {
			r.created.Add(int64(len(tasks)))
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
	}
}

// retainAndRelease works tasks until ctx ends, and returns how many it ended. With faults some come back.
func (r *groupRun) retainAndRelease(ctx context.Context, s *postgres.Store, worker string, faults bool) (ended int) {
	for ctx.Err() == nil {
		out, err := s.RetainTasks(ctx, queue.Retain{Namespace: queue.DefaultNamespace, Queues: []string{r.name}, Requests: r.requests(worker)})
		all := slices.Concat(out...)
		if err != nil || len(all) == 0 {
			time.Sleep(5 * time.Millisecond)
			if !faults && err == nil {
				return ended
			}
			continue
		}

		// In a FIFO batch the first one that does not end hands back those behind it, as a worker does.
		var releases []queue.Release
		back := map[string]bool{}
		for _, task := range all {
			rel := queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
			switch n := rand.IntN(30); {
			case back[task.Group] || faults && n == 0:
				rel.Outcome = queue.OutcomeHandBack
				back[task.Group] = true
			case faults && n == 1:
				rel.Outcome = queue.OutcomeFailure
				back[task.Group] = true
			case faults && n == 2:
				rel.Outcome, rel.Delay = queue.OutcomeSnooze, 20*time.Millisecond
				back[task.Group] = true
			}
			if rel.Outcome == queue.OutcomeSuccess {
				ended++
			}
			releases = append(releases, rel)
		}
		if _, err := s.ReleaseTasks(context.WithoutCancel(ctx), queue.DefaultNamespace, releases); err != nil {
			r.Errorf("release: %v", err)
		}
	}
	return ended
}

// requests returns the requests of one call, each of a worker of its own.
func (r *groupRun) requests(worker string) []queue.RetainShare {
	shares := []queue.RetainShare{{Worker: worker, Limit: 1 + rand.IntN(20), Lease: 3 * time.Second}}
	for i := 1; i < r.shares; i++ {
		share := queue.RetainShare{Worker: fmt.Sprint(worker, "-", i), Limit: 1 + rand.IntN(6), Lease: 3 * time.Second}
		if rand.IntN(2) == 0 {
			share.MaxBytes = 4_000
		}
		shares = append(shares, share)
	}
	return shares
}

func (r *groupRun) maintain(ctx context.Context, s *postgres.Store) {
	for ctx.Err() == nil {
		for _, chore := range []queue.Chore{queue.ChorePromote, queue.ChoreRescue, queue.ChoreFold, queue.ChoreExpire} {
			_, _ = s.Maintain(ctx, chore)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// changeSettings pauses groups, cancels tasks, and changes the limit of groups.
func (r *groupRun) changeSettings(ctx context.Context, limits bool) {
	for ctx.Err() == nil {
		s := r.stores[rand.IntN(len(r.stores))]
		group := fmt.Sprint("g", rand.IntN(12))
		switch n := rand.IntN(4); {
		case n == 0:
			_, _ = s.UpdateGroup(ctx, queue.DefaultNamespace, r.name, group, queue.GroupMeta{PausedUntil: new(time.Now().Add(100 * time.Millisecond))})
		case n == 1:
			_, _ = s.UpdateGroup(ctx, queue.DefaultNamespace, r.name, group, queue.GroupMeta{PausedUntil: new(time.Time{})})
		case n == 2 && limits:
			_, _ = s.UpdateQueue(ctx, queue.DefaultNamespace, r.name, queue.QueueMeta{FlowMeta: queue.FlowMeta{GroupConcurrency: new(1 + rand.IntN(5))}})
		case n == 3:
			page, err := s.ListTasks(ctx, queue.DefaultNamespace, queue.TaskQuery{
				TaskFilter: queue.TaskFilter{Queue: r.name, Statuses: []queue.Status{queue.StatusNew}}, Page: queue.Page{Limit: 3},
			})
			if err == nil && len(page.Tasks) > 0 {
				_, _ = s.CancelTasks(ctx, queue.DefaultNamespace, queue.Selection{IDs: []int64{page.Tasks[0].ID}})
			}
		}
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
	}
}

// watchLeases compares the leases with the largest limit that the run sets.
func (r *groupRun) watchLeases(ctx context.Context) {
	conn, err := pgx.Connect(ctx, r.dsn)
	if err != nil {
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		var most, hands int
		err := conn.QueryRow(ctx, `select coalesce(max(n), 0), coalesce(max(hands), 0) from (
			select count(*) as n, count(distinct l.worker) as hands from pgqueue.lease l
			cross join lateral unnest(l.task_ids, l.grps) i (id, grp) where i.id <> 0 group by i.grp) x`).Scan(&most, &hands)
		if err == nil && most > r.most {
			r.Errorf("%d tasks of a group are in hand, at most %d", most, r.most)
		}
		if err == nil && r.ordered && hands > 1 {
			r.Errorf("%d workers have tasks of one group", hands)
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// drain works until no task waits, with settings as they are, and checks what is left behind.
func (r *groupRun) drain() {
	s, conn := r.stores[0], connect(r.T, r.dsn)
	deadline := time.Now().Add(60 * time.Second)
	for {
		r.maintainOnce(s)
		r.retainAndRelease(r.Context(), s, "last", false)
		counts, err := s.Recount(r.Context(), queue.DefaultNamespace)
		if err != nil {
			r.Fatal(err)
		}
		left := counts[r.name][queue.StatusNew] + counts[r.name][queue.StatusRetry] + counts[r.name][queue.StatusRetained]
		// A marker below the cursors waits for the next search from the beginning; counts are right when it is read. Those in front
		// count nothing, and stay in a queue without limits.
		if left == 0 && value[int](r.T, conn, "select count(*) from pgqueue.ready where lane < 2147483647") == 0 {
			break
		}
		if time.Now().After(deadline) {
			r.Fatalf("%d tasks wait for good: %v", left, counts[r.name])
		}
	}

	stats, err := s.QueueStats(r.Context(), queue.DefaultNamespace, r.name)
	if err != nil {
		r.Fatal(err)
	}
	if n := stats[0].GroupWaiting; n != 0 {
		r.Errorf("%d tasks are counted that wait for a group", n)
	}
	if n := stats[0].Ready; n != 0 {
		r.Errorf("%d tasks are counted that are ready", n)
	}
	if r.created.Load() == 0 {
		r.Error("no task was created")
	}
	r.Logf("%d tasks", r.created.Load())

	if waiting := value[int](r.T, conn, "select count(*) from pgqueue.group_waiting"); waiting != 0 {
		r.Errorf("%d rows wait for a group", waiting)
	}
}

func (r *groupRun) maintainOnce(s *postgres.Store) {
	for _, chore := range []queue.Chore{queue.ChorePromote, queue.ChoreRescue, queue.ChoreFold} {
		_, _ = s.Maintain(r.Context(), chore)
	}
}

// TestLostPlacesOfGroupsAreFreed: rows that were changed by hand hold up no group for good.
func TestLostPlacesOfGroupsAreFreed(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: "q", FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateQueue(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	tasks := make([]queue.NewTask, 3)
	for i := range tasks {
		tasks[i] = queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Group: "a", Payload: queue.EmptyJSON}}
	}
	if _, err := s.CreateTasks(t.Context(), queue.Create{Namespace: queue.DefaultNamespace, Tasks: tasks, Atomic: true}); err != nil {
		t.Fatal(err)
	}
	retain := func() []*queue.Task {
		t.Helper()
		out, err := s.RetainTasks(t.Context(), queue.Retain{
			Namespace: queue.DefaultNamespace, Queues: []string{"q"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 5}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	if got := retain(); len(got) != 1 {
		t.Fatalf("%d tasks", len(got))
	}

	admin := connect(t, dsn)
	for _, c := range []struct{ name, change, finding string }{
		{
			"the task of a place is gone",
			"with gone as (delete from pgqueue.lease returning task_ids) delete from pgqueue.task where id in (select unnest(task_ids) from gone)",
			"1 tasks that have ended keep places",
		},
		{
			"a state and its markers are gone",
			"with gone as (delete from pgqueue.group_state) delete from pgqueue.ready where n = 0",
			"",
		},
	} {
		if _, err := admin.Exec(t.Context(), c.change); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.finding != "" {
			found, err := s.Diagnose(t.Context())
			if i := slices.IndexFunc(found, func(f queue.Finding) bool { return f.Name == "groups" }); err != nil || found[i].Level != queue.LevelWarn || !strings.Contains(found[i].Value, c.finding) {
				t.Errorf("%s: the doctor finds %v, %v", c.name, found, err)
			}
		}
		other := postgrestest.OpenURL(t, dsn) // its auditor begins at once
		if _, err := other.Maintain(t.Context(), queue.ChorePrune); err != nil {
			t.Fatal(err)
		}
		if got := retain(); len(got) != 1 {
			t.Errorf("%s: %d tasks, want the next one", c.name, len(got))
		}
	}
}

// TestNumberOfGroups: 1,000 groups with settings are the most. Paused groups do not count among them.
func TestNumberOfGroups(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	makeQueue(t, s, "tests", "mail")
	sql(t, conn, `insert into pgqueue.group_policy (queue_id, grp, name, weight, concurrency, rate_limit, rate_period, rate_burst, paused_until)
		select q.id, i, 'group ' || i, 0, case when i <= 999 then 1 else 0 end, 0, 1000000000, 0, pgqueue.clock() + interval '1 h'
		from pgqueue.queue q, generate_series(1, 1100) i`)
	sql(t, conn, "update pgqueue.queue set group_policies = 1100")
	set := func(group string, meta queue.GroupMeta) queue.Kind {
		_, err := s.UpdateGroup(t.Context(), "tests", "mail", group, meta)
		return queue.KindOf(err)
	}

	one := queue.GroupMeta{Concurrency: new(1)}
	if kind := set("the last", one); kind != "" {
		t.Errorf("group 1000: %s", kind)
	}
	if kind := set("one more", one); kind != queue.KindInvalid {
		t.Errorf("group 1001: kind %q, want %q", kind, queue.KindInvalid)
	}
	if kind := set("paused", queue.GroupMeta{PausedUntil: new(time.Now().Add(time.Hour))}); kind != "" {
		t.Errorf("a pause: %s", kind)
	}
	if kind := set("the last", queue.GroupMeta{Concurrency: new(0)}); kind != "" {
		t.Errorf("an end of settings: %s", kind)
	}
	if kind := set("one more", one); kind != "" {
		t.Errorf("group 1000 again: %s", kind)
	}
	if n := value[int](t, conn, "select group_policies - (select count(*)::integer from pgqueue.group_policy) from pgqueue.queue"); n != 0 {
		t.Errorf("the number of policies is off by %d", n)
	}
}
