package worker

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of the options.
const (
	// DefaultConcurrencyPerCPU times GOMAXPROCS is the default concurrency of a worker.
	DefaultConcurrencyPerCPU = 10
	// DefaultDrain is the time that running handlers have to end after a stop.
	DefaultDrain = 25 * time.Second
	// DefaultGrace is the time that handlers have to end after the drain ended their contexts.
	DefaultGrace = 3 * time.Second
	// DefaultWait is the time that a retain of an idle worker waits at the service. An idle worker takes up to this long
	// to stop.
	DefaultWait = 2 * time.Second
	// DefaultHeartbeat is the longest time between two heartbeats, and so until a handler learns of a cancel.
	DefaultHeartbeat = 10 * time.Second
)

// config holds the values of the options.
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
	maxTasks    int // 0 = no limit
	untilEmpty  bool
	idle        time.Duration
}

// Option configures a worker.
type Option func(*config)

// WithName sets the name under which the worker holds tasks: 1 to 255 bytes. Default: host, pid and four random hex
// digits, so that the names of two workers differ.
func WithName(name string) Option { return func(c *config) { c.name = name } }

// WithConcurrency sets the number of handlers that run at once over all queues without a [Concurrency] of their own.
func WithConcurrency(n int) Option { return func(c *config) { c.concurrency = n } }

// WithLease sets the length of leases in place of the queues' setting.
func WithLease(d time.Duration) Option { return func(c *config) { c.lease = d } }

// WithDrain sets the time that running handlers have to end after a stop; then their contexts end.
func WithDrain(d time.Duration) Option { return func(c *config) { c.drain = d } }

// WithGrace sets the time that handlers have after the drain ended their contexts; then the worker hands back their
// tasks.
func WithGrace(d time.Duration) Option { return func(c *config) { c.grace = d } }

// WithWait sets the time that a retain of an idle worker waits at the service for a task; at most queue.MaxWait. A stop
// lets such a retain end by itself, except WithInProcess. A cut could lose an answer under way, and its tasks would be
// held until their leases lapse. 0 makes the worker poll once a second.
func WithWait(d time.Duration) Option { return func(c *config) { c.wait = d } }

// WithInProcess states that a RetainTasks with an ended context holds no tasks beyond those that it returns, as that of
// a manager in process does. A stop then ends waiting retains at once.
func WithInProcess() Option { return func(c *config) { c.inProcess = true } }

// WithMaxTasks makes Run return nil after n tasks have been worked, however they end. The worker never holds more than
// remain of n. A task that it hands back does not count. 0 = no limit, which is the default.
func WithMaxTasks(n int) Option { return func(c *config) { c.maxTasks = n } }

// WithUntilEmpty makes Run return nil when no handler runs, all outcomes are recorded, and no queue has had a task to
// take for the time idle. Tasks with a delay and retries that wait do not count, nor does a queue that is not there. A
// queue that the worker has paused for a fault of its own keeps Run going. An idle of 0 ends Run at the first look that
// finds nothing. Run returns up to a second later. Run returns the error of the service when it refuses the retains, for want
// of a credential, a right or a right setting, or fails for a minute.
func WithUntilEmpty(idle time.Duration) Option {
	return func(c *config) { c.untilEmpty, c.idle = true, idle }
}

// WithHeartbeat sets the longest time between heartbeats; they come at a third of the lease when that is sooner.
func WithHeartbeat(d time.Duration) Option { return func(c *config) { c.heartbeat = d } }

// WithMaxResultBytes bounds a result. The worker replaces a longer one by its beginning. The bound must not exceed the
// limit of the service. Default: queue.DefaultMaxPayloadBytes.
func WithMaxResultBytes(n int) Option { return func(c *config) { c.maxResult = n } }

// WithLogger sets the logger of the runtime's few records: changes of the service's errors, and lost leases. Default:
// slog.Default().
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithObserver sends the events of the runtime to o.
func WithObserver(o Observer) Option { return func(c *config) { c.observer = o } }

// newConfig applies opts to the defaults.
func newConfig(opts []Option) config {
	c := config{
		concurrency: DefaultConcurrencyPerCPU * runtime.GOMAXPROCS(0),
		drain:       DefaultDrain, grace: DefaultGrace, wait: DefaultWait, heartbeat: DefaultHeartbeat,
		maxResult: queue.DefaultMaxPayloadBytes, log: slog.Default(),
	}

	for _, o := range opts {
		o(&c)
	}
	if c.name == "" {
		c.name = defaultName()
	}
	if c.observer == nil {
		c.observer = NoObserver{}
	}
	return c
}

// checkOptions reports the first option out of its bounds.
func (c *config) checkOptions() error {
	if err := cmp.Or(queue.CheckWorker(c.name), queue.CheckInt("concurrency", c.concurrency, 1, queue.MaxConcurrency)); err != nil {
		return err
	}
	if c.lease != 0 {
		if err := queue.CheckDuration("lease", c.lease, queue.MinLease); err != nil {
			return err
		}
	}

	if c.wait > queue.MaxWait {
		return queue.Invalid("wait", fmt.Sprintf("must be at most %v, got %v", queue.MaxWait, c.wait))
	}
	if c.heartbeat <= 0 {
		return queue.Invalid("heartbeat", fmt.Sprintf("must be a duration above 0, got %v", c.heartbeat))
	}
	if c.idle < 0 {
		return queue.Invalid("until_empty", fmt.Sprintf("must be a duration of 0 or more, got %v", c.idle))
	}
	if err := queue.CheckInt("max_tasks", c.maxTasks, 0, math.MaxInt32); err != nil {
		return err
	}
	return queue.CheckInt("max_result_bytes", c.maxResult, 1<<10, 1<<30)
}

// defaultName returns a name that differs from that of every other process on any machine.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "worker"
	}
	// At most 200 bytes of the host keep the name within 255. The random part separates containers with one host name
	// and pid.
	return fmt.Sprintf("%.200s-%d-%04x", host, os.Getpid(), rand.IntN(1<<16))
}

// QueueOption configures the work of one queue.
type QueueOption func(*queueConfig)

type queueConfig struct {
	// slots of the queue alone; 0 = it shares the worker's.
	slots int
}

// Concurrency gives a queue n slots of its own, beside the worker's. Such a bulkhead neither uses the slots of other
// queues nor shares its own.
func Concurrency(n int) QueueOption { return func(c *queueConfig) { c.slots = n } }
