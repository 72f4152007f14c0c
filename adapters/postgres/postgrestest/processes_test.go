package postgrestest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const drainers = 16 // goroutines of a draining child

// drain retains and releases with many goroutines until the parent has heard enough, and then reports each lease that it had
// and whether its release was accepted.
func drain(ctx context.Context, s *postgres.Store, _ <-chan string, say func(string, ...any)) error {
	type holding struct {
		id, token int64
		end       string
	}
	held := make([][]holding, drainers)
	var all sync.WaitGroup
	errs := make(chan error, drainers)
	for i := range drainers {
		all.Go(func() {
			for ctx.Err() == nil {
				limit := 1 + rand.IntN(50)
				// A call that has begun is finished: its result must be reported.
				out, err := s.RetainTasks(context.WithoutCancel(ctx), queue.Retain{
					Namespace: "tests", Requests: []queue.RetainShare{{Worker: fmt.Sprintf("w%d", i), Limit: limit}},
				})
				if err != nil {
					errs <- err
					return
				}
				if len(out[0]) == 0 {
					select {
					case <-ctx.Done():
					case <-time.After(20 * time.Millisecond): // a poll, as every consumer has one
					}
					continue
				}
				releases := make([]queue.Release, len(out[0]))
				for k, task := range out[0] {
					releases[k] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
				}
				ended, err := s.ReleaseTasks(context.WithoutCancel(ctx), "tests", releases)
				if err != nil {
					errs <- err
					return
				}
				for k, r := range releases {
					end := "released"
					if ended[k].Err != nil || ended[k].Replayed {
						end = fmt.Sprintf("refused: %v, replayed: %v", ended[k].Err, ended[k].Replayed)
					}
					held[i] = append(held[i], holding{r.ID, r.Token, end})
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	for _, some := range held {
		for _, h := range some {
			say("%d %d %s", h.id, h.token, h.end)
		}
	}
	return nil
}

// TestProcesses has 64 goroutines of 4 processes take from one queue.
func TestProcesses(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	const processes = 4
	n := sized(t, 8_000, 100_000)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeQueue(t, s, "tests", "more")
	// The children are there before the tasks, which come in batches of all sizes.
	var children []*child
	for range processes {
		children = append(children, spawn(t, "drain", dsn))
	}
	created := map[int64]bool{}
	for left := n; left > 0; {
		c := queue.Create{Namespace: "tests", Atomic: true}
		for range min(left, 1+rand.IntN(500)) {
			name := "mail"
			if rand.IntN(4) == 0 {
				name = "more"
			}
			c.Tasks = append(c.Tasks, queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Priority: int16(rand.IntN(3))}})
		}
		made, err := s.CreateTasks(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range made {
			created[m.Task.ID] = true
		}
		left -= len(c.Tasks)
	}
	if len(created) != n {
		t.Fatalf("%d ids for %d tasks", len(created), n)
	}
	waitFor(t, func() (bool, string) {
		total := totals(t, s)
		return total[queue.StatusReleased] == int64(n), fmt.Sprint(total)
	})
	held, tokens := map[int64]string{}, map[int64]bool{}
	for i, c := range children {
		lines := c.dismiss(t)
		for _, line := range lines {
			var id, token int64
			var end string
			if _, err := fmt.Sscan(line, &id, &token, &end); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if first, twice := held[id]; twice {
				t.Errorf("task %d was held twice: %s, then %s", id, first, line)
			}
			if tokens[token] {
				t.Errorf("token %d was given twice", token)
			}
			if end != "released" {
				t.Errorf("a release was refused: %s", line)
			}
			if !created[id] {
				t.Errorf("task %d was held, which no process created", id)
			}
			held[id], tokens[token] = line, true
		}
		t.Logf("process %d held %d tasks", i, len(lines))
	}
	if len(held) != n {
		t.Errorf("%d tasks were held, %d were created", len(held), n)
	}
	recounted(t, s)
}

// TestConcurrencyOfProcesses has 48 goroutines of 3 processes take from a queue that lets 5 tasks be held at once.
func TestConcurrencyOfProcesses(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	const limit = 5
	n := sized(t, 500, 10_000)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	makeQueue(t, s, "tests", "mail")
	most := limit
	if _, err := s.UpdateQueue(t.Context(), "tests", "mail", queue.QueueMeta{Concurrency: &most}); err != nil {
		t.Fatal(err)
	}
	for left := n; left > 0; left -= 500 {
		makeTask(t, s, "tests", strings.Fields(strings.Repeat("mail ", min(left, 500)))...)
	}
	var children []*child
	for range 3 {
		children = append(children, spawn(t, "drain", dsn))
	}
	conn := connect(t, dsn)
	looks, seen := 0, 0
	for {
		held := value[int](t, conn, "select coalesce(sum(held), 0) from pgqueue.lease")
		if held > limit {
			t.Fatalf("%d tasks are held at once, at most %d may be", held, limit)
		}
		looks, seen = looks+1, max(seen, held)
		if looks%100 == 0 && totals(t, s)[queue.StatusReleased] == int64(n) {
			break
		}
	}
	for _, c := range children {
		for _, line := range c.dismiss(t) {
			if !strings.HasSuffix(line, " released") {
				t.Errorf("a release was refused: %s", line)
			}
		}
	}
	t.Logf("%d looks saw up to %d tasks held", looks, seen)
	recounted(t, s)
}

// totals adds up the counts of the queues of namespace tests.
func totals(t *testing.T, s *postgres.Store) map[queue.Status]int64 {
	t.Helper()
	all, err := s.QueueStats(t.Context(), "tests", "")
	if err != nil {
		t.Fatal(err)
	}
	total := map[queue.Status]int64{}
	for _, q := range all {
		for st, n := range q.Counts {
			total[st] += n
		}
	}
	return total
}

// recounted holds the counts of namespace tests to a recount. A call that was cut short may still commit between the two, so
// that it looks again: a real difference stays.
func recounted(t *testing.T, s *postgres.Store) {
	t.Helper()
	waitFor(t, func() (bool, string) {
		all, err := s.QueueStats(t.Context(), "tests", "")
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.Recount(t.Context(), "tests")
		if err != nil {
			t.Fatal(err)
		}
		wrong := ""
		for _, q := range all {
			for _, st := range queue.Statuses() {
				if got, want := q.Counts[st], again[q.Queue][st]; got != want {
					wrong += fmt.Sprintf("queue %s counts %d %s, a recount finds %d; ", q.Queue, got, st, want)
				}
			}
		}
		return wrong == "", wrong
	})
}

// waitFor looks until what is awaited is there, and fails with the last look when nothing has changed for a long time.
func waitFor(t *testing.T, look func() (done bool, seen string)) {
	t.Helper()
	last, since := "", time.Now()
	for {
		done, seen := look()
		if done {
			return
		}
		if seen != last {
			last, since = seen, time.Now()
		}
		if time.Since(since) > patience {
			t.Fatalf("waiting for %v in vain: %s", patience, last)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}
