package manager

import (
	"maps"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Headers are maps and are cloned; a task without headers costs nothing.
func copyTaskMemory(dst []byte, t *queue.NewTask) []byte {
	t.Headers = maps.Clone(t.Headers)
	return batch.CopyBytes(dst, &t.Payload)
}

// restoreTask gives a new task the payload of its creator. A task that was there before keeps its own.
func restoreTask(c *queue.Created, t queue.NewTask) {
	if c.Err == nil && c.Task != nil && !c.Task.Replayed {
		c.Task.Payload, c.Task.Headers = t.Payload, t.Headers
	}
}

func copyRelease(dst []byte, r *queue.Release) []byte { return batch.CopyBytes(dst, &r.Result) }

// restoreRelease gives a task that the call ended the result of its worker.
func restoreRelease(d *queue.Released, r queue.Release) {
	if d.Err == nil && d.Task != nil && !d.Replayed && len(r.Result) > 0 {
		d.Task.Result = r.Result
	}
}

func copyHeartbeat(dst []byte, h *queue.Heartbeat) []byte { return batch.CopyBytes(dst, &h.Progress) }
