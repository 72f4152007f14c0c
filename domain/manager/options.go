package manager

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of the options.
const (
	DefaultPollInterval = time.Second
	DefaultCallTimeout  = 30 * time.Second
	DefaultTickHold     = time.Minute
	DefaultGatherBatch  = 1000
	// One call at a time: what comes while it runs makes the next one larger. Why not two: docs/adr/0006-single-calls.md.
	DefaultGatherCalls   = 1
	DefaultGatherWaiting = 100_000
	DefaultEventBuffer   = 4096
)

const (
	// maxGatherBytes bounds the payloads of one gathered call; a larger single call goes alone.
	maxGatherBytes = 8 << 20
	// fullCalls is how many full batches of a lane may be in flight at once: they gain nothing by waiting for company, and the
	// database works on one while the log of another is flushed.
	fullCalls = 3
	// gatherSpread is how many namespaces may use all their calls of a kind at the same time.
	gatherSpread = 4
)

// Option configures a Manager.
type Option interface{ apply(*config) error }

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

// Tracer is told of every operation. It must be safe for concurrent use.
type Tracer interface {
	// Start begins a span of the operation op, as "create task", in namespace. The operation runs with the context that
	// it returns, and ends by a call of the function with the operation's error.
	Start(ctx context.Context, op, namespace string) (context.Context, func(error))
}

// Gather bounds how single calls are gathered into Store calls, for each of create, retain, heartbeat and release.
// Zero fields mean the default.
type Gather struct {
	// MaxBatch is the most items of one Store call; a call that alone has more goes alone. Default 1000.
	MaxBatch int
	// MaxCalls is the most Store calls in flight of one namespace (of one set of queues for retains). Default 1: what comes
	// during a call makes the next one larger. Of calls for MaxBatch tasks or more there may be three. Over all namespaces four
	// times as many.
	MaxCalls int
	// MaxWaiting is the most callers waiting for Store calls, and the most parked ones: retains with a wait, awaits,
	// subscribers and ticker loops together. Beyond it KindUnavailable. Default 100,000.
	MaxWaiting int
	// MaxDelay holds a Store call back for more to join. Default 0: what arrives during one call leaves with the next.
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
	tickHold    time.Duration
	gather      Gather
	eventBuffer int
	background  bool
}

func newConfig(opts []Option) (config, error) {
	c := config{
		namespace: queue.DefaultNamespace, workers: runtime.GOMAXPROCS(0), workerName: defaultWorkerName(),
		log: slog.Default(), maxPayload: queue.DefaultMaxPayloadBytes, poll: DefaultPollInterval,
		callTimeout: DefaultCallTimeout, tickHold: DefaultTickHold,
		gather:      Gather{MaxBatch: DefaultGatherBatch, MaxCalls: DefaultGatherCalls, MaxWaiting: DefaultGatherWaiting},
		eventBuffer: DefaultEventBuffer, background: true,
	}
	for _, o := range opts {
		if err := o.apply(&c); err != nil {
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
	return option(func(c *config) (err error) {
		c.namespace, err = queue.NamespaceName(namespace)
		return err
	})
}

// WithWorkers sets how many tasks Run works at once for the registered workers of a namespace, 1 to 10,000. Default:
// GOMAXPROCS.
func WithWorkers(n int) Option {
	return option(func(c *config) error {
		c.workers = n
		return queue.CheckInt("workers", n, 1, queue.MaxBatch)
	})
}

// WithWorkerName names this process as a holder of tasks. Default: host name and process id.
func WithWorkerName(name string) Option {
	return option(func(c *config) error {
		c.workerName = name
		return queue.CheckWorker(name)
	})
}

// WithTracer has every operation traced.
func WithTracer(t Tracer) Option {
	return option(func(c *config) error { c.tracer = t; return nil })
}

// WithLogger sets where the manager tells of what no caller is told: failing background work. Default: slog.Default().
func WithLogger(l *slog.Logger) Option {
	return option(func(c *config) error {
		if l == nil {
			return queue.Invalid("logger", "a logger is required")
		}
		c.log = l
		return nil
	})
}

// WithMaxPayloadBytes bounds payloads and results, 2 bytes to 1 GiB. Default 1 MiB.
func WithMaxPayloadBytes(n int) Option {
	return option(func(c *config) error {
		c.maxPayload = n
		return queue.CheckInt("max_payload_bytes", n, len(queue.EmptyJSON), 1<<30)
	})
}

// WithPollInterval sets how late a hint may be missed: the longest sleep of whatever waits. 10 ms to 1 min, default 1 s.
func WithPollInterval(d time.Duration) Option {
	return option(func(c *config) error {
		c.poll = d
		return checkRange("poll_interval", d, 10*time.Millisecond, time.Minute)
	})
}

// WithCallTimeout bounds each Store call, 100 ms to 10 min. Default 30 s.
func WithCallTimeout(d time.Duration) Option {
	return option(func(c *config) error {
		c.callTimeout = d
		return checkRange("call_timeout", d, 100*time.Millisecond, 10*time.Minute)
	})
}

// WithTickHold bounds how long a tick's handler may run, 1 s to 1 h: its context ends then, and the tick goes to the
// next listener. Default 1 min.
func WithTickHold(d time.Duration) Option {
	return option(func(c *config) error {
		c.tickHold = d
		return checkRange("tick_hold", d, time.Second, time.Hour)
	})
}

// WithGather changes how single calls are gathered.
func WithGather(g Gather) Option {
	return option(func(c *config) error {
		for _, f := range []struct {
			field string
			to    *int
			n     int
			most  int
		}{
			{"gather.max_batch", &c.gather.MaxBatch, g.MaxBatch, queue.MaxBatch},
			{"gather.max_calls", &c.gather.MaxCalls, g.MaxCalls, 64},
			{"gather.max_waiting", &c.gather.MaxWaiting, g.MaxWaiting, 10_000_000},
		} {
			if f.n == 0 {
				continue
			}
			if err := queue.CheckInt(f.field, f.n, 1, f.most); err != nil {
				return err
			}
			*f.to = f.n
		}
		c.gather.MaxDelay = g.MaxDelay
		return checkRange("gather.max_delay", g.MaxDelay, 0, time.Second)
	})
}

// WithEventBuffer sets how many events a subscriber may be behind before it is ended with KindSlowReader, 1 to 1 M.
// Default 4096.
func WithEventBuffer(n int) Option {
	return option(func(c *config) error {
		c.eventBuffer = n
		return queue.CheckInt("event_buffer", n, 1, 1_000_000)
	})
}

// WithBackgroundWork says whether Run does the chores (promote, rescue, expire, prune, fold, tick). Default true.
func WithBackgroundWork(on bool) Option {
	return option(func(c *config) error { c.background = on; return nil })
}

func checkRange(field string, d, least, most time.Duration) error {
	if d < least || d > most {
		return queue.Invalid(field, fmt.Sprintf("a duration from %v to %v is needed, this is %v", least, most, d))
	}
	return nil
}
