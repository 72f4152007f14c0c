package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// changes are changes that handlers make to their task, for example before they log or store it.
var changes = map[string]func(*queue.Task){
	"clears the lease":         func(k *queue.Task) { k.Lease = nil },
	"clears the lease's value": func(k *queue.Task) { *k.Lease = queue.Lease{} },
	"changes the token":        func(k *queue.Task) { k.Lease.Token += 1_000 },
	"shortens the duration":    func(k *queue.Task) { k.Lease.Duration = 1 },
	"clears the id":            func(k *queue.Task) { k.ID = 0 },
	"takes another task's id":  func(k *queue.Task) { k.ID++ },
	"clears everything":        func(k *queue.Task) { *k = queue.Task{} },
	"changes its queue":        func(k *queue.Task) { k.Queue = "other" },
	"changes the payload": func(k *queue.Task) {
		clear(k.Payload)
		k.Payload = nil
	},
	"changes headers and times": func(k *queue.Task) {
		clear(k.Headers)
		k.Headers, k.DiesAt, k.Attempt = nil, time.Unix(1, 0), -1
	},
}

// TestForeignHands: the runtime trusts no value that it has given to a handler. After any change of the task by its
// handler, the task ends as the handler returned, its lease is extended, and Run returns.
func TestForeignHands(t *testing.T) {
	ends := map[string]struct {
		returns func(ctx context.Context) (any, error)
		want    queue.Outcome
	}{
		"succeeds":        {func(context.Context) (any, error) { return 1, nil }, queue.OutcomeSuccess},
		"fails":           {func(context.Context) (any, error) { return nil, errors.New("x") }, queue.OutcomeFailure},
		"panics":          {func(context.Context) (any, error) { panic("x") }, queue.OutcomeFailure},
		"snoozes":         {func(context.Context) (any, error) { return nil, worker.Snooze(time.Second) }, queue.OutcomeSnooze},
		"cancels":         {func(context.Context) (any, error) { return nil, worker.Cancel(nil) }, queue.OutcomePermanent},
		"outlives a beat": {sleepFor(45 * time.Second), queue.OutcomeSuccess},
		"reports":         {report, queue.OutcomeSuccess},
		"is stopped": {func(ctx context.Context) (any, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}, queue.OutcomeHandBack},
	}
	for change, do := range changes {
		for end, c := range ends {
			t.Run("a handler that "+change+" and "+end+" harms nothing", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f, o := newFake(), &collect{}
					first := f.add("mail", 1, func(k *queue.Task) { k.Headers = map[string]string{"a": "b"} })
					for range 2 {
						f.add("mail", 1)
					}
					w := newWorker(f, worker.WithConcurrency(1), worker.WithObserver(o), worker.WithDrain(time.Second))
					w.HandleFunc("mail", func(ctx context.Context, k *queue.Task) (any, error) {
						if k.ID != first {
							return nil, nil
						}
						do(k)
						return c.returns(ctx)
					})
					r := start(t, w)
					pass(time.Minute)
					if err := r.stop(); err != nil {
						t.Errorf("Run returned %v", err)
					}
					if got := f.end(t, first); got.Outcome != c.want {
						t.Errorf("ended as %s", got.Outcome)
					}
					if n := f.holds(); n != 0 {
						t.Errorf("%d tasks are still held", n)
					}
					if c.want != queue.OutcomeHandBack && f.count() != 3 {
						t.Errorf("%d tasks ended", f.count())
					}
					for i, h := range o.held {
						if h.Queue != "mail" || h.ID == 0 || h.Attempt != 1 {
							t.Errorf("report %d: %+v", i, h)
						}
					}
				})
			})
		}
		t.Run("a handler that "+change+" and loses its lease learns of the loss", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, o := newFake(), &collect{}
				id := f.add("mail", 1)
				f.lost[id] = true
				var cause error
				w := newWorker(f, worker.WithObserver(o))
				w.HandleFunc("mail", func(ctx context.Context, k *queue.Task) (any, error) {
					do(k)
					<-ctx.Done()
					cause = context.Cause(ctx)
					return nil, nil
				})
				r := start(t, w)
				pass(time.Minute)
				if err := r.stop(); err != nil || !errors.Is(cause, worker.ErrLeaseLost) || o.lost != 1 {
					t.Errorf("Run returned %v, the context ended with %v, reported %d times", err, cause, o.lost)
				}
			})
		})
		t.Run("a release of a handler that "+change+" carries id and token", func(t *testing.T) {
			task := &queue.Task{ID: 7, Queue: "mail", Lease: &queue.Lease{Token: 9, Duration: time.Minute}}
			rel := worker.Work(t.Context(), worker.HandlerFunc(func(_ context.Context, k *queue.Task) (any, error) {
				do(k)
				return nil, nil
			}), task)
			if rel.ID != 7 || rel.Token != 9 {
				t.Errorf("%+v", rel)
			}
		})
	}

	t.Run("a buffer that a handler uses again is not what is stored", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			first := f.add("mail", 4)
			f.trip = time.Second // the first release is under way while others end
			buf := make([]byte, 0, 64)
			w := newWorker(f, worker.WithConcurrency(1))
			w.HandleFunc("mail", func(ctx context.Context, k *queue.Task) (any, error) {
				buf = append(buf[:0], `{"task":`...)
				buf = append(buf, byte('0'+k.ID), '}')
				if err := worker.Progress(ctx, json.RawMessage(buf)); err != nil {
					return nil, err
				}
				switch k.ID % 4 {
				case 0:
					return json.RawMessage(buf), nil
				case 1:
					return buf, nil
				case 2:
					return nil, jsonFailure(buf)
				}
				return nil, worker.Permanent(jsonFailure(buf))
			})
			r := start(t, w)
			pass(time.Minute)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			want := map[int64]string{}
			for id := first; id < first+4; id++ {
				want[id] = `{"task":` + string(byte('0'+id)) + `}`
			}
			got := map[int64]string{}
			for id := range want {
				got[id] = string(f.end(t, id).Result)
				if p := f.progress[id]; len(p) == 0 || p[len(p)-1] != `{"progress":`+want[id]+`}` {
					t.Errorf("the progress of task %d is %q", id, p)
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("stored %v", got)
			}
		})
	})
}

// jsonFailure is an error with its own bytes as JSON.
type jsonFailure []byte

func (f jsonFailure) Error() string                { return "failed" }
func (f jsonFailure) MarshalJSON() ([]byte, error) { return f, nil }

func sleepFor(d time.Duration) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) { return sleeper(d)(ctx, nil) }
}

func report(ctx context.Context) (any, error) {
	worker.Logf(ctx, "half way")
	if err := worker.Progress(ctx, 50); err != nil {
		return nil, err
	}
	return nil, worker.Flush(ctx)
}
