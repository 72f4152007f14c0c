package worker

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of the options.
const (
	// DefaultConcurrencyPerCPU times GOMAXPROCS is the concurrency of a worker that names none.
	DefaultConcurrencyPerCPU = 10
	// DefaultDrain is how long running handlers have to end after a stop.
	DefaultDrain = 25 * time.Second
	// DefaultGrace is how long they have after their context ended.
	DefaultGrace = 3 * time.Second
	// DefaultWait is how long an idle worker's retain waits at the service, and so how long an idle worker may take to
	// stop.
	DefaultWait = 2 * time.Second
	// DefaultHeartbeat is the longest time between two heartbeats, and so until a handler hears of a cancel.
	DefaultHeartbeat = 10 * time.Second
)

// config is what the options say.
type config struct {
	name        string
	concurrency int
	lease       time.Duration
	drain       time.Duration
	grace       time.Duration
	wait        time.Duration
	heartbeat   time.Duration
	maxResult   int
	log         *slog.Logger
	observer    Observer
	inProcess   bool
}

// Option configures a worker.
type Option interface{ apply(*config) }

type option func(*config)

func (o option) apply(c *config) { o(c) }

// WithName names the holder of the tasks, as the contract's worker: 1 to 255 bytes. Default: host, pid and a few random
// letters, so that every Run can be told apart.
func WithName(name string) Option { return option(func(c *config) { c.name = name }) }

// WithConcurrency is how many handlers run at once over all queues without a [Concurrency] of their own.
func WithConcurrency(n int) Option { return option(func(c *config) { c.concurrency = n }) }

// WithLease overrides the queues' lease.
func WithLease(d time.Duration) Option { return option(func(c *config) { c.lease = d }) }

// WithDrain is how long running handlers have to end after a stop; then their contexts end.
func WithDrain(d time.Duration) Option { return option(func(c *config) { c.drain = d }) }

// WithGrace is how long handlers have after the drain ended their contexts; then their tasks are handed back.
func WithGrace(d time.Duration) Option { return option(func(c *config) { c.grace = d }) }

// WithWait is how long a retain of an idle worker waits at the service for a task; at most queue.MaxWait. A stop lets it
// end by itself, unless WithInProcess: cut short, an answer on its way would be lost, and its tasks held until their
// leases are over. 0 makes the worker poll once a second.
func WithWait(d time.Duration) Option { return option(func(c *config) { c.wait = d }) }

// WithInProcess says that a RetainTasks whose context ends holds nothing that it does not return, as that of a manager in
// process: a stop then ends waiting retains at once.
func WithInProcess() Option { return option(func(c *config) { c.inProcess = true }) }

// WithHeartbeat is the longest time between heartbeats; they come at a third of the lease when that is sooner.
func WithHeartbeat(d time.Duration) Option { return option(func(c *config) { c.heartbeat = d }) }

// WithMaxResultBytes bounds a result; one that is longer is replaced by its beginning. It must not be above the
// service's own limit. Default: queue.DefaultMaxPayloadBytes.
func WithMaxResultBytes(n int) Option { return option(func(c *config) { c.maxResult = n }) }

// WithLogger takes the runtime's few log records: errors of the service when they change, lost leases. Default:
// slog.Default().
func WithLogger(l *slog.Logger) Option { return option(func(c *config) { c.log = l }) }

// WithObserver reports to o.
func WithObserver(o Observer) Option { return option(func(c *config) { c.observer = o }) }

func newConfig(opts []Option) config {
	c := config{
		concurrency: DefaultConcurrencyPerCPU * runtime.GOMAXPROCS(0),
		drain:       DefaultDrain, grace: DefaultGrace, wait: DefaultWait, heartbeat: DefaultHeartbeat,
		maxResult: queue.DefaultMaxPayloadBytes, log: slog.Default(),
	}
	for _, o := range opts {
		o.apply(&c)
	}
	if c.name == "" {
		c.name = defaultName()
	}
	return c
}

func (c *config) checkOptions() error {
	if err := queue.CheckWorker(c.name); err != nil {
		return err
	}
	if err := queue.CheckInt("concurrency", c.concurrency, 1, queue.MaxConcurrency); err != nil {
		return err
	}
	if c.lease != 0 {
		if err := queue.CheckDuration("lease", c.lease, queue.MinLease); err != nil {
			return err
		}
	}
	if c.wait > queue.MaxWait {
		return queue.Invalid("wait", fmt.Sprintf("at most %v, this is %v", queue.MaxWait, c.wait))
	}
	if c.heartbeat <= 0 {
		return queue.Invalid("heartbeat", "a duration above 0 is needed")
	}
	return queue.CheckInt("max_result_bytes", c.maxResult, 1<<10, 1<<30)
}

// defaultName tells this process from every other on any machine.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "worker"
	}
	return fmt.Sprintf("%.200s-%d-%04x", host, os.Getpid(), rand.IntN(1<<16))
}

// QueueOption configures how a queue is worked.
type QueueOption interface{ applyQueue(*queueConfig) }

type queueConfig struct {
	// slots of the queue's own; 0 = it shares the worker's.
	slots int
}

type queueOption func(*queueConfig)

func (o queueOption) applyQueue(c *queueConfig) { o(c) }

// Concurrency gives a queue n slots of its own, beside the worker's: a bulkhead, it neither takes the slots of others
// nor lends its own.
func Concurrency(n int) QueueOption { return queueOption(func(c *queueConfig) { c.slots = n }) }
