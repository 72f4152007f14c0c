package seal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/seal"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// fakeService keeps the tasks of creates in memory, with the rule of keys.
type fakeService struct {
	queue.Service
	tasks []*queue.Task
}

func (f *fakeService) Namespace() string { return "default" }

func (f *fakeService) CreateTask(_ context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	for _, task := range f.tasks {
		if meta.Key != "" && task.Key == meta.Key {
			if !bytes.Equal(task.Payload, meta.Payload) {
				return nil, queue.ErrKeyReused
			}
			again := *task
			again.Replayed = true
			return &again, nil
		}
	}
	name, err := queue.QueueName(name)
	if err != nil {
		return nil, err
	}
	f.tasks = append(f.tasks, &queue.Task{
		ID: int64(len(f.tasks) + 1), Namespace: "default", Queue: name, Group: meta.Group, Key: meta.Key, Payload: meta.Payload,
	})
	task := *f.tasks[len(f.tasks)-1]
	return &task, nil
}

func (f *fakeService) CreateTasks(ctx context.Context, tasks []queue.NewTask) (created []*queue.Task, err error) {
	for _, t := range tasks {
		task, err := f.CreateTask(ctx, t.Queue, t.TaskMeta)
		if err != nil {
			return nil, err
		}
		created = append(created, task)
	}
	return created, nil
}

func (f *fakeService) GetTask(_ context.Context, id int64) (*queue.Task, error) {
	task := *f.tasks[id-1]
	return &task, nil
}

func (f *fakeService) AwaitTask(ctx context.Context, id int64, _ time.Duration) (*queue.Task, error) {
	return f.GetTask(ctx, id)
}

func (f *fakeService) ListTasks(_ context.Context, q queue.TaskQuery) (page queue.TaskPage, err error) {
	for _, task := range f.tasks {
		if q.Matches(task) {
			task := *task
			page.Tasks = append(page.Tasks, &task)
		}
	}
	return page, nil
}

func TestService(t *testing.T) {
	store := &fakeService{}
	codec := seal.New(&fakeKeys{names: []string{"k1"}}, seal.SealResults())
	svc := codec.Service(store)

	one, err := svc.CreateTask(t.Context(), " Mail ", queue.TaskMeta{Payload: clearText, Group: "g"})
	if err != nil || !bytes.Equal(one.Payload, clearText) || bytes.Contains(store.tasks[0].Payload, []byte("ann")) {
		t.Fatalf("got %+v, %v, stored %s", one, err, store.tasks[0].Payload)
	}
	many, err := svc.CreateTasks(t.Context(), []queue.NewTask{{Queue: "mail"}, {Queue: "mail", TaskMeta: queue.TaskMeta{Payload: clearText}}})
	if err != nil || string(many[0].Payload) != "{}" || !bytes.Equal(many[1].Payload, clearText) {
		t.Fatalf("got %v, %v", many, err)
	}

	// A worker opens the payload and seals the result.
	held := *store.tasks[0]
	rel := worker.Work(t.Context(), codec.Handler(worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
		if !bytes.Equal(task.Payload, clearText) {
			t.Errorf("the handler gets %s", task.Payload)
		}
		task.Group, task.Queue = "changed", "changed"
		return map[string]string{"sent": "ann"}, nil
	})), &held)
	if rel.Outcome != queue.OutcomeSuccess || bytes.Contains(rel.Result, []byte("ann")) {
		t.Fatalf("got %s %s", rel.Outcome, rel.Result)
	}
	progress, err := codec.Seal(t.Context(), seal.Place{Namespace: "default", Queue: "mail", Group: "g", Purpose: seal.PurposeProgress}, json.RawMessage(`50`))
	if err != nil {
		t.Fatal(err)
	}
	store.tasks[0].Result = rel.Result
	store.tasks[0].Progress = json.RawMessage(`{"progress":` + string(progress) + `,"log":[]}`)

	got, err := svc.GetTask(t.Context(), 1)
	awaited, err2 := svc.AwaitTask(t.Context(), 1, 0)
	page, err3 := svc.ListTasks(t.Context(), queue.TaskQuery{})
	if err := errors.Join(err, err2, err3); err != nil || len(page.Tasks) != 3 {
		t.Fatal(page, err)
	}
	for _, task := range []*queue.Task{got, awaited, page.Tasks[0]} {
		if !bytes.Equal(task.Payload, clearText) || string(task.Result) != `{"sent":"ann"}` || string(task.Progress) != `{"log":[],"progress":50}` {
			t.Errorf("got %s, %s, %s", task.Payload, task.Result, task.Progress)
		}
	}
	if _, ok := queue.ServiceAs[*fakeService](svc); !ok {
		t.Error("callers cannot find the service behind")
	}
}

// TestKeyOfSealedTask: a repeated create finds its task, also when the sealed bytes differ.
func TestKeyOfSealedTask(t *testing.T) {
	store := &fakeService{}
	for i, keys := range []*fakeKeys{{names: []string{"k1"}}, {names: []string{"k2", "k1"}}} {
		svc := seal.New(keys).Service(store) // as another process
		for range 2 {
			task, err := svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Key: "a", Payload: clearText})
			if err != nil || task.ID != 1 || !bytes.Equal(task.Payload, clearText) {
				t.Errorf("process %d: got %+v, %v", i, task, err)
			}
		}
		if _, err := svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Key: "a", Payload: json.RawMessage(`{"to":"bob"}`)}); !errors.Is(err, queue.ErrKeyReused) {
			t.Errorf("process %d: another payload: %v", i, err)
		}
	}
	if len(store.tasks) != 1 {
		t.Errorf("%d tasks", len(store.tasks))
	}
}

