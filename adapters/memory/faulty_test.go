package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestFaulty tests the suite's failing store over a store that does not fail.
func TestFaulty(t *testing.T) {
	open := func(t *testing.T) (*queuetest.Faulty, func(context.Context) error) {
		t.Helper()
		s := queuetest.NewFaulty(memory.New())
		q, err := queue.NewQueue("ns", queue.QueueMeta{Name: "q"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateQueue(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		return s, func(ctx context.Context) error {
			_, err := s.CreateTasks(ctx, queue.Create{Namespace: "ns", Atomic: true, Tasks: []queue.NewTask{
				{Queue: "q", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}},
			}})
			return err
		}
	}
	count := func(t *testing.T, s queue.Store) int64 {
		t.Helper()
		page, err := s.ListTasks(t.Context(), "ns", queue.TaskQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return page.Count
	}
	boom := &queue.Error{Kind: queue.KindUnavailable, Msg: "boom"}
	t.Run("a fault hits its operation, as often as it says, and no other", func(t *testing.T) {
		s, create := open(t)
		s.Set("CreateTasks", queuetest.Fault{Err: boom, Times: 2})
		for i, want := range []error{boom, boom, nil} {
			if err := create(t.Context()); !errors.Is(err, want) {
				t.Fatalf("call %d: %v, want %v", i, err, want)
			}
		}
		if n := count(t, s); n != 1 {
			t.Fatalf("%d tasks after two failures and a success", n)
		}
		if s.Calls("CreateTasks") != 3 || s.Calls("ListTasks") != 1 || s.Calls("") != 5 {
			t.Fatalf("calls: %d, %d, %d", s.Calls("CreateTasks"), s.Calls("ListTasks"), s.Calls(""))
		}
	})
	t.Run("a fault behind the operation loses the answer alone", func(t *testing.T) {
		s, create := open(t)
		s.Set("CreateTasks", queuetest.Fault{Err: queue.ErrIndeterminate, After: true})
		if err := create(t.Context()); !errors.Is(err, queue.ErrIndeterminate) {
			t.Fatal(err)
		}
		if n := count(t, s); n != 1 {
			t.Fatalf("%d tasks", n)
		}
		s.Clear()
		if err := create(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a fault may hit one chore, or everything", func(t *testing.T) {
		s, create := open(t)
		s.Set("Maintain:rescue", queuetest.Fault{Err: boom})
		if _, err := s.Maintain(t.Context(), queue.ChoreRescue); !errors.Is(err, queue.ErrUnavailable) {
			t.Fatal(err)
		}
		if _, err := s.Maintain(t.Context(), queue.ChorePrune); err != nil {
			t.Fatal(err)
		}
		s.Set("", queuetest.Fault{Err: boom})
		if err := create(t.Context()); !errors.Is(err, queue.ErrUnavailable) {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); !errors.Is(err, queue.ErrUnavailable) {
			t.Fatal(err)
		}
	})
	t.Run("a call is held back, or hangs until its context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, create := open(t)
			start := time.Now()
			s.Set("CreateTasks", queuetest.Fault{Delay: time.Minute, Times: 1})
			if err := create(t.Context()); err != nil || time.Since(start) != time.Minute {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
			s.Set("CreateTasks", queuetest.Fault{Hang: true})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if err := create(ctx); !errors.Is(err, queue.ErrDeadline) {
				t.Fatal(err)
			}
			if n := count(t, s); n != 1 {
				t.Fatalf("%d tasks", n)
			}
		})
	})
}
