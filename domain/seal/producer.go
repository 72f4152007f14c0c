package seal

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Producer returns next with sealed payloads. It serves a producer in a transaction of the caller; others take
// [Codec.Service]. namespace is that of next.
func (c *Codec) Producer(next queue.Producer, namespace string) queue.Producer {
	return &producer{next: next, codec: c, namespace: namespace}
}

// producer seals the payloads of creates.
type producer struct {
	next      queue.Producer
	codec     *Codec
	namespace string
}

// CreateTask creates a task with a sealed payload. The answer has the clear one.
func (p *producer) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	clearText := meta.Payload
	if err := p.sealMeta(ctx, name, &meta); err != nil {
		return nil, queue.WithOp("create task", err)
	}
	task, err := p.next.CreateTask(ctx, name, meta)
	if err != nil {
		return nil, err
	}
	p.codec.showPayload(ctx, task, clearText)
	return task, nil
}

// CreateTasks creates tasks with sealed payloads. The answer has the clear ones.
func (p *producer) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	sealed := slices.Clone(tasks)
	for i := range sealed {
		if err := p.sealMeta(ctx, sealed[i].Queue, &sealed[i].TaskMeta); err != nil {
			return nil, queue.WithOp("create tasks", queue.At(fmt.Sprintf("tasks[%d]", i), err))
		}
	}
	created, err := p.next.CreateTasks(ctx, sealed)
	if err != nil {
		return nil, err
	}
	for i, task := range created {
		p.codec.showPayload(ctx, task, tasks[i].Payload)
	}
	return created, nil
}

// sealMeta seals the payload of a new task. The service would see a faulty payload no more, so it is checked here. A faulty
// name is left to the service.
func (p *producer) sealMeta(ctx context.Context, name string, meta *queue.TaskMeta) error {
	normal, ok := normalName(name)
	if !ok {
		return nil
	}
	if len(meta.Payload) == 0 {
		meta.Payload = queue.EmptyJSON
	} else if err := queue.CheckJSON("payload", meta.Payload, queue.DefaultMaxPayloadBytes); err != nil {
		return err
	}

	place := Place{Namespace: p.namespace, Queue: normal, Group: meta.Group, Purpose: PurposePayload}
	sealed, err := p.codec.seal(ctx, place, meta.Payload, meta.Key != "")
	if err != nil {
		return err
	}
	meta.Payload = sealed
	return nil
}

// showPayload sets the clear payload of a created task. A task that was there before has its own.
func (c *Codec) showPayload(ctx context.Context, task *queue.Task, clearText []byte) {
	if task == nil || len(task.Payload) == 0 {
		return
	}
	if !task.Replayed {
		if len(clearText) == 0 {
			clearText = queue.EmptyJSON
		}
		task.Payload = clearText
		return
	}
	c.openTask(ctx, task)
}
