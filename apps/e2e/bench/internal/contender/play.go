package contender

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// backlogLimit is the largest number of unfinished tasks that producers of a live run leave. The run measures both
// sides in balance, so neither may run ahead.
const backlogLimit = 20_000

// Play opens the contender of p and plays the scenario.
func Play(ctx context.Context, p plan.Plan, stage *plan.Stage) (err error) {
	open, ok := openers[p.Contender]
	if !ok {
		return fmt.Errorf("contender: must be a known name, got %.64q", p.Contender)
	}

	q, err := open(ctx, p, true)
	if err != nil {
		return err
	}
	defer func() {
		// The script is over: unfinished tasks do not count, and a slow stop does not change the result.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if closeErr := q.Close(closing); err == nil && closeErr != nil {
			err = fmt.Errorf("close: %w", closeErr)
		}
	}()

	s := &script{plan: p, stage: stage, q: q, pad: pad(p.PayloadBytes), base: time.Now()}
	if p.Delayed > 0 {
		if err := stage.Phase("delay", func() (plan.Result, error) { return s.insert(ctx, p.Delayed, time.Hour) }); err != nil {
			return err
		}
	}

	switch p.Scenario {
	case "drain":
		return s.drain(ctx)
	case "live":
		return s.live(ctx)
	case "offered":
		return s.offered(ctx)
	case "pickup":
		return s.pickup(ctx, open)
	}
	return fmt.Errorf("no scenario is called %q", p.Scenario)
}

// script is one run.
type script struct {
	plan  plan.Plan
	stage *plan.Stage
	q     Queue
	pad   string
	base  time.Time
}

// now returns the player's own clock in nanoseconds from 1.
func (s *script) now() int64 { return int64(time.Since(s.base)) + 1 }

// insert commits n tasks in batches by all producers at once.
func (s *script) insert(ctx context.Context, n int, delay time.Duration) (plan.Result, error) {
	var next atomic.Int64
	err := each(s.plan.Producers, func() error {
		for {
			from := int(next.Add(int64(s.plan.Batch))) - s.plan.Batch
			if from >= n {
				return nil
			}
			if err := s.q.Insert(ctx, s.batch(from, min(s.plan.Batch, n-from), delay)); err != nil {
				return err
			}
		}
	})
	return plan.Result{N: n}, err
}

// batch returns n tasks; the first has the number from.
func (s *script) batch(from, n int, delay time.Duration) []Task {
	batch := make([]Task, n)
	for i := range batch {
		batch[i] = Task{Queue: (from + i) % s.plan.Queues, Group: s.plan.GroupOf(from + i), Delay: delay, Payload: Payload{N: from + i, Pad: s.pad}}
	}
	return batch
}

// drain inserts tasks without workers and then works them.
func (s *script) drain(ctx context.Context) error {
	if err := s.stage.Phase("insert", func() (plan.Result, error) { return s.insert(ctx, s.plan.Tasks, 0) }); err != nil {
		return err
	}
	return s.stage.Phase("drain", func() (plan.Result, error) {
		if err := s.q.Work(ctx, func(Payload) { s.plan.Handle() }); err != nil {
			return plan.Result{}, err
		}
		return plan.Result{N: s.plan.Tasks}, s.completed(ctx, int64(s.plan.Tasks))
	})
}

// completed waits until n tasks have a committed end.
func (s *script) completed(ctx context.Context, n int64) error {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for s.q.Completed() < n {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d tasks completed: %w", s.q.Completed(), n, ctx.Err())
		case <-look.C:
		}
	}
	return nil
}

// live inserts and works at full speed, for a time or until a number of tasks is done.
func (s *script) live(ctx context.Context) error {
	if err := s.q.Work(ctx, func(Payload) {}); err != nil {
		return err
	}
	return s.stage.Phase("live", func() (plan.Result, error) {
		var inserted atomic.Int64

		stop := time.Now().Add(time.Duration(s.plan.Seconds * float64(time.Second)))
		total := int64(s.plan.Tasks)
		goOn := func() bool {
			if total > 0 {
				return inserted.Load() < total && ctx.Err() == nil
			}
			return time.Now().Before(stop) && ctx.Err() == nil
		}

		producing := make(chan error, 1)
		go func() {
			err := each(s.plan.Producers, func() error {
				for goOn() {
					if inserted.Load()-s.q.Completed() > backlogLimit {
						plan.Pause(ctx, time.Millisecond)
						continue
					}
					from := int(inserted.Add(int64(s.plan.Batch))) - s.plan.Batch
					if err := s.q.Insert(ctx, s.batch(from, s.plan.Batch, 0)); err != nil {
						return err
					}
				}
				return ctx.Err()
			})

			if total > 0 {
				err = errors.Join(err, s.completed(ctx, inserted.Load()))
			}

			producing <- err
		}()

		begin, last, at := time.Now(), int64(0), time.Now()
		var series []float64
		second := time.NewTicker(time.Second)
		defer second.Stop()

		for {
			select {
			case <-second.C:
				done, now := s.q.Completed(), time.Now()
				series = append(series, float64(done-last)/now.Sub(at).Seconds())
				last, at = done, now
			case err := <-producing:
				return plan.Result{N: int(s.q.Completed()), Seconds: time.Since(begin).Seconds(), Series: series}, err
			}
		}
	})
}