// TestWrongInput: a create is refused before it is sealed when the service could not see its fault.
func TestWrongInput(t *testing.T) {
	svc := seal.New(&fakeKeys{names: []string{"k1"}}).Service(&fakeService{})
	_, err := svc.CreateTasks(t.Context(), []queue.NewTask{{Queue: "mail"}, {Queue: "mail", TaskMeta: queue.TaskMeta{Payload: json.RawMessage("{")}}})
	if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), "tasks[1].payload") {
		t.Errorf("got %v", err)
	}
	if _, err := svc.CreateTask(t.Context(), "Bad name", queue.TaskMeta{}); queue.KindOf(err) != queue.KindInvalid {
		t.Errorf("got %v", err)
	}
}

// TestHandlerRefuses: a payload that does not open fails its task with a kind of its own, and never reaches the handler.
func TestHandlerRefuses(t *testing.T) {
	good := seal.New(&fakeKeys{names: []string{"k1"}})
	sealed := mustSeal(t, good)
	changed := slices.Concat(sealed[:len(sealed)-10], []byte("A"), sealed[len(sealed)-9:])
	for _, c := range []struct {
		name    string
		codec   *seal.Codec
		queue   string
		payload json.RawMessage
		outcome queue.Outcome
		reason  seal.Reason
	}{
		{"an unknown key", seal.New(&fakeKeys{names: []string{"k2"}}), "mail", sealed, queue.OutcomeFailure, seal.ReasonUnknownKey},
		{"a wrong key", seal.New(&fakeKeys{names: []string{"k1"}, salt: "x"}), "mail", sealed, queue.OutcomeFailure, seal.ReasonWrongKey},
		{"another queue", good, "other", sealed, queue.OutcomePermanent, seal.ReasonChanged},
		{"a changed payload", good, "mail", changed, queue.OutcomePermanent, seal.ReasonChanged},
		{"a clear payload", good, "mail", clearText, queue.OutcomePermanent, seal.ReasonClear},
		{"an envelope of another version", good, "mail", json.RawMessage(`{"$enc":{"v":2}}`), queue.OutcomePermanent, seal.ReasonEnvelope},
	} {
		task := &queue.Task{ID: 1, Namespace: "default", Queue: c.queue, Group: "g", Payload: c.payload}
		rel := worker.Work(t.Context(), c.codec.Handler(worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) {
			t.Errorf("%s: the handler was called", c.name)
			return nil, nil
		})), task)
		f := queue.FingerprintOf(rel.Result)
		if rel.Outcome != c.outcome || f.Kind != seal.ErrorKind || !strings.Contains(string(rel.Result), `"reason":"`+string(c.reason)+`"`) {
			t.Errorf("%s: got %s %s", c.name, rel.Outcome, rel.Result)
		}
	}

	down := seal.New(&fakeKeys{names: []string{"k1"}, fail: errors.New("down")})
	rel := worker.Work(t.Context(), down.Handler(nil), &queue.Task{Namespace: "default", Queue: "mail", Group: "g", Payload: sealed})
	if rel.Outcome != queue.OutcomeFailure || queue.FingerprintOf(rel.Result).Kind == seal.ErrorKind {
		t.Errorf("a wrapper that fails: got %s %s", rel.Outcome, rel.Result)
	}
}

// TestHandlerAccepts: clear payloads, and those of other queues, are worked when the codec allows it.
func TestHandlerAccepts(t *testing.T) {
	keys := &fakeKeys{names: []string{"k1"}}
	sealed := mustSeal(t, seal.New(keys))
	codec := seal.New(keys, seal.AcceptClear(), seal.AcceptFrom("other", "Mail"))
	for _, payload := range []json.RawMessage{sealed, clearText} {
		task := &queue.Task{Namespace: "default", Queue: "dead", Group: "g", Payload: payload}
		rel := worker.Work(t.Context(), codec.Handler(worker.HandlerFunc(func(_ context.Context, task *queue.Task) (any, error) {
			if !bytes.Equal(task.Payload, clearText) {
				t.Errorf("got %s", task.Payload)
			}
			return "clear result", nil
		})), task)
		if rel.Outcome != queue.OutcomeSuccess || string(rel.Result) != `"clear result"` {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	}
}

// TestProgress: a handler reports sealed progress.
func TestProgress(t *testing.T) {
	codec := seal.New(&fakeKeys{names: []string{"k1"}})
	if err := codec.Progress(t.Context(), 1); !errors.Is(err, worker.ErrNoTask) {
		t.Errorf("got %v", err)
	}
	task := &queue.Task{Namespace: "default", Queue: "mail", Group: "g", Payload: mustSeal(t, codec)}
	worker.Work(t.Context(), codec.Handler(worker.HandlerFunc(func(ctx context.Context, _ *queue.Task) (any, error) {
		if err := codec.Progress(ctx, 50); err != nil {
			t.Error(err)
		}
		if err := codec.Progress(ctx, strings.Repeat("a", 8<<10)); queue.KindOf(err) != queue.KindTooLarge {
			t.Errorf("got %v", err)
		}
		return nil, nil
	})), task)
}
