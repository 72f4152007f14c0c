package postgrestest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// workGroups is the role of a process that works a queue until a signal ends it: it retains and releases tasks, some of which fail
// or come back, and does background work.
func workGroups(ctx context.Context, s *postgres.Store, _ <-chan string, say func(string, ...any)) error {
	go func() {
		for ctx.Err() == nil {
			for _, chore := range []queue.Chore{queue.ChorePromote, queue.ChoreRescue, queue.ChoreFold} {
				_, _ = s.Maintain(ctx, chore)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for ctx.Err() == nil {
		out, err := s.RetainTasks(ctx, queue.Retain{
			Namespace: queue.DefaultNamespace, Queues: []string{"q"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 1 + rand.IntN(10)}},
		})
		if err != nil || len(out[0]) == 0 {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		say("%d", len(out[0]))
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)

		releases := make([]queue.Release, len(out[0]))
		for i, task := range out[0] {
			releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
			switch rand.IntN(20) {
			case 0:
				releases[i].Outcome = queue.OutcomeFailure
			case 1:
				releases[i].Outcome = queue.OutcomeHandBack
			}
		}
		_, _ = s.ReleaseTasks(ctx, queue.DefaultNamespace, releases) // a lease may be lost: the process was stopped for longer
	}
	return nil
}

// TestLimitsUnderKills kills and stops processes that hold tasks of limited groups. No limit is exceeded, and in the end every
// task has ended and no place is lost.
func TestLimitsUnderKills(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, c := range []struct {
		name string
		meta queue.QueueMeta
		most struct{ queue, group int } // tasks in hand; 0 = any number
	}{
		{
			"places",
			queue.QueueMeta{Concurrency: new(8), FlowMeta: queue.FlowMeta{GroupConcurrency: new(2)}},
			struct{ queue, group int }{8, 3},
		},
		{
			"rates",
			queue.QueueMeta{FlowMeta: queue.FlowMeta{
				RateLimit: new(200), RateBurst: new(10), GroupRateLimit: new(40), GroupRateBurst: new(3),
			}},
			struct{ queue, group int }{},
		},
		{
			"order",
			queue.QueueMeta{FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO), Fair: new(true)}},
			struct{ queue, group int }{0, 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &groupRun{T: t, dsn: postgrestest.URL(t), name: "q"}
			s := postgrestest.OpenURL(t, r.dsn, postgres.WithMaxConns(4))
			r.stores = []*postgres.Store{s}
			c.meta.Name, c.meta.Lease, c.meta.RetryDelay, c.meta.Retries = "q", new(time.Second), new(time.Millisecond), new(1000)
			q, err := queue.NewQueue(queue.DefaultNamespace, c.meta)
			if err == nil {
				_, err = s.CreateQueue(t.Context(), q)
			}
			if err != nil {
				t.Fatal(err)
			}

			ctx, cancel := context.WithTimeout(t.Context(), sized(t, 6*time.Second, 2*time.Minute))
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() { r.create(ctx, s) })
			wg.Go(func() { watchHands(ctx, t, r.dsn, c.most.queue, c.most.group) })
			if c.most.group == 3 {
				wg.Go(func() {
					for ctx.Err() == nil {
						_, _ = s.UpdateQueue(ctx, queue.DefaultNamespace, "q", queue.QueueMeta{
							Concurrency: new(4 + rand.IntN(5)), FlowMeta: queue.FlowMeta{GroupConcurrency: new(1 + rand.IntN(3))},
						})
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
			started := killAtRandom(ctx, t, r.dsn)
			wg.Wait()
			if started == 0 {
				t.Error("no task started in the processes")
			}

			if c.meta.RateLimit != nil {
				checkStarts(t, r.dsn, *c.meta.RateLimit, *c.meta.RateBurst)
				if _, err := s.UpdateQueue(t.Context(), queue.DefaultNamespace, "q", queue.QueueMeta{FlowMeta: queue.FlowMeta{RateLimit: new(0), GroupRateLimit: new(0)}}); err != nil {
					t.Fatal(err)
				}
			}
			r.drain()
			found, err := s.Diagnose(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"groups", "contradictions"} {
				if i := slices.IndexFunc(found, func(f queue.Finding) bool { return f.Name == name }); found[i].Level != queue.LevelOK {
					t.Errorf("the doctor finds %s: %s", name, found[i].Value)
				}
			}
		})
	}
}

// killAtRandom runs processes that work until ctx ends, of which it kills and stops some all the time. It returns how many tasks
// started in them.
func killAtRandom(ctx context.Context, t *testing.T, dsn string) (started int) {
	t.Helper()
	children := make([]*child, sized(t, 3, 8))
	for i := range children {
		children[i] = spawn(t, "groups", dsn)
	}
	for ctx.Err() == nil {
		i := rand.IntN(len(children))
		if rand.IntN(2) == 0 {
			children[i].signal(t, syscall.SIGKILL)
			children[i] = spawn(t, "groups", dsn)
		} else {
			children[i].signal(t, syscall.SIGSTOP)
			time.Sleep(time.Duration(rand.IntN(2500)) * time.Millisecond) // often longer than the lease
			children[i].signal(t, syscall.SIGCONT)
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, c := range children {
		started += len(c.said)
		c.signal(t, syscall.SIGKILL)
	}
	return started
}

// watchHands compares the tasks in hand with the limits of the queue and of a group until ctx ends.
func watchHands(ctx context.Context, t *testing.T, dsn string, ofQueue, ofGroup int) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Errorf("connect: %v", err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		var all, most int
		err := conn.QueryRow(ctx, `select coalesce(sum(n), 0), coalesce(max(n), 0) from (
			select count(*) as n from pgqueue.lease l cross join lateral unnest(l.task_ids, l.grps) i (id, grp) where i.id <> 0 group by i.grp) x`).Scan(&all, &most)
		if err == nil && (ofQueue > 0 && all > ofQueue || ofGroup > 0 && most > ofGroup) {
			t.Errorf("%d tasks are in hand, at most %d; %d of a group, at most %d", all, ofQueue, most, ofGroup)
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// checkStarts compares the starts of each span of time with a rate and its burst, by the events.
func checkStarts(t *testing.T, dsn string, rate, burst int) {
	t.Helper()
	conn := connect(t, dsn)
	rows, err := conn.Query(t.Context(), `select extract(epoch from at)::float8, n from pgqueue.event where kind = 2 order by at, id`)
	if err != nil {
		t.Fatal(err)
	}
	type starts struct {
		At float64
		N  int
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[starts])
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for i := range all {
		n := 0
		for _, s := range all[i:] {
			n += s.N
			if most := float64(burst) + float64(rate)*(s.At-all[i].At) + 1; float64(n) > most {
				t.Fatalf("%d tasks started within %.3f s, at most %.1f", n, s.At-all[i].At, most)
			}
		}
		total += all[i].N
	}
	if total == 0 {
		t.Error("no start was recorded")
	}
	t.Log(fmt.Sprint(total), "starts")
}
