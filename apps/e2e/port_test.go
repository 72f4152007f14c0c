package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// portWay is a way to the port of a server: all operations, and those of a worker, which a stream may carry.
type portWay struct {
	queue.Service
	work queue.Consumer
}

// portWays returns the ways to the port of n: REST, Connect, gRPC, and the streams of a worker over the latter two.
func portWays(t *testing.T, n *node) map[string]portWay {
	t.Helper()
	all := map[string]portWay{}
	for _, way := range []string{"rest", "connect", "grpc"} {
		svc := dialWith(t, n, way, "")
		all[way] = portWay{svc, svc}
		if client, ok := svc.(*connectclient.Client); ok {
			stream := connectclient.NewStream(client)
			t.Cleanup(stream.Close)
			all[way+"-stream"] = portWay{svc, stream}
		}
	}
	return all
}

// take creates 3 tasks in a new queue and retains them; the second one is returned.
func (w portWay) take(t *testing.T, name string) *queue.Task {
	t.Helper()
	if _, err := w.CreateQueue(t.Context(), queue.QueueMeta{Name: name, Retries: new(3), Lease: new(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateTasks(t.Context(), []queue.NewTask{{Queue: name}, {Queue: name}, {Queue: name}}); err != nil {
		t.Fatal(err)
	}
	held, err := w.work.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{name}, Limit: 3})
	if err != nil || len(held) != 3 {
		t.Fatalf("%d tasks, %v", len(held), err)
	}
	return held[1]
}

// describe returns the state of a task and of its queue, without times and ids.
func (w portWay) describe(t *testing.T, task *queue.Task) string {
	t.Helper()
	after := "gone"
	if now, err := w.GetTask(t.Context(), task.ID); err == nil {
		after = fmt.Sprintf("%s attempt %d retries %d errors %d result %s progress %s cancel %v", now.Status, now.Attempt, now.Retries,
			len(now.Errors), now.Result, now.Progress, now.CancelRequested)
		if now.Lease != nil {
			after += " lease " + now.Lease.Duration.String()
		}
	}
	stats, err := w.QueueStats(t.Context(), task.Queue)
	if err != nil {
		t.Fatal(err)
	}
	return after + fmt.Sprint(" of ", stats.Counts)
}

// eachOrAll calls act with all items at once, or with one at a time, and returns the answers as text.
func eachOrAll[In, Out any](t *testing.T, apart bool, items []In, act func(context.Context, []In) ([]Out, error), text func(Out) string) string {
	t.Helper()
	parts := [][]In{items}
	if apart {
		parts = nil
		for _, item := range items {
			parts = append(parts, []In{item})
		}
	}
	var said []string
	for _, part := range parts {
		out, err := act(t.Context(), part)
		if err != nil && len(out) != len(part) { // a call with one element has the error of that one, too
			t.Error(err)
		}
		for _, o := range out {
			said = append(said, text(o))
		}
	}
	return strings.Join(said, ", ")
}

// twiceOverThePort are the batch calls that name a held task twice.
var twiceOverThePort = map[string]func(t *testing.T, w portWay, task *queue.Task, apart bool) string{
	"heartbeats with two leases and progress": func(t *testing.T, w portWay, task *queue.Task, apart bool) string {
		return eachOrAll(t, apart, []queue.Heartbeat{
			{ID: task.ID, Token: task.Lease.Token, Lease: 50 * time.Hour, Progress: []byte(`1`)},
			{ID: task.ID, Token: task.Lease.Token, Lease: 2 * time.Hour, Progress: []byte(`2`)},
		}, w.work.HeartbeatTasks, textOfBeat)
	},
	"heartbeats with a former and the present token": func(t *testing.T, w portWay, task *queue.Task, apart bool) string {
		return eachOrAll(t, apart, []queue.Heartbeat{
			{ID: task.ID, Token: task.Lease.Token - 1}, {ID: task.ID, Token: task.Lease.Token}, {ID: task.ID, Token: task.Lease.Token - 1},
		}, w.work.HeartbeatTasks, textOfBeat)
	},
	"releases, both successes":     releasesTwiceOver(queue.OutcomeSuccess, queue.OutcomeSuccess),
	"releases, success, failure":   releasesTwiceOver(queue.OutcomeSuccess, queue.OutcomeFailure),
	"releases, failure, success":   releasesTwiceOver(queue.OutcomeFailure, queue.OutcomeSuccess),
	"releases, hand back, success": releasesTwiceOver(queue.OutcomeHandBack, queue.OutcomeSuccess),
	"releases, both permanent":     releasesTwiceOver(queue.OutcomePermanent, queue.OutcomePermanent),
	"cancels":                      bulkTwiceOver(queue.Service.CancelTasks),
	"deletes":                      bulkTwiceOver(queue.Service.DeleteTasks),
	"retries":                      bulkTwiceOver(queue.Service.RetryTasks),
}

func textOfBeat(b queue.Beat) string { return fmt.Sprint(b.Lease.Duration, " ", queue.KindOf(b.Err)) }

// releasesTwiceOver releases a task with two outcomes.
func releasesTwiceOver(first, second queue.Outcome) func(*testing.T, portWay, *queue.Task, bool) string {
	return func(t *testing.T, w portWay, task *queue.Task, apart bool) string {
		return eachOrAll(t, apart, []queue.Release{
			{ID: task.ID, Token: task.Lease.Token, Outcome: first}, {ID: task.ID, Token: task.Lease.Token, Outcome: second},
		}, w.work.ReleaseTasks, func(r queue.Released) string { return fmt.Sprint(queue.KindOf(r.Err)) })
	}
}

// bulkTwiceOver names a task twice in a bulk operation. One call counts it once, so the answers say nothing here.
func bulkTwiceOver(act func(queue.Service, context.Context, queue.Selection) (queue.Bulk, error)) func(*testing.T, portWay, *queue.Task, bool) string {
	return func(t *testing.T, w portWay, task *queue.Task, apart bool) string {
		ids := []int64{task.ID, task.ID}
		if apart {
			ids = ids[:1]
		}
		for range 3 - len(ids) {
			if _, err := act(w.Service, t.Context(), queue.Selection{IDs: ids}); err != nil {
				t.Error(err)
			}
		}
		return ""
	}
}

// TestTasksNamedTwiceOverThePort: a batch call that names a task twice acts as two calls, over each way to the port of a real
// server, and the rows in the database agree afterwards. Without PGQUEUE_TEST_FULL each call goes over one of the ways.
func TestTasksNamedTwiceOverThePort(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn := postgrestest.URL(t)
	n := startNodeAt(t, dsn)
	number := 0
	ways, isFull := portWays(t, n), os.Getenv("PGQUEUE_TEST_FULL") != ""
	calls := slices.Sorted(maps.Keys(twiceOverThePort))
	for i, way := range slices.Sorted(maps.Keys(ways)) {
		w := ways[way]
		for j, call := range calls {
			if !isFull && j%len(ways) != i {
				continue
			}
			act := twiceOverThePort[call]
			var ended [2]string
			for i, apart := range []bool{false, true} {
				number++
				task := w.take(t, fmt.Sprintf("twice-%d", number))
				ended[i] = act(t, w, task, apart) + ": " + w.describe(t, task)
			}
			if ended[0] != ended[1] {
				t.Errorf("%s over %s: in one call %s, in two calls %s", call, way, ended[0], ended[1])
			}
		}

		number++
		name := fmt.Sprintf("twice-%d", number)
		if _, err := w.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
		key := queue.TaskMeta{Key: "k"}
		made, err := w.CreateTasks(t.Context(), []queue.NewTask{{Queue: name, TaskMeta: key}, {Queue: name}, {Queue: name, TaskMeta: key}})
		if err != nil || len(made) != 3 || made[0].ID != made[2].ID || made[0].ID == made[1].ID {
			t.Errorf("a create of a key twice over %s: %v, %v; want one task", way, made, err)
		}
	}
	checkRows(t, dsn)
}

// checkRows fails when doctor finds rows that contradict each other.
func checkRows(t *testing.T, dsn string) {
	t.Helper()
	// The exit code depends on the settings too of this database, which is not durable.
	found, _ := exec.CommandContext(t.Context(), filepath.Join(programs(t), "pgqueue"), "doctor", dsn, "--jq", `.body[] | select(.name == "contradictions") | .level`).Output()
	if string(found) != "ok\n" {
		t.Errorf("doctor says %q of contradictions, want ok", found)
	}
}

// TestLockedRowsOverThePort: another transaction locks the rows of a held task. Calls of other tasks of the queue do not wait for
// it, over each way to the port, and that of the task itself goes through when the lock ends.
func TestLockedRowsOverThePort(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	const soon = 10 * time.Second // far below the 30 s of a call, for a busy machine
	dsn := postgrestest.URL(t)
	n := startNodeAt(t, dsn)
	for way, w := range portWays(t, n) {
		t.Run(way, func(t *testing.T) {
			name := "locked-" + way
			if _, err := w.CreateQueue(t.Context(), queue.QueueMeta{Name: name, Lease: new(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			retain := func() *queue.Task {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), soon)
				defer cancel()
				if _, err := w.CreateTask(ctx, name, queue.TaskMeta{}); err != nil {
					t.Fatalf("a create: %v", err)
				}
				tasks, err := w.work.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{name}, Limit: 1})
				if err != nil || len(tasks) != 1 {
					t.Fatalf("a retain: %v, %v", tasks, err)
				}
				return tasks[0]
			}
			locked, free := retain(), retain()

			conn := connectTo(t, dsn)
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			lock, err := tx.Exec(t.Context(), "select 1 from pgqueue.lease where $1 = any (task_ids) for update", locked.ID)
			if err != nil || lock.RowsAffected() == 0 {
				t.Fatal(lock, err)
			}

			ended := make(chan error, 1)
			go func() {
				out, err := w.work.ReleaseTasks(t.Context(), []queue.Release{{ID: locked.ID, Token: locked.Lease.Token, Outcome: queue.OutcomeSuccess}})
				if err == nil {
					err = out[0].Err
				}
				ended <- err
			}()
			begin := time.Now()
			more := retain()
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			for _, task := range []*queue.Task{free, more} {
				if beats, err := w.work.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: task.ID, Token: task.Lease.Token}}); err != nil || beats[0].Err != nil {
					t.Errorf("a heartbeat beside the lock: %v, %v", beats, err)
				}
				out, err := w.work.ReleaseTasks(ctx, []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess}})
				if err != nil || out[0].Err != nil {
					t.Errorf("a release beside the lock: %v, %v", out, err)
				}
			}
			t.Logf("the calls beside the lock took %v", time.Since(begin))
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("the release of the locked task ended with %v", err)
			}
		})
	}
	checkRows(t, dsn)
}
