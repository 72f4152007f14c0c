// Package contender lets task queues play the same scripts through their public APIs, each with its best settings.
package contender

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// Queue is a contender.
type Queue interface {
	// Insert commits a batch with the queue's bulk call.
	Insert(ctx context.Context, batch []Task) error
	// InsertOne commits one task with the queue's single call.
	InsertOne(ctx context.Context, t Task) error
	// Work starts workers that call handle with each payload. It returns when the workers run.
	Work(ctx context.Context, handle func(Payload)) error
	// Completed returns the number of tasks with a committed end; a handled task alone does not count.
	Completed() int64
	// Close stops the workers and frees all resources.
	Close(ctx context.Context) error
}

// Task is a task to insert.
type Task struct {
	// Queue is the index of one of the plan's queues.
	Queue int
	// Group is the group that the task keeps the order of; "" = none.
	Group   string
	Payload Payload
	Delay   time.Duration
}

// Payload is the payload of a task.
type Payload struct {
	N int `json:"n"`
	// At is a time in nanoseconds of the player's own clock; 0 means that no script needs it.
	At  int64  `json:"at,omitempty"`
	Pad string `json:"pad,omitempty"`
}

// JSON returns the payload in JSON.
func (p Payload) JSON() json.RawMessage {
	if p.At == 0 && p.Pad == "" {
		return fmt.Appendf(nil, `{"n":%d}`, p.N)
	}
	if p.Pad == "" {
		return fmt.Appendf(nil, `{"n":%d,"at":%d}`, p.N, p.At)
	}
	return fmt.Appendf(nil, `{"n":%d,"at":%d,"pad":"%s"}`, p.N, p.At, p.Pad)
}

// pad returns text that fills a payload to about size bytes. Neither side can compress it to nothing.
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

// opener opens a queue in the database of p. With fresh it installs the schema. Otherwise it opens another instance
// beside the one that installed it.
type opener func(ctx context.Context, p plan.Plan, fresh bool) (Queue, error)

// openers are the contenders in Go.
var openers = map[string]opener{
	Ours:  openOurs,
	River: openRiver,
	Gue:   openGue,
	Raw:   openRaw,
}

// Names of the contenders in Go.
const (
	Ours  = "pgqueue"
	River = "River"
	Gue   = "gue"
	Raw   = "raw SQL"
)

// queueName returns the name of queue i.
func queueName(i int) string { return fmt.Sprintf("bench%d", i) }
