package queuetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ServiceHarness describes a service to test: in process or behind a client.
type ServiceHarness struct {
	// New returns a fresh service over an empty store, bound to the namespace "default". It registers the end of the
	// service with t.Cleanup. The store's clock runs; background work need not.
	New func(t testing.TB) queue.Service
	// Advance moves the clock of the store behind a service of New forward by d.
	Advance func(t testing.TB, s queue.Service, d time.Duration)
	// Chores does all background work that is due in the store behind the service.
	Chores func(t testing.TB, s queue.Service)
	// Topics are the parts of the suite to run, such as produce; nil = all.
	Topics []string
}

// TestService checks the services of h against the contract.
func TestService(t *testing.T, h ServiceHarness) {
	t.Helper()
	left := slices.Clone(h.Topics)
	for _, topic := range []struct {
		name string
		test func(v *svc)
	}{
		{"scope", serveScope},
		{"produce", serveProduce},
		{"exact JSON", serveJSON},
		{"consume", serveConsume},
		{"wait", serveWait},
		{"tasks", serveTasks},
		{"steps", serveSteps},
		{"await", serveAwait},
		{"queues", serveQueues},
		{"groups", serveGroups},
		{"key rules", serveKeyRules},
		{"stats and workers", serveStats},
		{"explanations", serveExplanations},
		{"failures", serveFailures},
		{"failure policy", serveFailurePolicy},
		{"history", serveHistory},
		{"tickers", serveTickers},
		{"ticker loops", serveTickerLoops},
		{"events", serveEvents},
		{"subscriptions", serveSubscriptions},
		{"arguments", serveArguments},
		{"input", serveInput},
		{"errors", serveErrors},
		{"predecessor", servePredecessor},
	} {
		if h.Topics != nil && !slices.Contains(h.Topics, topic.name) {
			continue
		}
		left = slices.DeleteFunc(left, func(name string) bool { return name == topic.name })
		t.Run(topic.name, func(t *testing.T) {
			s := h.New(t)
			topic.test(&svc{T: t, h: h, root: s, s: s, spaces: new(0)})
		})
	}
	if len(left) > 0 {
		t.Errorf("the suite has no topics %q", left)
	}
}

// svc is one service under test, bound to one namespace.
type svc struct {
	*testing.T
	h      ServiceHarness
	root   queue.Service // the service that the harness returned
	s      queue.Service
	spaces *int
}

// it runs a sub-test on the same service in a namespace of its own.
func (v *svc) it(sentence string, f func(v *svc)) {
	v.T.Run(sentence, func(t *testing.T) {
		*v.spaces++
		c := &svc{T: t, h: v.h, root: v.root, spaces: v.spaces}
		c.s = c.in(fmt.Sprintf("space-%d", *v.spaces))
		f(c)
	})
}

func (v *svc) in(namespace string) queue.Service {
	v.Helper()
	s, err := v.root.In(namespace)
	v.ok(err)
	return s
}

func (v *svc) ctx() context.Context {
	ctx, cancel := context.WithTimeout(v.Context(), callTimeout)
	v.Cleanup(cancel)
	return ctx
}

func (v *svc) ok(err error) {
	v.Helper()
	if err != nil {
		v.Fatalf("unexpected error: %v", err)
	}
}

func (v *svc) kind(err error, want queue.Kind) {
	v.Helper()
	checkKind(v.T, err, want)
}

// invalid checks that err has the kind want and names the field.
func (v *svc) invalid(err error, want queue.Kind, field string) {
	v.Helper()
	v.kind(err, want)
	e, ok := errors.AsType[*queue.Error](err)
	if !ok || e.Field != field || e.Msg == "" {
		v.Fatalf("error %#v does not say what is wrong with field %s", err, field)
	}
}

func (v *svc) equal(what string, got, want any) {
	v.Helper()
	if !reflect.DeepEqual(got, want) {
		v.Fatalf("%s is %v, want %v", what, got, want)
	}
}

// pass lets d pass and does the background work that is due at its end.
func (v *svc) pass(d time.Duration) {
	v.Helper()
	v.h.Advance(v.T, v.root, d)
	v.h.Chores(v.T, v.root)
}

func (v *svc) queue(name string, meta queue.QueueMeta) *queue.Queue {
	v.Helper()
	meta.Name = name
	q, err := v.s.CreateQueue(v.ctx(), meta)
	v.ok(err)
	return q
}

func (v *svc) create(name string, meta queue.TaskMeta) *queue.Task {
	v.Helper()
	t, err := v.s.CreateTask(v.ctx(), name, meta)
	v.ok(err)
	return t
}

func (v *svc) createN(name string, n int) []int64 {
	v.Helper()
	batch := make([]queue.NewTask, n)
	for i := range batch {
		batch[i].Queue = name
	}
	made, err := v.s.CreateTasks(v.ctx(), batch)
	v.ok(err)
	v.equal("number of tasks", len(made), n)
	return ids(made)
}

func (v *svc) retain(limit int, queues ...string) []*queue.Task {
	v.Helper()
	got, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Limit: limit, Queues: queues})
	v.ok(err)
	return got
}

func (v *svc) hold(name string) *queue.Task {
	v.Helper()
	got := v.retain(1, name)
	if len(got) != 1 || got[0].Lease == nil {
		v.Fatalf("retained %v", got)
	}
	return got[0]
}

func (v *svc) tryRelease(r queue.Release) (*queue.Task, error) {
	v.Helper()
	out, err := v.s.ReleaseTasks(v.ctx(), []queue.Release{r})
	if len(out) == 0 {
		v.ok(err)
	}
	if len(out) != 1 || (out[0].Task == nil) == (out[0].Err == nil) {
		v.Fatalf("a release was answered by %+v", out)
	}
	return out[0].Task, out[0].Err
}

func (v *svc) release(t *queue.Task, o queue.Outcome) *queue.Task {
	v.Helper()
	after, err := v.tryRelease(releaseOf(t.ID, t.Lease.Token, o))
	v.ok(err)
	return after
}

func (v *svc) get(id int64) *queue.Task {
	v.Helper()
	t, err := v.s.GetTask(v.ctx(), id)
	v.ok(err)
	return t
}

func (v *svc) status(id int64, want queue.Status) {
	v.Helper()
	if t := v.get(id); t.Status != want {
		v.Fatalf("task %d is %s, want %s", id, t.Status, want)
	}
}

// during runs f in a goroutine of its own. end ends the context of f, waits for f and returns its error. The test waits
// for f in any case.
func (v *svc) during(f func(ctx context.Context) error) (end func() error) {
	v.Helper()
	ctx, cancel := context.WithCancel(v.ctx())
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { err = f(ctx) })
	end = sync.OnceValue(func() error {
		cancel()
		wg.Wait()
		return err
	})
	v.Cleanup(func() { _ = end() })
	return end
}

// receive waits for the next value of c.
func receive[T any](v *svc, c <-chan T) T {
	v.Helper()
	select {
	case x := <-c:
		return x
	case <-time.After(30 * time.Second):
		v.Fatal("nothing came")
	}
	panic("unreachable")
}

func sameTime(v *svc, what string, got, want time.Time) {
	v.Helper()
	if !got.Equal(want) {
		v.Fatalf("%s is %v, want %v", what, got, want)
	}
}
