package queue_test

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// callRecorder records the calls that start, and fails them at the start or at the end.
type callRecorder struct {
	calls             []queue.Call
	startErr, endErr  error
	ended             []error
	startedWithNumber int
}

func (r *callRecorder) Start(ctx context.Context, call queue.Call) (context.Context, int, error) {
	r.calls = append(r.calls, call)
	return ctx, r.startedWithNumber, r.startErr
}

func (r *callRecorder) End(_ context.Context, _ queue.Call, number int, err error) error {
	if number != r.startedWithNumber {
		return errors.New("the state of the start did not reach the end")
	}
	r.ended = append(r.ended, err)
	return r.endErr
}

// silentObserver observes nothing.
type silentObserver struct{}

func (silentObserver) Start(ctx context.Context, _ queue.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}
func (silentObserver) End(context.Context, queue.Call, struct{}, error) error { return nil }

// fixedService answers two operations; any other panics.
type fixedService struct {
	queue.Service
	task *queue.Task
	err  error
}

func (s *fixedService) Namespace() string { return "n" }

func (s *fixedService) In(string) (queue.Service, error) { return &fixedService{task: s.task}, s.err }

func (s *fixedService) GetTask(context.Context, int64) (*queue.Task, error) { return s.task, s.err }

func (s *fixedService) ReleaseTasks(context.Context, []queue.Release) ([]queue.Released, error) {
	return nil, s.err
}

type fixedStore struct{ queue.Store }

func (fixedStore) HeartbeatTasks(context.Context, string, []queue.Heartbeat) ([]queue.Beat, error) {
	return nil, nil
}

// callEveryMethod calls each method of port that takes a context, with zero arguments, and checks the error.
func callEveryMethod(t *testing.T, port reflect.Type, decorated any, want error) []string {
	t.Helper()
	var called []string

	for method := range port.Methods() {
		signature := method.Type
		if signature.NumIn() == 0 || signature.In(0) != reflect.TypeFor[context.Context]() {
			continue
		}

		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for i := 1; i < signature.NumIn(); i++ {
			if !signature.IsVariadic() || i < signature.NumIn()-1 {
				args = append(args, reflect.Zero(signature.In(i)))
			}
		}

		results := reflect.ValueOf(decorated).MethodByName(method.Name).Call(args)
		if got := results[len(results)-1].Interface(); got != any(want) {
			t.Errorf("%s: got error %v, want that of the observer", method.Name, got)
		}
		called = append(called, method.Name)
	}
	return called
}

func TestObserve(t *testing.T) {
	refused := errors.New("refused")

	t.Run("each operation of both ports starts under its own name", func(t *testing.T) {
		recorder := &callRecorder{startErr: refused}

		called := callEveryMethod(t, reflect.TypeFor[queue.Service](),
			queue.ObserveService(&fixedService{}, recorder), refused)
		called = append(called, callEveryMethod(t, reflect.TypeFor[queue.Store](),
			queue.ObserveStore(fixedStore{}, recorder), refused)...)

		for i, name := range called {
			if got := recorder.calls[i].Op.Operation().Method; got != name {
				t.Errorf("%s starts as %s", name, got)
			}
		}
		if len(recorder.ended) > 0 {
			t.Error("a call that was refused at its start ended")
		}
	})

	t.Run("a call names its namespace, its object and its size", func(t *testing.T) {
		recorder := &callRecorder{startErr: refused}
		service := queue.ObserveService(&fixedService{}, recorder)
		store := queue.ObserveStore(fixedStore{}, recorder)

		_, _ = service.CreateTask(t.Context(), "mail", queue.TaskMeta{})
		_, _ = service.DeleteTasks(t.Context(), queue.Selection{IDs: []int64{1, 2}})
		_, _ = service.RetainTasks(t.Context(), queue.RetainRequest{Wait: 7})
		_, _ = store.CreateTasks(t.Context(), queue.Create{Namespace: "m", Tasks: make([]queue.NewTask, 3)})
		_, _ = store.Maintain(t.Context(), queue.ChoreRescue)

		want := []queue.Call{
			{Op: queue.OpCreateTask, Namespace: "n", Name: "mail"},
			{Op: queue.OpDeleteTasks, Namespace: "n", Count: 2},
			{Op: queue.OpRetainTasks, Namespace: "n", Wait: 7},
			{Op: queue.OpCreateTasks, Namespace: "m", Count: 3},
			{Op: queue.OpMaintain, Name: "rescue"},
		}
		if !reflect.DeepEqual(recorder.calls, want) {
			t.Errorf("got %+v", recorder.calls)
		}
	})

	t.Run("an answer passes with its error, and the end gets the error and the state", func(t *testing.T) {
		next := &fixedService{task: &queue.Task{ID: 1}, err: refused}
		recorder := &callRecorder{startedWithNumber: 9}

		task, err := queue.ObserveService(next, recorder).GetTask(t.Context(), 1)
		if task != next.task || !errors.Is(err, refused) {
			t.Errorf("got %v, %v", task, err)
		}
		if len(recorder.ended) != 1 || !errors.Is(recorder.ended[0], refused) {
			t.Errorf("ended with %v", recorder.ended)
		}
	})

	t.Run("an error of the end replaces the answer", func(t *testing.T) {
		next := &fixedService{task: &queue.Task{ID: 1}}

		task, err := queue.ObserveService(next, &callRecorder{endErr: refused}).GetTask(t.Context(), 1)
		if task != nil || !errors.Is(err, refused) {
			t.Errorf("got %v, %v", task, err)
		}
	})

	t.Run("the service of another namespace is observed too", func(t *testing.T) {
		recorder := &callRecorder{}

		other, err := queue.ObserveService(&fixedService{}, recorder).In("other")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = other.GetTask(t.Context(), 1)
		if len(recorder.calls) != 1 {
			t.Errorf("got %d calls", len(recorder.calls))
		}
	})

	t.Run("an observer costs no allocation of its own", func(t *testing.T) {
		service := queue.ObserveService(&fixedService{}, silentObserver{})
		store := queue.ObserveStore(fixedStore{}, silentObserver{})
		ctx := t.Context()

		allocations := testing.AllocsPerRun(100, func() {
			_, _ = service.GetTask(ctx, 1)
			_, _ = service.ReleaseTasks(ctx, nil)
			_, _ = store.HeartbeatTasks(ctx, "n", nil)
		})
		if allocations != 0 {
			t.Errorf("got %v allocations, want 0", allocations)
		}
	})
}
