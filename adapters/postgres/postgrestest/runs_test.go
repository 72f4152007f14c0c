package postgrestest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestRunsOfReleased does with single tasks what a queue can do, where one row stands for many that were released together:
// each is still a task of its own.
func TestRunsOfReleased(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for seed := range uint64(3) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			r := newRuns(t, seed)
			r.work(700)
			r.look()
			if rows, tasks := value[int](t, r.conn, "select count(*) from pgqueue.done"), len(r.released); rows > tasks/4 {
				t.Errorf("%d tasks lie in %d rows", tasks, rows)
			}
			r.repeat()
			for range sized(t, 2, 8) {
				r.revive()
				r.look()
				r.remove()
				r.look()
				r.work(100)
				r.look()
			}
			r.vanish()
		})
	}
}

// runs is a store with tasks of one queue, all in one partition or over several, and what should be there.
type runs struct {
	t        *testing.T
	s        *postgres.Store
	conn     *pgx.Conn
	rand     *rand.Rand
	released map[int64]*queue.Task // as retained, with the result that it was released with
	waiting  map[int64]bool
}

func newRuns(t *testing.T, seed uint64) *runs {
	s := postgrestest.Open(t, postgres.WithPartitionSize(1024))
	makeQueue(t, s, "tests", "mail")
	makeQueue(t, s, "tests", "other")
	r := &runs{
		t: t, s: s, conn: connect(t, s.Pool().Config().ConnString()), rand: rand.New(rand.NewPCG(seed, 1)),
		released: map[int64]*queue.Task{}, waiting: map[int64]bool{},
	}
	for range 4 {
		makeTask(t, s, "tests", slices.Repeat([]string{"mail"}, 400)...)
		makeTask(t, s, "tests", "other")
		postgrestest.Advance(t, s, time.Minute)
	}
	for _, id := range r.listed(queue.TaskFilter{Queue: "mail"}) {
		r.waiting[id] = true
	}
	return r
}

