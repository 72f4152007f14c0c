package manager

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TickTimeout bounds the run of a tick handler: then its context ends, and the tick goes to the next listener.
const TickTimeout = time.Minute

// Defaults of the options.
const (
	DefaultPollInterval = time.Second
	DefaultCallTimeout  = 30 * time.Second
	DefaultMaxBatch     = 1000
	// DefaultMaxCalls: the items that arrive during one call make the next one larger; see docs/adr/0006-single-calls.md.
	DefaultMaxCalls    = 1
	DefaultMaxWaiting  = 100_000
	DefaultEventBuffer = 4096
)

const (
	// maxBatchBytes bounds the payloads of one batch; a larger single call goes alone.
	maxBatchBytes = 8 << 20
	// maxFullCalls bounds the full batches of a namespace in flight: they gain nothing by waiting for more items, and the
	// database works on one while it flushes the log of another.
	maxFullCalls = 3
	// busyNamespaces is the number of namespaces that may use all their calls of a kind at the same time.
	busyNamespaces = 4
)

// Option configures a Manager.
type Option func(*config) error

// Tracer observes the operations of a Manager: those of [queue.Service], and those that only the Manager has, as NextTask.
// Of a call it gets the operation and the namespace; [queue.ObserveService] has the other fields too.
type Tracer = queue.Observer[any]

// Batching bounds how single calls are gathered into Store calls, for each of create, retain, heartbeat and release. Zero
// fields mean the default.
type Batching struct {
	// MaxBatch bounds the items of one Store call; a single call with more items goes alone. Default 1000.
	MaxBatch int
	// MaxCalls bounds the Store calls in flight of one namespace, and for retains of one queue set. Default 1: the items
	// that arrive during a call make the next one larger. Of calls for MaxBatch tasks or more there may be three. Over all
	// namespaces there may be four times as many.
	MaxCalls int
	// MaxWaiting bounds the callers that wait for Store calls, and the waiting callers of retains, awaits, subscriptions and
	// ticker loops together. Beyond it calls fail with KindUnavailable. Default 100,000.
	MaxWaiting int
	// MaxDelay holds a Store call back for more items to join. Default 0: the items that arrive during one call leave with
	// the next.
	MaxDelay time.Duration
}

type config struct {
	namespace   string
	workers     int
	workerName  string
	tracer      Tracer
	log         *slog.Logger
	maxPayload  int
	poll        time.Duration
	callTimeout time.Duration
	batching    Batching
	eventBuffer int
	background  bool
}

func configFromOptions(opts []Option) (config, error) {
	c := config{
		namespace: queue.DefaultNamespace, workers: runtime.GOMAXPROCS(0), workerName: defaultWorkerName(),
		log: slog.Default(), maxPayload: queue.DefaultMaxPayloadBytes, poll: DefaultPollInterval,
		callTimeout: DefaultCallTimeout,
		batching:    Batching{MaxBatch: DefaultMaxBatch, MaxCalls: DefaultMaxCalls, MaxWaiting: DefaultMaxWaiting},
		eventBuffer: DefaultEventBuffer, background: true,
	}
	for _, o := range opts {
		if err := o(&c); err != nil {
			return c, err
		}
	}
	return c, nil
}

func defaultWorkerName() string {
	host, err := os.Hostname()
	if err != nil || queue.CheckWorker(host) != nil || len(host) > queue.MaxWorkerBytes/2 {
		host = "worker"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// WithNamespace binds the manager to namespace instead of "default".
func WithNamespace(namespace string) Option {
	return func(c *config) (err error) {
		c.namespace, err = queue.NamespaceName(namespace)
		return err
	}
}

// WithWorkers sets the number of tasks that Run works at once for the registered workers of a namespace, 1 to 10,000.
// Default: GOMAXPROCS.
func WithWorkers(n int) Option {
	return func(c *config) error {
		c.workers = n
		return queue.CheckInt("workers", n, 1, queue.MaxBatch)
	}
}

// WithWorkerName names this process as a worker. Default: host name and process id.
func WithWorkerName(name string) Option {
	return func(c *config) error {
		c.workerName = name
		return queue.CheckWorker(name)
	}
}

// WithTracer has t observe every operation. Without it a call costs nothing more.
func WithTracer(t Tracer) Option { return func(c *config) error { c.tracer = t; return nil } }

// WithLogger sets the logger for errors that no caller gets, as of background work. Default: slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return queue.Invalid("logger", "must be a logger, got nil")
		}
		c.log = l
		return nil
	}
}

// WithMaxPayloadBytes bounds payloads and results, 2 bytes to 1 GiB. Default 1 MiB.
func WithMaxPayloadBytes(n int) Option {
	return func(c *config) error {
		c.maxPayload = n
		return queue.CheckInt("max_payload_bytes", n, len(queue.EmptyJSON), 1<<30)
	}
}

// WithPollInterval sets the longest sleep of a waiting caller, and so its delay after a missed wake-up. 10 ms to 1 min,
// default 1 s.
func WithPollInterval(d time.Duration) Option {
	return func(c *config) error {
		c.poll = d
		return checkDurationRange("poll_interval", d, 10*time.Millisecond, time.Minute)
	}
}

// WithCallTimeout bounds each Store call, 100 ms to 10 min. Default 30 s.
func WithCallTimeout(d time.Duration) Option {
	return func(c *config) error {
		c.callTimeout = d
		return checkDurationRange("call_timeout", d, 100*time.Millisecond, 10*time.Minute)
	}
}

// WithBatching changes how single calls are gathered.
func WithBatching(b Batching) Option {
	return func(c *config) error {
		for _, f := range []struct {
			field string
			to    *int
			value int
			limit int
		}{
			{"batching.max_batch", &c.batching.MaxBatch, b.MaxBatch, queue.MaxBatch},
			{"batching.max_calls", &c.batching.MaxCalls, b.MaxCalls, 64},
			{"batching.max_waiting", &c.batching.MaxWaiting, b.MaxWaiting, 10_000_000},
		} {
			if f.value == 0 {
				continue
			}
			if err := queue.CheckInt(f.field, f.value, 1, f.limit); err != nil {
				return err
			}
			*f.to = f.value
		}
		c.batching.MaxDelay = b.MaxDelay

		return checkDurationRange("batching.max_delay", b.MaxDelay, 0, time.Second)
	}
}

// WithEventBuffer bounds the unread events of a subscriber, 1 to 1 M; one with more gets KindSlowReader. Default 4096.
func WithEventBuffer(n int) Option {
	return func(c *config) error {
		c.eventBuffer = n
		return queue.CheckInt("event_buffer", n, 1, 1_000_000)
	}
}

// WithBackgroundWork says whether Run runs the background agents: promoter, rescuer, expirer, pruner, stats folder and tick
// firer. Default true.
func WithBackgroundWork(on bool) Option {
	return func(c *config) error { c.background = on; return nil }
}

func checkDurationRange(field string, d, least, most time.Duration) error {
	if d < least || d > most {
		return queue.Invalid(field, fmt.Sprintf("must be from %v to %v, got %v", least, most, d))
	}
	return nil
}
