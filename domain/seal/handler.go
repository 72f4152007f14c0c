package seal

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// Handler returns next with clear payloads, and with sealed results when the codec has SealResults. It fits [worker.Worker]
// as Handle and Use take it.
//
// A task that does not open fails with an *Error, so with a kind of its own. When its bytes were changed or are not sealed
// it fails for good. An unknown or a wrong key, and a wrapper that does not answer, concern other tasks too: the task is
// tried again, and the worker pauses the queue after several of them, as after worker.Systemic.
func (c *Codec) Handler(next worker.Handler) worker.Handler {
	return worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
		place := placeOf(task, PurposeResult) // the handler may change its task
		clearText, err := c.openPayload(ctx, task)
		if err != nil {
			return nil, endOf(err)
		}
		task.Payload = clearText

		result, err := next.Work(ctx, task)
		if err != nil || result == nil || !c.options.sealResults {
			return result, err
		}
		encoded, err := queue.Marshal(result)
		if err != nil {
			return nil, worker.Permanent(err)
		}
		if len(encoded) == 0 {
			return nil, nil
		}
		return c.Seal(ctx, place, encoded)
	})
}

// openPayload opens the payload of a task, also one of a queue that AcceptFrom names.
func (c *Codec) openPayload(ctx context.Context, task *queue.Task) (json.RawMessage, error) {
	place := placeOf(task, PurposePayload)
	clearText, err := c.Open(ctx, place, task.Payload)
	failure, ok := errors.AsType[*Error](err)
	if !ok {
		return clearText, err
	}
	if failure.Reason == ReasonClear && c.options.acceptClear {
		return task.Payload, nil
	}

	if failure.Reason == ReasonChanged {
		for _, name := range c.options.acceptFrom {
			if place.Queue, ok = normalName(name); !ok {
				continue
			}
			if clearText, elsewhere := c.Open(ctx, place, task.Payload); elsewhere == nil {
				return clearText, nil
			}
		}
	}
	return nil, err
}

// normalName returns the name of a queue as tasks have it.
func normalName(name string) (string, bool) {
	normal, err := queue.QueueName(name)
	return normal, err == nil
}

// endOf returns err with its meaning for the task and for others.
func endOf(err error) error {
	failure, ok := errors.AsType[*Error](err)
	if ok && slices.Contains([]Reason{ReasonChanged, ReasonEnvelope, ReasonClear}, failure.Reason) {
		return worker.Permanent(err)
	}
	return worker.Systemic(err)
}

// Progress seals v and reports it as the progress of the handler of ctx, as worker.Progress does. Sealed it may have about
// 6 KiB.
func (c *Codec) Progress(ctx context.Context, v any) error {
	task := worker.TaskFrom(ctx)
	if task == nil {
		return worker.ErrNoTask
	}
	encoded, err := queue.Marshal(v)
	if err != nil {
		return queue.At("progress", err)
	}
	if len(encoded) == 0 {
		encoded = json.RawMessage("null")
	}
	sealed, err := c.Seal(ctx, placeOf(task, PurposeProgress), encoded)
	if err != nil {
		return err
	}
	return worker.Progress(ctx, sealed)
}