// work has two workers retain n tasks and release them, in several calls and any order, some with a result.
func (r *runs) work(n int) {
	r.t.Helper()
	out, err := r.s.RetainTasks(r.t.Context(), queue.Retain{
		Namespace: "tests", Queues: []string{"mail"},
		Requests: []queue.RetainShare{{Worker: "ann", Limit: n / 2}, {Worker: "bob", Limit: n - n/2}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	tasks := slices.Concat(out...)
	if len(tasks) != min(n, len(r.waiting)) {
		r.t.Fatalf("%d tasks were retained of %d", len(tasks), len(r.waiting))
	}
	r.rand.Shuffle(len(tasks)/3, func(i, j int) { tasks[i], tasks[j] = tasks[j], tasks[i] })
	for len(tasks) > 0 {
		some := tasks[:min(len(tasks), 1+r.rand.IntN(300))]
		tasks = tasks[len(some):]
		releases := make([]queue.Release, len(some))
		for i, task := range some {
			if r.rand.IntN(60) == 0 {
				task.Result = []byte(fmt.Sprintf("%d", task.ID))
			}
			releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Result: task.Result, Quiet: true}
			r.released[task.ID] = task
			delete(r.waiting, task.ID)
		}
		answers, err := r.s.ReleaseTasks(r.t.Context(), "tests", releases)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, a := range answers {
			if a.Err != nil {
				r.t.Fatal(a.Err)
			}
		}
	}
}

// look compares everything that can be read with what should be there.
func (r *runs) look() {
	r.t.Helper()
	recounted(r.t, r.s)
	done := []queue.Status{queue.StatusReleased}
	all, by := ids(r.released), map[string][]int64{}
	for _, id := range all {
		by[r.released[id].Worker] = append(by[r.released[id].Worker], id)
	}
	r.same("released", r.listed(queue.TaskFilter{Statuses: done}), all)
	for worker, want := range by {
		r.same("of "+worker, r.listed(queue.TaskFilter{Worker: worker, Statuses: done}), want)
	}
	// A time that lies within a run.
	edge := r.released[all[r.rand.IntN(len(all))]].CreatedAt
	old := slices.DeleteFunc(slices.Clone(all), func(id int64) bool { return !r.released[id].CreatedAt.Before(edge) })
	young := slices.DeleteFunc(slices.Clone(all), func(id int64) bool { return !r.released[id].CreatedAt.After(edge) })
	r.same("older", r.listed(queue.TaskFilter{CreatedBefore: edge, Statuses: done}), old)
	r.same("younger", r.listed(queue.TaskFilter{CreatedAfter: edge, Statuses: done}), young)
	r.same("younger of ann", r.listed(queue.TaskFilter{CreatedAfter: edge, Worker: "ann", Statuses: done}),
		slices.DeleteFunc(slices.Clone(young), func(id int64) bool { return r.released[id].Worker != "ann" }))
	tasks, err := r.s.GetTasks(r.t.Context(), "tests", slices.Concat(all, ids(r.waiting)), false)
	if err != nil || len(tasks) != len(all)+len(r.waiting) {
		r.t.Fatalf("%d tasks are there, not %d and %d: %v", len(tasks), len(all), len(r.waiting), err)
	}
	for _, got := range tasks {
		want, is := r.released[got.ID]
		switch {
		case !is && (got.Status != queue.StatusNew || !got.FinishedAt.IsZero()):
			r.t.Fatalf("%+v should wait", got)
		case is && (got.Status != queue.StatusReleased || got.Worker != want.Worker || got.Attempt != want.Attempt || got.FinishedAt.IsZero() ||
			!got.StartedAt.Equal(want.StartedAt) || string(got.Result) != string(want.Result)):
			r.t.Fatalf("%+v should be %+v", got, want)
		}
	}
}

// repeat releases all of them again: the releaser of a lease gets its answer again, another task's token is refused.
func (r *runs) repeat() {
	r.t.Helper()
	all := ids(r.released)
	for some := range slices.Chunk(all, 500) {
		var own, others []queue.Release
		for i, id := range some {
			own = append(own, queue.Release{ID: id, Token: r.released[id].Lease.Token, Outcome: queue.OutcomeSuccess})
			others = append(others, queue.Release{ID: id, Token: r.released[some[(i+1)%len(some)]].Lease.Token, Outcome: queue.OutcomeSuccess})
		}
		for i, releases := range [][]queue.Release{own, others} {
			answers, err := r.s.ReleaseTasks(r.t.Context(), "tests", releases)
			if err != nil {
				r.t.Fatal(err)
			}
			for _, a := range answers {
				if i == 0 && (a.Err != nil || !a.Replayed || a.Task.Status != queue.StatusReleased) {
					r.t.Fatalf("a repeat gets %+v", a)
				}
				if i == 1 && !errors.Is(a.Err, queue.ErrLeaseLost) {
					r.t.Fatalf("a release with another's token gets %v", a.Err)
				}
			}
		}
	}
}

// revive has two operators, at the same time, make some wait again, of which they have a few in common.
func (r *runs) revive() {
	r.t.Helper()
	chosen := r.some(120)
	halves := [][]int64{chosen[:70], chosen[60:]}
	moved := make([]int64, len(halves))
	errs := make([]error, len(halves))
	var wg sync.WaitGroup
	for i, half := range halves {
		wg.Go(func() {
			bulk, err := r.s.RetryTasks(r.t.Context(), "tests", queue.Selection{IDs: half})
			moved[i], errs[i] = bulk.Moved, err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil || moved[0]+moved[1] != int64(len(chosen)) {
		r.t.Fatalf("%v of %d were revived, %v", moved, len(chosen), err)
	}
	for _, id := range chosen {
		r.waiting[id] = true
		delete(r.released, id)
	}
}

// remove deletes some, one by one.
func (r *runs) remove() {
	r.t.Helper()
	for _, id := range r.some(40) {
		if bulk, err := r.s.DeleteTasks(r.t.Context(), "tests", queue.Selection{IDs: []int64{id}}); err != nil || bulk.Moved != 1 {
			r.t.Fatalf("%d of task %d were deleted, %v", bulk.Moved, id, err)
		}
		delete(r.released, id)
	}
}

// vanish has half of what was released pass its retention, and what is left be cleaned away.
func (r *runs) vanish() {
	r.t.Helper()
	postgrestest.Advance(r.t, r.s, 7*24*time.Hour-time.Minute)
	r.work(len(r.waiting) / 2)
	before := len(r.released)
	postgrestest.Advance(r.t, r.s, 25*time.Hour)
	for more := true; more; {
		m, err := r.s.Maintain(r.t.Context(), queue.ChorePrune)
		if err != nil {
			r.t.Fatal(err)
		}
		more = m.More
	}
	young := value[time.Time](r.t, r.conn, "select pgqueue.clock() - interval '2 days'")
	for id, task := range r.released {
		if task.StartedAt.Before(young) {
			delete(r.released, id)
		}
	}
	if len(r.released) == 0 || len(r.released) >= before {
		r.t.Fatalf("%d are left of %d", len(r.released), before)
	}
	r.look()
	n, err := r.s.CleanQueue(r.t.Context(), "tests", "mail", 0)
	if err != nil || n.Count != int64(len(r.released)) {
		r.t.Errorf("%d of %d were cleaned away, %v", n.Count, len(r.released), err)
	}
	recounted(r.t, r.s)
	if rows := value[int](r.t, r.conn, "select count(*) from pgqueue.done"); rows != 0 {
		r.t.Errorf("%d rows are left", rows)
	}
}

// some picks released tasks: neighbours and strangers.
func (r *runs) some(n int) []int64 {
	all := ids(r.released)
	at := r.rand.IntN(len(all) - n/2)
	chosen := slices.Clone(all[at : at+n/2])
	rest := slices.Concat(all[:at], all[at+n/2:])
	r.rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return append(chosen, rest[:n-n/2]...)
}

// listed is all that a filter finds, by pages of some size.
func (r *runs) listed(f queue.TaskFilter) []int64 {
	r.t.Helper()
	var found []int64
	limit := 1 + r.rand.IntN(400)
	for cursor := ""; ; {
		page := listed(r.t, r.s, f, queue.Page{Limit: limit, Cursor: cursor})
		for _, task := range page.Tasks {
			found = append(found, task.ID)
		}
		if cursor = page.Next; cursor == "" {
			return found
		}
	}
}

func (r *runs) same(what string, got, want []int64) {
	r.t.Helper()
	if !slices.Equal(got, want) {
		r.t.Fatalf("%s: %d are listed, not %d: %v, not %v", what, len(got), len(want), got, want)
	}
}

// ids of m, the newest first.
func ids[V any](m map[int64]V) []int64 {
	var all []int64
	for id := range m {
		all = append(all, id)
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all
}
