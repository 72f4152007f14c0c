package postgrestest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// hold retains tasks and does with them what its parent says: "beat" or a queue.Outcome.
func hold(ctx context.Context, s *postgres.Store, hear <-chan string, say func(string, ...any)) error {
	out, err := s.RetainTasks(ctx, queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "holder", Limit: 10}}})
	if err != nil {
		return err
	}
	var ids []string
	for _, task := range out[0] {
		ids = append(ids, strconv.FormatInt(task.ID, 10))
	}
	say("%s", strings.Join(ids, " "))
	for line := range hear {
		var errs []error
		if line == "beat" {
			beats := make([]queue.Heartbeat, len(out[0]))
			for i, task := range out[0] {
				beats[i] = queue.Heartbeat{ID: task.ID, Token: task.Lease.Token}
			}
			answers, err := s.HeartbeatTasks(context.WithoutCancel(ctx), "tests", beats)
			if err != nil {
				return err
			}
			for _, a := range answers {
				errs = append(errs, a.Err)
			}
		} else {
			releases := make([]queue.Release, len(out[0]))
			for i, task := range out[0] {
				releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.Outcome(line), Result: []byte(`"stale"`)}
			}
			answers, err := s.ReleaseTasks(context.WithoutCancel(ctx), "tests", releases)
			if err != nil {
				return err
			}
			for _, a := range answers {
				errs = append(errs, a.Err)
			}
		}
		kinds := make([]string, len(errs))
		for i, err := range errs {
			kinds[i] = string(queue.KindOf(err))
			if err == nil {
				kinds[i] = "ok"
			}
		}
		say("%s", strings.Join(kinds, " "))
	}
	return nil
}

// shortLease is a queue with leases of a second and without backoff.
func shortLease(t *testing.T, s *postgres.Store) {
	t.Helper()
	lease, none, retries := time.Second, time.Duration(0), 1000
	q, err := queue.NewQueue("tests", queue.QueueMeta{Name: "mail", Lease: &lease, RetryDelay: &none, Retries: &retries})
	if err == nil {
		_, err = s.CreateQueue(t.Context(), q)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rescued waits until n tasks have been taken back from leases that ran out.
func rescued(t *testing.T, s *postgres.Store, n int) {
	t.Helper()
	for n > 0 {
		m, err := s.Maintain(t.Context(), queue.ChoreRescue)
		if err != nil {
			t.Fatal(err)
		}
		if n -= m.Moved; n > 0 {
			if m.Moved == 0 && m.NextIn == 0 {
				t.Fatalf("%d tasks have a lease without a worker and were not taken back", n)
			}
			time.Sleep(m.NextIn) // the store's own figure: the lease runs by the database's clock
		}
	}
}

// TestKilledHolders ends and freezes processes that hold tasks.
func TestKilledHolders(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	held := func(t *testing.T) (*postgres.Store, *child, int) {
		t.Helper()
		dsn := postgrestest.URL(t)
		s := postgrestest.OpenURL(t, dsn)
		shortLease(t, s)
		makeTask(t, s, "tests", "mail", "mail", "mail")
		c := spawn(t, "hold", dsn)
		ids := c.hear(t)
		return s, c, len(strings.Fields(ids))
	}
	again := func(t *testing.T, s *postgres.Store) []*queue.Task {
		t.Helper()
		out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "another", Limit: 10, Lease: time.Hour}}})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	release := func(t *testing.T, s *postgres.Store, tasks []*queue.Task) {
		t.Helper()
		for _, task := range tasks {
			out, err := s.ReleaseTasks(t.Context(), "tests", []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Result: []byte(`"fresh"`)}})
			if err != nil || out[0].Err != nil {
				t.Fatal(err, out[0].Err)
			}
		}
	}
	// finished holds the tasks to what another made of them.
	finished := func(t *testing.T, s *postgres.Store, tasks []*queue.Task) {
		t.Helper()
		for _, task := range tasks {
			now, err := s.GetTasks(t.Context(), "tests", []int64{task.ID}, true)
			if err != nil || len(now) != 1 {
				t.Fatal(now, err)
			}
			n := now[0]
			if n.Status != queue.StatusReleased || string(n.Result) != `"fresh"` || n.Worker != "another" || n.Attempt != 2 {
				t.Errorf("it is %s with %s by %s in attempt %d", n.Status, n.Result, n.Worker, n.Attempt)
			}
			if len(n.Errors) != 1 || n.Errors[0].Worker != "holder" || !strings.Contains(string(n.Errors[0].Error), queue.LeaseExpired) {
				t.Errorf("its errors are %+v", n.Errors)
			}
		}
		recounted(t, s)
	}

	t.Run("the tasks of a holder that SIGKILL ended are finished by another", func(t *testing.T) {
		t.Parallel()
		s, c, n := held(t)
		c.signal(t, os.Kill)
		rescued(t, s, n)
		tasks := again(t, s)
		if n != 3 || len(tasks) != n {
			t.Fatalf("%d tasks, %d of them taken again", n, len(tasks))
		}
		release(t, s, tasks)
		finished(t, s, tasks)
	})
	t.Run("a holder that was frozen beyond its lease is refused while another holds, and after", func(t *testing.T) {
		t.Parallel()
		s, c, n := held(t)
		c.signal(t, syscall.SIGSTOP)
		rescued(t, s, n)
		tasks := again(t, s)
		if n != 3 || len(tasks) != n {
			t.Fatalf("%d tasks, %d of them taken again", n, len(tasks))
		}
		c.signal(t, syscall.SIGCONT)
		lost := strings.TrimSpace(strings.Repeat(string(queue.KindLeaseLost)+" ", n))
		stale := func(when string) {
			t.Helper()
			for _, what := range []string{"beat", string(queue.OutcomeSuccess), string(queue.OutcomeFailure), string(queue.OutcomePermanent), string(queue.OutcomeHandBack), string(queue.OutcomeSnooze)} {
				c.say(t, what)
				if got := c.hear(t); got != lost {
					t.Errorf("%s: a stale %s was answered by %q", when, what, got)
				}
			}
		}
		stale("while another holds")
		release(t, s, tasks)
		stale("after another finished")
		finished(t, s, tasks)
		c.dismiss(t)
	})
	t.Run("a holder that was frozen is refused though no worker has taken the task since", func(t *testing.T) {
		t.Parallel()
		s, c, n := held(t)
		c.signal(t, syscall.SIGSTOP)
		rescued(t, s, n)
		c.signal(t, syscall.SIGCONT)
		c.say(t, string(queue.OutcomeSuccess))
		if got := c.hear(t); strings.Count(got, string(queue.KindLeaseLost)) != n {
			t.Errorf("answered by %q", got)
		}
		if tasks := again(t, s); len(tasks) != n {
			t.Errorf("%d of %d tasks wait for another", len(tasks), n)
		}
	})
}

