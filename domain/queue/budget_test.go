package queue_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestBudget: large answers wait for one another in their order, small ones for nothing, and none for ever.
func TestBudget(t *testing.T) {
	const mib = 1 << 20
	take := func(t *testing.T, b *queue.Budget, bytes int) (give func()) {
		t.Helper()
		give, err := b.Take(t.Context(), bytes)
		if err != nil {
			t.Fatal(err)
		}
		return give
	}

	t.Run("in their order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := queue.NewBudget(8 * mib)
			first := take(t, b, 6*mib)
			served := make(chan int, 3)
			for _, n := range []int{7, 2, 8} { // the second would fit beside the first
				go func() {
					give := take(t, b, n*mib)
					served <- n
					time.Sleep(time.Second)
					give()
				}()
				synctest.Wait()
			}
			if len(served) != 0 {
				t.Fatalf("%d was served before there was room for the oldest", <-served)
			}

			first()
			first() // twice is once
			if order := []int{<-served, <-served, <-served}; !slices.Equal(order, []int{7, 2, 8}) {
				t.Errorf("served %v", order)
			}
			take(t, b, 8*mib)()
		})
	})
	t.Run("answers in memory wait up to as many bytes as the budget has", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := queue.NewBudget(4 * mib)
			give := take(t, b, 4*mib)
			var failed atomic.Int64
			for range 6 {
				go func() {
					give, err := b.TakeRead(t.Context(), mib)
					if err != nil {
						failed.Add(1)
						return
					}
					give()
				}()
			}
			synctest.Wait()
			if failed.Load() != 2 {
				t.Errorf("%d of 6 failed at once, want 2", failed.Load())
			}

			task := &queue.Task{ID: 7, Payload: make([]byte, 2*mib)}
			shared := task
			b.TakeAnswer(t.Context(), &task)()
			if task.ID != 7 || task.Payload != nil || shared.Payload == nil {
				t.Error("an answer that must not fail kept its content, or has changed a task of others")
			}
			give()
			synctest.Wait()
			task = shared
			b.TakeAnswer(t.Context(), &task)()
			if task != shared {
				t.Error("an answer that has its bytes lost its content")
			}
		})
	})
	t.Run("small ones never wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := queue.NewBudget(mib)
			defer take(t, b, mib)()
			take(t, b, queue.SmallAnswerBytes)()
		})
	})
	t.Run("one that is larger than all takes all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := queue.NewBudget(mib)
			take(t, b, 100*mib)()
			take(t, b, mib)()
		})
	})
	t.Run("a caller that waits too long, or goes, takes nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := queue.NewBudget(mib)
			give := take(t, b, mib)
			if _, err := b.Take(t.Context(), mib); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("error %v, want unavailable", err)
			}
			gone, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := b.Take(gone, mib); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want the caller's deadline", err)
			}
			give()
			take(t, b, mib)()
		})
	})
	t.Run("none bounds nothing", func(t *testing.T) {
		var b *queue.Budget
		take(t, b, 1<<40)()
	})
}

// largeService retains tasks of a MiB each, as many as are asked for.
type largeService struct {
	queue.Service
	lockedConsumer
	asked []int
}

func (s *largeService) RetainTasks(_ context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	s.asked = append(s.asked, r.Limit)
	tasks := heldTasks(int64(r.Limit))
	for _, t := range tasks {
		t.Payload = make([]byte, 1<<20)
	}
	return tasks, nil
}

func (s *largeService) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	return s.lockedConsumer.ReleaseTasks(ctx, releases)
}

// TestRetainWithinABudget: a retain that says that it is large reads nothing before there is room; tasks of one that turns
// out large go back when there is no room in time.
func TestRetainWithinABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := queue.NewBudget(4<<20), &largeService{}
		full, err := b.Take(t.Context(), 4<<20)
		if err != nil {
			t.Fatal(err)
		}

		_, _, err = b.RetainWithin(t.Context(), s, queue.RetainRequest{Worker: "w", Limit: 4, MaxBytes: 4 << 20})
		if !errors.Is(err, queue.ErrUnavailable) || len(s.asked) != 0 {
			t.Errorf("error %v, want unavailable; asked the store for %v", err, s.asked)
		}
		_, _, err = b.RetainWithin(t.Context(), s, queue.RetainRequest{Worker: "w", Limit: 2})
		if !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("error %v, want unavailable", err)
		}
		if !slices.EqualFunc(s.calls, [][]int64{{1, 2}}, slices.Equal) {
			t.Errorf("handed back %v, want tasks 1 and 2", s.calls)
		}

		full()
		tasks, give, err := b.RetainWithin(t.Context(), s, queue.RetainRequest{Worker: "w", Limit: 3})
		if err != nil || len(tasks) != 3 {
			t.Fatalf("%d tasks, error %v", len(tasks), err)
		}
		if _, err := b.Take(t.Context(), 2<<20); !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("error %v, want unavailable until the answer has left", err)
		}
		give()
		if give, err = b.Take(t.Context(), 4<<20); err != nil {
			t.Error(err)
		} else {
			give()
		}
	})
}

// TestListRoom: a list without pages ends above its bytes while it is read, with an error that names the rest.
func TestListRoom(t *testing.T) {
	var room queue.ListRoom
	if err := room.Add(queue.MaxListBytes, queue.RemedyWorkers); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if err := room.Add(1, queue.RemedyWorkers); queue.KindOf(err) != queue.KindTooLarge || !strings.Contains(err.Error(), "list the retained tasks") {
		t.Errorf("one byte above: %v", err)
	}

	workers := []queue.Worker{{Name: "a", Queues: []string{"mail", "sms"}}, {Name: "\x01"}}
	if got, want := queue.BytesOf(workers), workers[0].Bytes()+workers[1].Bytes(); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	long := queue.Worker{Name: strings.Repeat("w", queue.MaxWorkerBytes)}
	for range 5000 {
		long.Queues = append(long.Queues, strings.Repeat("n", queue.MaxNameBytes))
	}
	if long.Bytes() < 5000*queue.MaxNameBytes {
		t.Errorf("a worker of 5000 queues counts as %d bytes", long.Bytes())
	}
}
