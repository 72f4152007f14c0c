package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// lockedConsumer answers releases of some tasks with queue.Locked, each so many times.
type lockedConsumer struct {
	queue.Consumer
	locked map[int64]int
	calls  [][]int64
}

func (c *lockedConsumer) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out, ids := make([]queue.Released, len(releases)), []int64{}
	for i, r := range releases {
		ids = append(ids, r.ID)
		if c.locked[r.ID] > 0 {
			c.locked[r.ID]--
			out[i].Err = queue.Locked(r.ID)
		}
	}
	c.calls = append(c.calls, ids)
	return out, nil
}

func heldTasks(n int64) (tasks []*queue.Task) {
	for id := int64(1); id <= n; id++ {
		tasks = append(tasks, &queue.Task{ID: id, Lease: &queue.Lease{Token: 100 + id}})
	}
	return tasks
}

// TestHandBackOfLockedTasks: tasks that another transaction has locked go back when it has ended, and the others at once.
func TestHandBackOfLockedTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &lockedConsumer{locked: map[int64]int{2: 2, 3: 1}}
		if err := queue.HandBack(t.Context(), c, heldTasks(4)); err != nil {
			t.Fatal(err)
		}
		want := [][]int64{{1, 2, 3, 4}, {2, 3}, {2}}
		if !slices.EqualFunc(c.calls, want, slices.Equal) {
			t.Errorf("released %v, want %v", c.calls, want)
		}
	})
}

// TestTooLargeTasksInOrder: a task that is too large goes back, and so do those that must not run before it.
func TestTooLargeTasksInOrder(t *testing.T) {
	c := &lockedConsumer{}
	tasks := heldTasks(7)
	for i, group := range []string{"a", "b", "a", "b", "a", "a", "a"} {
		tasks[i].Group, tasks[i].Lease.InOrder = group, i < 6
	}
	tasks[2].Payload = make([]byte, 10_000)
	fit, err := queue.RetainRequest{MaxTaskBytes: 5_000}.WithoutLarge(t.Context(), c, tasks)
	if err != nil {
		t.Fatal(err)
	}
	if want := []*queue.Task{tasks[0], tasks[1], tasks[3], tasks[6]}; !slices.Equal(fit, want) {
		t.Errorf("%d tasks are left, want those without order, of another group or before the large one", len(fit))
	}
	if want := [][]int64{{3, 5, 6}}; !slices.EqualFunc(c.calls, want, slices.Equal) {
		t.Errorf("handed back %v, want %v", c.calls, want)
	}
}

// faultyConsumer answers its first calls with errs.
type faultyConsumer struct {
	lockedConsumer
	errs []error
}

func (c *faultyConsumer) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	out, err := c.lockedConsumer.ReleaseTasks(ctx, releases)
	if err == nil && len(c.errs) > 0 {
		out, err, c.errs = nil, c.errs[0], c.errs[1:]
	}
	return out, err
}

// TestHandBackOfAnUnavailableStore: a full pool or a restart of the database costs a repeat, any other fault ends the hand back.
func TestHandBackOfAnUnavailableStore(t *testing.T) {
	unavailable := &queue.Error{Kind: queue.KindUnavailable, Msg: "the pool is full"}
	unknown := &queue.Error{Kind: queue.KindIndeterminate, Msg: "the connection broke at the commit"}
	denied := &queue.Error{Kind: queue.KindDenied, Msg: "no"}
	for _, test := range []struct {
		name  string
		errs  []error
		calls int
		want  error
	}{
		{"unavailable twice", []error{unavailable, unavailable}, 3, nil},
		{"a commit in doubt", []error{unknown}, 2, nil},
		{"another fault", []error{unavailable, denied}, 2, denied},
		{"unavailable for good", slices.Repeat([]error{unavailable}, 1000), 0, unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, began := &faultyConsumer{errs: test.errs}, time.Now()
				if err := queue.HandBack(t.Context(), c, heldTasks(2)); !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				if test.calls > 0 && len(c.calls) != test.calls {
					t.Errorf("%d calls, want %d", len(c.calls), test.calls)
				}
				if took := time.Since(began); test.calls == 0 && took != queue.HandBackTimeout {
					t.Errorf("took %v, want %v", took, queue.HandBackTimeout)
				}
			})
		})
	}
}

// TestHandBackOfLockedTasksEnds: a transaction that does not end keeps HandBack for HandBackTimeout and no longer.
func TestHandBackOfLockedTasksEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		c, began := &lockedConsumer{locked: map[int64]int{2: 1 << 30}}, time.Now()
		err := queue.HandBack(gone, c, heldTasks(2))
		if !queue.IsLocked(err) {
			t.Errorf("error %v, want the one of the locked task", err)
		}
		if took := time.Since(began); took != queue.HandBackTimeout {
			t.Errorf("took %v, want %v", took, queue.HandBackTimeout)
		}
	})
}

// TestLateRetainsEnd: tasks retained for a caller that has gone go back, and no goroutine stays.
func TestLateRetainsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late queue.LateRetains
		c := &lockedConsumer{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()

		_, err := late.Do(ctx, c, queue.RetainRequest{Worker: "w"}, func(call context.Context, _ time.Duration) ([]*queue.Task, error) {
			select {
			case <-time.After(2 * time.Second):
				return heldTasks(3), nil
			case <-call.Done():
				return nil, call.Err()
			}
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v, want the caller's deadline", err)
		}
		late.Close()
		if got, want := fmt.Sprint(c.calls), "[[1 2 3]]"; got != want {
			t.Errorf("handed back %s, want %s", got, want)
		}
	})
}
