package manager

import (
	"maps"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Callers may reuse their memory once their call has returned, and a caller whose context ends returns while its batch is in
// flight. So a batch is copied before it is sent, into memory that is used again: that costs 2 % of a create of 100 bytes and
// no allocation, where a copy for each caller cost one. Headers are maps and are cloned; a task without any pays nothing.

// memoryMost is the largest memory that is kept for the next batch.
const memoryMost = 1 << 20

var memories = sync.Pool{New: func() any { return new([]byte) }}

// copy makes b independent of its callers' memory. The memory that it returns is given back when the Store call is over.
func (g *gatherer[K, In, Out]) copy(b *batch[In, Out]) *[]byte {
	if g.own == nil {
		return nil
	}
	memory := memories.Get().(*[]byte)
	dst := (*memory)[:0]
	if cap(dst) < b.bytes {
		dst = make([]byte, 0, b.bytes)
	}
	for i := range b.in {
		dst = g.own(dst, &b.in[i])
	}
	*memory = dst
	return memory
}

func giveBack(memory *[]byte) {
	if memory != nil && cap(*memory) <= memoryMost {
		memories.Put(memory)
	}
}

// keep appends a copy of b to dst and points b at it.
func keep[B ~[]byte](dst []byte, b *B) []byte {
	if len(*b) == 0 {
		return dst
	}
	from := len(dst)
	dst = append(dst, *b...)
	*b = B(dst[from:len(dst):len(dst)])
	return dst
}

func ownTask(dst []byte, t *queue.NewTask) []byte {
	t.Headers = maps.Clone(t.Headers)
	return keep(dst, &t.Payload)
}

// putTask gives a new task the payload of its creator; one that was there has its own.
func putTask(c *queue.Created, t queue.NewTask) {
	if c.Err == nil && c.Task != nil && !c.Task.Replayed {
		c.Task.Payload, c.Task.Headers = t.Payload, t.Headers
	}
}

func ownRelease(dst []byte, r *queue.Release) []byte { return keep(dst, &r.Result) }

// putRelease gives a task that the call ended the result of its holder.
func putRelease(d *queue.Released, r queue.Release) {
	if d.Err == nil && d.Task != nil && !d.Replayed && len(r.Result) > 0 {
		d.Task.Result = r.Result
	}
}

func ownBeat(dst []byte, h *queue.Heartbeat) []byte { return keep(dst, &h.Progress) }
