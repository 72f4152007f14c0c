// Package contender lets task queues play the same scripts by their public APIs, each at its best settings.
package contender

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// Queue is a task queue that plays.
type Queue interface {
	// Insert commits a batch by the queue's bulk call.
	Insert(ctx context.Context, batch []Task) error
	// InsertOne commits one task by the queue's single call.
	InsertOne(ctx context.Context, t Task) error
	// Work starts workers that call handle with each payload. It returns when they are there.
	Work(ctx context.Context, handle func(Payload)) error
	// Completed is how many tasks are done for good: committed as such, not just handled.
	Completed() int64
	// Close stops the workers and gives everything back.
	Close(ctx context.Context) error
}

// Task to insert.
type Task struct {
	// Queue is which of the plan's queues.
	Queue   int
	Payload Payload
	Delay   time.Duration
}

// Payload of a task.
type Payload struct {
	N int `json:"n"`
	// At is a time in nanoseconds of the player's own clock; 0 when nobody wants it.
	At  int64  `json:"at,omitempty"`
	Pad string `json:"pad,omitempty"`
}

// JSON of the payload.
func (p Payload) JSON() json.RawMessage {
	if p.At == 0 && p.Pad == "" {
		return fmt.Appendf(nil, `{"n":%d}`, p.N)
	}
	if p.Pad == "" {
		return fmt.Appendf(nil, `{"n":%d,"at":%d}`, p.N, p.At)
	}
	return fmt.Appendf(nil, `{"n":%d,"at":%d,"pad":"%s"}`, p.N, p.At, p.Pad)
}

// pad fills a payload up to about size bytes with what neither side can compress to nothing.
func pad(size int) string {
	if size <= 40 {
		return ""
	}
	const some = "0123456789abcdefghijklmnopqrstuvwxyz"
	var b strings.Builder
	for seed := uint32(1); b.Len() < size-40; {
		seed = seed*1664525 + 1013904223
		b.WriteByte(some[seed>>16%uint32(len(some))])
	}
	return b.String()
}

// opener opens a queue in the database of p. fresh installs its schema; otherwise it is there, and the queue is another
// instance beside one that has installed it.
type opener func(ctx context.Context, p plan.Plan, fresh bool) (Queue, error)

// openers are the contenders that are written in Go.
var openers = map[string]opener{
	Ours:  openOurs,
	River: openRiver,
	Gue:   openGue,
	Raw:   openRaw,
}

// Names of the contenders that are written in Go.
const (
	Ours  = "pgqueue"
	River = "River"
	Gue   = "gue"
	Raw   = "raw SQL"
)

// queueName is the name of the ith queue.
func queueName(i int) string { return fmt.Sprintf("bench%d", i) }
