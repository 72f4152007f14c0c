package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

type (
	testOptions = Options[string, int, string]
	testBatcher = Batcher[string, int, string]
)

// service records the batches that it gets. Items answer with their number; negative items are at fault.
type service struct {
	mu       sync.Mutex
	batches  [][]int
	inFlight int
	most     int
	err      error
	takes    time.Duration
	locked   map[int]bool
}

var (
	errItem   = queue.Invalid("item", "must be positive")
	errLocked = "locked"
)

func (s *service) commit(ctx context.Context, _ string, items []int) ([]string, error) {
	s.mu.Lock()
	s.batches = append(s.batches, slices.Clone(items))
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	s.mu.Unlock()
	retry.Sleep(ctx, s.takes)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	outs := make([]string, len(items))
	for i, item := range items {
		switch {
		case item < 0:
			return nil, errItem
		case s.locked[item]:
			outs[i] = errLocked
		default:
			outs[i] = fmt.Sprint(item)
		}
	}

	return outs, s.err
}

func (s *service) sizes() (sizes []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		sizes = append(sizes, len(b))
	}

	return sizes
}

// runTest runs test in fake time, and fails when a goroutine of the Batcher outlives Close and Wait.
func runTest(t *testing.T, name string, options testOptions, test func(t *testing.T, s *service, b *testBatcher)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &service{takes: time.Second, locked: map[int]bool{}}
			options.Commit = s.commit
			b := New(options)
			test(t, s, b)
			b.Close()
			b.Wait()
			if len(b.streams) != 0 || len(b.locked) != 0 || b.running != 0 || b.waiting != 0 {
				t.Errorf("%d streams, %d locked, %d goroutines, %d waiting are left", len(b.streams), len(b.locked), b.running, b.waiting)
			}
		})
	})
}

type result struct {
	outs []string
	err  error
}

// doEach calls Do with each item in a goroutine of its own, and returns the function that waits for the results.
func doEach(ctx context.Context, b *testBatcher, items ...int) (wait func() []result) {
	results := make([]result, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { results[i].outs, results[i].err = b.Do(ctx, "key", item) })
		synctest.Wait()
	}

	return func() []result { wg.Wait(); return results }
}

func numbers(from, to int) (items []int) {
	for i := from; i < to; i++ {
		items = append(items, i)
	}

	return items
}

func expectAnswers(t *testing.T, items []int, results []result) {
	t.Helper()
	for i, r := range results {
		if r.err != nil || len(r.outs) != 1 || r.outs[0] != fmt.Sprint(items[i]) {
			t.Errorf("item %d got %v, %v", items[i], r.outs, r.err)
		}
	}
}

func expectSizes(t *testing.T, s *service, want ...int) {
	t.Helper()
	if got := s.sizes(); !slices.Equal(got, want) {
		t.Errorf("batches of %v, want %v", got, want)
	}
}