// work runs tasks until its parent ends, with heartbeats that a frozen process misses, and reports accepted releases.
func work(ctx context.Context, s *postgres.Store, _ <-chan string, say func(string, ...any)) error {
	m, err := manager.New(s, manager.WithNamespace("tests"))
	if err != nil {
		return err
	}
	defer m.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		tasks, err := m.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Limit: 5, Wait: time.Second})
		if err != nil {
			continue // the end, or a fault that the next look is free of
		}
		for _, task := range tasks {
			time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond) // the work
			out, err := m.ReleaseTasks(ctx, []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess}})
			if err == nil && out[0].Err == nil && !out[0].Replayed {
				say("%d", task.ID)
			}
		}
	}
	return nil
}

// TestKilledWorkers kills and freezes workers at random while they work.
func TestKilledWorkers(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	const workers = 3
	n := sized(t, 400, 10_000)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	shortLease(t, s)
	for range n / 100 {
		makeTask(t, s, "tests", strings.Fields(strings.Repeat("mail ", 100))...)
	}
	accepted := make(chan string, n+1000)
	var all []*child
	start := func() *child {
		c := spawn(t, "work", dsn)
		all = append(all, c)
		return c
	}
	present := make([]*child, workers)
	for i := range present {
		present[i] = start()
	}
	var frozen *child
	waitFor(t, func() (bool, string) {
		total := totals(t, s)
		if total[queue.StatusReleased] == int64(n) {
			return true, ""
		}
		if _, err := s.Maintain(t.Context(), queue.ChoreRescue); err != nil {
			t.Fatal(err)
		}
		if rand.IntN(10) > 0 {
			return false, fmt.Sprint(total)
		}
		if frozen != nil {
			frozen.signal(t, syscall.SIGCONT)
		}
		i := rand.IntN(workers)
		if rand.IntN(2) == 0 {
			present[i].signal(t, os.Kill)
			present[i] = start()
			frozen = nil
		} else {
			present[i].signal(t, syscall.SIGSTOP)
			frozen = present[i]
		}
		return false, fmt.Sprint(total)
	})
	if frozen != nil {
		frozen.signal(t, syscall.SIGCONT)
	}
	for _, c := range all {
		c.stdin.Close()
		for id := range c.said {
			accepted <- id
		}
	}
	close(accepted)
	seen := map[string]bool{}
	for id := range accepted {
		if seen[id] {
			t.Errorf("task %s was released by two", id)
		}
		seen[id] = true
	}
	t.Logf("%d processes; the living processes reported %d releases", len(all), len(seen))
	recounted(t, s)
}