// offered inserts the due tasks every 10 ms at a fixed rate, without waiting for earlier tasks. It measures from the
// time at which an insert is due to the first line of the handler. So a slow insert counts as latency too.
func (s *script) offered(ctx context.Context) error {
	const beat = 10 * time.Millisecond
	var mu sync.Mutex

	total := int(s.plan.Seconds * float64(s.plan.Rate))
	sample := make([]time.Duration, 0, total)
	all := make(chan struct{})

	if err := s.q.Work(ctx, func(p Payload) {
		took := time.Duration(s.now() - p.At)
		mu.Lock()
		defer mu.Unlock()
		if sample = append(sample, took); len(sample) == total {
			close(all)
		}
	}); err != nil {
		return err
	}

	if err := s.settle(ctx); err != nil {
		return err
	}
	return s.stage.Phase("offered", func() (plan.Result, error) {
		begin, each := time.Now(), s.now()
		inserts := make(chan []Task, 4096)
		var failed atomic.Pointer[error]
		var wg sync.WaitGroup

		// Eight inserters, so that one slow insert does not delay the next.
		for range 8 {
			wg.Go(func() {
				for batch := range inserts {
					if err := s.q.Insert(ctx, batch); err != nil {
						failed.CompareAndSwap(nil, &err)
					}
				}
			})
		}

		gap := float64(time.Second) / float64(s.plan.Rate)
		for n := 0; n < total && ctx.Err() == nil && failed.Load() == nil; plan.Pause(ctx, beat) {
			var batch []Task
			for ; n < total; n++ {
				due := each + int64(float64(n)*gap)
				if due > s.now() {
					break
				}
				batch = append(batch, Task{Queue: n % s.plan.Queues, Payload: Payload{N: n, At: due, Pad: s.pad}})
			}

			if len(batch) > 0 {
				inserts <- batch
			}
		}

		close(inserts)
		wg.Wait()
		if err := failed.Load(); err != nil {
			return plan.Result{}, *err
		}

		select {
		case <-all:
		case <-ctx.Done():
		case <-time.After(time.Minute): // too slow: the latency covers only the handled tasks
		}

		mu.Lock()
		defer mu.Unlock()
		return plan.Result{
			N: len(sample), Seconds: time.Since(begin).Seconds(), Errors: total - len(sample),
			Latency: map[string]plan.Quantiles{"due": plan.QuantilesOf(sample)},
		}, ctx.Err()
	})
}

// settle waits a second, in which workers become idle and the database finishes work from their start.
func (*script) settle(ctx context.Context) error {
	plan.Pause(ctx, time.Second)
	return ctx.Err()
}

// pickup inserts single tasks into an idle queue, first through the instance that works them, then through another.
func (s *script) pickup(ctx context.Context, open opener) error {
	var mu sync.Mutex
	var picked map[int]int64

	begin := make(chan struct{}, 1)
	if err := s.q.Work(ctx, func(p Payload) {
		at := s.now()
		mu.Lock()
		picked[p.N] = at
		mu.Unlock()
		select {
		case begin <- struct{}{}:
		default:
		}
	}); err != nil {
		return err
	}

	if err := s.stage.Phase("rest", func() (plan.Result, error) {
		return plan.Result{}, errors.Join(s.settle(ctx), s.settle(ctx))
	}); err != nil {
		return err
	}

	measure := func(from Queue) (plan.Result, error) {
		mu.Lock()
		picked = make(map[int]int64, s.plan.Samples)
		mu.Unlock()

		called, committed := make([]int64, s.plan.Samples), make([]int64, s.plan.Samples)
		for n := range s.plan.Samples {
			called[n] = s.now()
			if err := from.InsertOne(ctx, Task{Payload: Payload{N: n, Pad: s.pad}}); err != nil {
				return plan.Result{}, err
			}
			committed[n] = s.now()

			select {
			case <-begin:
			case <-ctx.Done():
				return plan.Result{}, ctx.Err()
			case <-time.After(10 * time.Second):
				return plan.Result{}, fmt.Errorf("no worker took task %d in 10 s", n)
			}
			plan.Pause(ctx, 10*time.Millisecond) // until the queue is idle again
		}
		mu.Lock()
		defer mu.Unlock()

		var fromCall, fromCommit []time.Duration
		for n := range s.plan.Samples {
			fromCall = append(fromCall, time.Duration(picked[n]-called[n]))
			// The handler may begin before the caller receives the answer to its own commit.
			fromCommit = append(fromCommit, time.Duration(max(picked[n]-committed[n], 0)))
		}
		return plan.Result{N: s.plan.Samples, Latency: map[string]plan.Quantiles{
			"call": plan.QuantilesOf(fromCall), "commit": plan.QuantilesOf(fromCommit),
		}}, nil
	}

	if err := s.stage.Phase("pickup", func() (plan.Result, error) { return measure(s.q) }); err != nil {
		return err
	}

	other, err := open(ctx, s.plan, false)
	if err != nil {
		return err
	}
	defer other.Close(context.WithoutCancel(ctx))
	return s.stage.Phase("pickup apart", func() (plan.Result, error) { return measure(other) })
}

// each runs n calls of do at once and returns the first error.
func each(n int, do func() error) error {
	errs := make(chan error, n)
	for range n {
		go func() { errs <- do() }()
	}

	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