func TestBatches(t *testing.T) {
	runTest(t, "an idle stream sends at once, and items that arrive meanwhile share the next batch", testOptions{},
		func(t *testing.T, s *service, b *testBatcher) {
			began := time.Now()
			items := numbers(0, 10)
			expectAnswers(t, items, doEach(t.Context(), b, items...)())
			expectSizes(t, s, 1, 9)
			if took := time.Since(began); took != 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	runTest(t, "batches end at their items and bytes, and a larger call goes alone",
		testOptions{MaxItems: 4, MaxBytes: 50, Bytes: func(item int) int { return item }},
		func(t *testing.T, s *service, b *testBatcher) {
			wait := doEach(t.Context(), b, 1, 20, 20, 20, 100, 1, 1, 1, 1, 1)
			outs, err := b.Do(t.Context(), "key", 1, 2, 3, 4, 5)
			wait()
			if err != nil || len(outs) != 5 {
				t.Error(outs, err)
			}
			expectSizes(t, s, 1, 2, 1, 1, 4, 1, 5)
		})
	runTest(t, "only full batches share the flight, up to their limit",
		testOptions{MaxItems: 2, MaxFullInFlight: 3, Weight: func(item int) int { return item }},
		func(t *testing.T, s *service, b *testBatcher) {
			doEach(t.Context(), b, 2, 2, 2, 2, 1)()
			if s.most != 3 {
				t.Errorf("%d batches in flight, want 3", s.most)
			}
		})
	runTest(t, "keys do not wait for each other, up to the limit of goroutines", testOptions{MaxGoroutines: 2},
		func(t *testing.T, s *service, b *testBatcher) {
			for key := range 5 {
				b.Add(fmt.Sprint(key), key)
			}
			synctest.Wait()
			if s.most != 2 {
				t.Errorf("%d batches in flight, want 2", s.most)
			}
		})
	runTest(t, "a delay lets items join on an idle stream", testOptions{MaxDelay: time.Minute},
		func(t *testing.T, s *service, b *testBatcher) {
			items := numbers(0, 5)
			expectAnswers(t, items, doEach(t.Context(), b, items...)())
			expectSizes(t, s, 5)
		})
	runTest(t, "an interval lets the first item go at once and holds the next ones back", testOptions{MinInterval: time.Minute},
		func(t *testing.T, s *service, b *testBatcher) {
			for i := range 4 {
				b.Add("key", i)
				time.Sleep(15 * time.Second)
			}
			time.Sleep(time.Second)
			expectSizes(t, s, 1, 3)
			b.Add("key", 4)
			b.Close() // ends the interval
			b.Wait()
			expectSizes(t, s, 1, 3, 1)
		})
	runTest(t, "more callers than the limit are refused", testOptions{MaxWaiting: 3},
		func(t *testing.T, s *service, b *testBatcher) {
			wait := doEach(t.Context(), b, 1, 2, 3)
			if _, err := b.Do(t.Context(), "key", 4); !errors.Is(err, queue.ErrUnavailable) {
				t.Error(err)
			}
			if b.Add("key", 4) {
				t.Error("an item more was added")
			}
			wait()
		})
}

func TestFaults(t *testing.T) {
	runTest(t, "an item at fault harms its own caller only", testOptions{},
		func(t *testing.T, s *service, b *testBatcher) {
			items := numbers(0, 100)
			items[42] = -1
			results := doEach(t.Context(), b, items...)()
			if !errors.Is(results[42].err, queue.ErrInvalid) {
				t.Error(results[42].err)
			}
			expectAnswers(t, slices.Delete(items, 42, 43), slices.Delete(results, 42, 43))
		})
	runTest(t, "an item of Add at fault leaves the others of its batch alone", testOptions{Unclaimed: unclaimed},
		func(t *testing.T, s *service, b *testBatcher) {
			answers.reset()
			b.Add("key", 0)
			synctest.Wait()
			b.Add("key", append(numbers(1, 50), -1)...)
			b.Close()
			b.Wait()
			if outs, failed := answers.list(); len(outs) != 50 || failed != 1 {
				t.Errorf("%d answers, %d failed", len(outs), failed)
			}
		})
	for _, c := range []struct {
		name  string
		err   error
		calls int
	}{
		{"a service that cannot be reached gets no repeats", queue.ErrUnavailable, 2},
		{"a service that fails at everything is not stormed", queue.ErrInternal, 30},
	} {
		runTest(t, c.name, testOptions{}, func(t *testing.T, s *service, b *testBatcher) {
			s.err = c.err
			for _, r := range doEach(t.Context(), b, numbers(0, 500)...)() {
				if !errors.Is(r.err, c.err) {
					t.Error(r.err)
				}
			}
			if n := len(s.sizes()); n > c.calls {
				t.Errorf("%d calls, want at most %d", n, c.calls)
			}
		})
	}
	runTest(t, "after a batch that failed its stream pauses", testOptions{FailurePause: retry.Backoff{Min: time.Minute, Max: time.Hour}},
		func(t *testing.T, s *service, b *testBatcher) {
			s.err = queue.ErrUnavailable
			b.Add("key", 1)
			time.Sleep(10 * time.Second)
			b.Add("key", 2)
			time.Sleep(10 * time.Second)
			expectSizes(t, s, 1)
			time.Sleep(time.Minute)
			expectSizes(t, s, 1, 1)
		})
	t.Run("every kind of error has a row in the table of faults", func(t *testing.T) {
		for _, k := range queue.Kinds() {
			if _, ok := faults[k]; !ok {
				t.Errorf("%s: add a row to faults", k)
			}
		}
	})
}

// answers are the unclaimed answers of the test that runs.
var answers unclaimedAnswers

type unclaimedAnswers struct {
	mu     sync.Mutex
	outs   []string
	failed int
}

func (a *unclaimedAnswers) reset() { *a = unclaimedAnswers{} }

func (a *unclaimedAnswers) list() (outs []string, failed int) {
	a.mu.Lock()
	defer a.mu.Unlock()

	return a.outs, a.failed
}

func unclaimed(_ string, items []int, outs []string, err error) {
	answers.mu.Lock()
	defer answers.mu.Unlock()
	answers.outs = append(answers.outs, outs...)
	if err != nil {
		answers.failed += len(items)
	}
}

func TestCallersThatLeave(t *testing.T) {
	runTest(t, "before its batch was sent, an item is taken out", testOptions{Unclaimed: unclaimed},
		func(t *testing.T, s *service, b *testBatcher) {
			answers.reset()
			first := doEach(t.Context(), b, 1)
			ctx, cancel := context.WithCancel(t.Context())
			left := doEach(ctx, b, 2)
			stays := doEach(t.Context(), b, 3)
			cancel()
			if err := left()[0].err; !errors.Is(err, queue.ErrCanceled) {
				t.Error(err)
			}
			expectAnswers(t, []int{1, 3}, append(first(), stays()...))
			expectSizes(t, s, 1, 1)
			if outs, _ := answers.list(); len(outs) != 0 {
				t.Error(outs)
			}
		})
	runTest(t, "during its commit, its answer goes to Unclaimed",
		testOptions{Unclaimed: unclaimed, Unanswered: queue.KindIndeterminate},
		func(t *testing.T, s *service, b *testBatcher) {
			answers.reset()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := doEach(ctx, b, 1)()[0].err; !errors.Is(err, queue.ErrIndeterminate) {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			if outs, _ := answers.list(); len(outs) != 1 {
				t.Error(outs)
			}
		})
	runTest(t, "after Close, calls that were not sent are refused and items of Add are sent", testOptions{Unclaimed: unclaimed},
		func(t *testing.T, s *service, b *testBatcher) {
			answers.reset()
			sent, unsent := doEach(t.Context(), b, 1), doEach(t.Context(), b, 2)
			b.Add("key", 3)
			b.Close()
			expectAnswers(t, []int{1}, sent())
			if err := unsent()[0].err; !errors.Is(err, queue.ErrUnavailable) {
				t.Error(err)
			}
			b.Wait()
			if outs, _ := answers.list(); b.Add("key", 4) || !slices.Equal(outs, []string{"3"}) {
				t.Error(outs)
			}
		})
}

func TestLockedItems(t *testing.T) {
	options := testOptions{Locked: func(out string) bool { return out == errLocked }, Timeout: 10 * time.Second}
	runTest(t, "its caller waits for the lock, and the others do not", options, func(t *testing.T, s *service, b *testBatcher) {
		s.takes = 0
		s.locked[2] = true
		wait := doEach(t.Context(), b, 2)
		expectAnswers(t, []int{1, 3}, doEach(t.Context(), b, 1, 3)())
		time.Sleep(time.Second)
		s.mu.Lock()
		delete(s.locked, 2)
		s.mu.Unlock()
		expectAnswers(t, []int{2}, wait())
	})
	runTest(t, "an item that stays locked is answered so when the timeout is over", options, func(t *testing.T, s *service, b *testBatcher) {
		s.takes = 0
		s.locked[2] = true
		began := time.Now()
		if r := doEach(t.Context(), b, 2)()[0]; r.err != nil || r.outs[0] != errLocked {
			t.Error(r)
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
