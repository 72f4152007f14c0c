package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Service returns next with sealed creates and opened reads: CreateTask and CreateTasks seal payloads; GetTask, AwaitTask
// and ListTasks open payloads, results and progress. A part that does not open, or is clear, stays as it is. Retains give
// sealed tasks, which [Codec.Handler] opens. Payloads of tickers stay clear.
//
// When a create finds its key with other sealed bytes, the service reads the task that has the key, and compares clear payloads. This
// needs the right to read payloads, and works for CreateTask alone.
func (c *Codec) Service(next queue.Service) queue.Service {
	return &service{Service: next, codec: c, producer: producer{next: next, codec: c, namespace: next.Namespace()}}
}

// service is a Service with sealed payloads.
type service struct {
	queue.Service
	codec    *Codec
	producer producer
}

var _ queue.Service = (*service)(nil)

// Unwrap returns the service behind, which has the optional interfaces. None of them has payloads.
func (s *service) Unwrap() queue.Service { return s.Service }

// In binds the service to another namespace.
func (s *service) In(namespace string) (queue.Service, error) {
	next, err := s.Service.In(namespace)
	if err != nil {
		return nil, err
	}
	return s.codec.Service(next), nil
}

// CreateTask seals the payload.
func (s *service) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	task, err := s.producer.CreateTask(ctx, name, meta)
	if meta.Key == "" || !errors.Is(err, queue.ErrKeyReused) {
		return task, err
	}
	if there := s.findEqual(ctx, name, meta); there != nil {
		return there, nil
	}
	return nil, err
}

// findEqual returns the task that has the key of meta when its clear payload is that of meta, else nil.
func (s *service) findEqual(ctx context.Context, name string, meta queue.TaskMeta) *queue.Task {
	page, err := s.ListTasks(ctx, queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: name, Key: meta.Key}, Page: queue.Page{Limit: 1}})
	if err != nil || len(page.Tasks) != 1 {
		return nil
	}
	task := page.Tasks[0]
	payload := meta.Payload
	if len(payload) == 0 {
		payload = queue.EmptyJSON
	}
	if !equalJSON(task.Payload, payload) {
		return nil
	}
	task.Replayed = true
	return task
}

// equalJSON reports whether two JSON texts are the same but for spaces.
func equalJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// CreateTasks seals the payloads.
func (s *service) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	return s.producer.CreateTasks(ctx, tasks)
}

// GetTask opens the task.
func (s *service) GetTask(ctx context.Context, id int64) (*queue.Task, error) {
	task, err := s.Service.GetTask(ctx, id)
	if err == nil {
		s.codec.openTask(ctx, task)
	}
	return task, err
}

// AwaitTask opens the task.
func (s *service) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	task, err := s.Service.AwaitTask(ctx, id, wait)
	if err == nil {
		s.codec.openTask(ctx, task)
	}
	return task, err
}

// ListTasks opens the tasks of the page.
func (s *service) ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	page, err := s.Service.ListTasks(ctx, q)
	if err == nil {
		for _, task := range page.Tasks {
			s.codec.openTask(ctx, task)
		}
	}
	return page, err
}

// openTask opens the parts of a task that open.
func (c *Codec) openTask(ctx context.Context, task *queue.Task) {
	if clearText, err := c.openPayload(ctx, task); err == nil {
		task.Payload = clearText
	}
	if clearText, err := c.Open(ctx, placeOf(task, PurposeResult), task.Result); err == nil {
		task.Result = clearText
	}
	if progress, ok := c.openProgress(ctx, task); ok {
		task.Progress = progress
	}
}

// openProgress opens the value in the document that a worker keeps as progress, and leaves its log lines.
func (c *Codec) openProgress(ctx context.Context, task *queue.Task) (json.RawMessage, bool) {
	var document map[string]json.RawMessage
	if len(task.Progress) == 0 || json.Unmarshal(task.Progress, &document) != nil || document["progress"] == nil {
		return nil, false
	}
	clearText, err := c.Open(ctx, placeOf(task, PurposeProgress), document["progress"])
	if err != nil {
		return nil, false
	}
	document["progress"] = clearText
	encoded, err := json.Marshal(document)
	return encoded, err == nil
}
