package telemetry

import (
	"errors"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Buckets of the histograms.
var (
	// callBuckets are for calls: half a millisecond to ten seconds.
	callBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	// taskBuckets are for what happens to tasks: a millisecond to a day.
	taskBuckets = []float64{.001, .005, .01, .05, .1, .5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400}
	// batchBuckets are for numbers of tasks, up to queue.MaxBatch.
	batchBuckets = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000}
)

// meters are all metrics of a process, registered at once. The gauges that are read when scraped are in stats.go,
// pool.go and health.go.
type meters struct {
	tasks  *byQueue[taskMeters]
	worker *byQueue[workerMeters]

	store, service, runtime *callMeters

	leaseLost *prometheus.CounterVec // op
	// batch and workerBatch have the operations that take many tasks.
	batch       map[queue.Op]prometheus.Observer
	workerBatch map[queue.Op]prometheus.Observer

	pollsFound, pollsEmpty prometheus.Counter
	notifications          prometheus.Counter
	listening              atomic.Pointer[func() bool]
	listens                atomic.Int64

	chores       map[queue.Chore]*choreMeters
	ticks        *prometheus.CounterVec // result
	tickLateness prometheus.Histogram

	openCalls map[queue.Op]prometheus.Gauge

	heartbeatLag prometheus.Histogram

	http httpMeters

	auditFailures prometheus.Counter
	accessRefused *prometheus.CounterVec // action, reason
}

// taskMeters count the tasks of one queue.
type taskMeters struct {
	created, refused, retained, released, failed, retried, returned prometheus.Counter
	expired, rescued, quarantined, cancelled, revived, deleted      prometheus.Counter
	wait, endToEnd                                                  prometheus.Observer
	run                                                             struct{ released, failed, cancelled prometheus.Observer }
}

// workerMeters are of the handler of one queue.
type workerMeters struct {
	running       prometheus.Gauge
	leaseLost     prometheus.Counter
	run           map[queue.Outcome]prometheus.Observer
	wait, holding prometheus.Observer
	endToEnd      prometheus.Observer
}

// choreMeters are of one kind of background work.
type choreMeters struct {
	succeeded, failed, moved, faults prometheus.Counter
	seconds                          prometheus.Observer
	lag, lastSuccess                 prometheus.Gauge
}

// metricMaker makes metrics and registers them, and keeps the errors.
type metricMaker struct {
	reg  prometheus.Registerer
	errs []error
}

func (m *metricMaker) registerCollector(c prometheus.Collector) {
	m.errs = append(m.errs, m.reg.Register(c))
}

func (m *metricMaker) newCounters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registerCollector(v)
	return v
}

func (m *metricMaker) newCounter(name, help string) prometheus.Counter {
	return m.newCounters(name, help).WithLabelValues()
}

func (m *metricMaker) newGauges(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registerCollector(v)
	return v
}

func (m *metricMaker) newHistograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registerCollector(v)
	return v
}

func (m *metricMaker) newHistogram(name, help string, buckets []float64) prometheus.Histogram {
	v := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	m.registerCollector(v)
	return v
}

func newMeters(c config) (*meters, error) {
	mk := &metricMaker{reg: c.registry}
	m := &meters{
		tasks:   newTaskMeters(mk, c.maxQueues),
		worker:  newWorkerMeters(mk, c.maxQueues),
		store:   newCallMeters(mk, "store", "calls of the store"),
		service: newCallMeters(mk, "service", "operations of the service"),
		runtime: newCallMeters(mk, "worker", "calls that the worker runtime makes"),

		leaseLost:     mk.newCounters("pgqueue_lease_lost_total", "Heartbeats and releases refused because their token was stale.", "op"),
		notifications: mk.newCounter("pgqueue_notifications_total", "Hints of other processes that tasks became ready."),
		ticks:         mk.newCounters("pgqueue_ticks_total", "Ticks, by what became of them: task, skipped, delivered, returned, manual.", "result"),
		tickLateness:  mk.newHistogram("pgqueue_tick_lateness_seconds", "How long after their nominal time ticks fired.", taskBuckets),
		heartbeatLag:  mk.newHistogram("pgqueue_worker_heartbeat_lag_seconds", "How long after they were due heartbeats of workers were sent.", callBuckets),
		http:          newHTTPMeters(mk),
		accessRefused: mk.newCounters("pgqueue_access_refused_total",
			"Calls without a valid credential (unauthenticated) or without the right (permission_denied), by action.", "action", "reason"),
		auditFailures: mk.newCounter("pgqueue_audit_failures_total", "Entries of the audit that the store did not keep; the log has them."),
	}

	polls := mk.newCounters("pgqueue_polls_total", "Looks of the process for tasks, by whether there were any: found, empty.", "result")
	m.pollsFound, m.pollsEmpty = polls.WithLabelValues("found"), polls.WithLabelValues("empty")
	batch := mk.newHistograms("pgqueue_batch_tasks", "Tasks of one call of the store.", batchBuckets, "op")
	// All labels exist from the start: a series that begins with its first event shows no rate for it.
	m.batch = map[queue.Op]prometheus.Observer{}
	for _, op := range []queue.Op{queue.OpCreateTasks, queue.OpRetainTasks, queue.OpHeartbeatTasks, queue.OpReleaseTasks} {
		m.batch[op] = batch.WithLabelValues(op.Label())
	}

	batch = mk.newHistograms("pgqueue_worker_batch_tasks", "Tasks of one call of the worker runtime.", batchBuckets, "op")
	m.workerBatch = map[queue.Op]prometheus.Observer{}
	for _, op := range []queue.Op{queue.OpRetainTasks, queue.OpHeartbeatTasks, queue.OpReleaseTasks} {
		m.workerBatch[op] = batch.WithLabelValues(op.Label())
	}

	m.chores = newChoreMeters(mk)
	open := mk.newGauges("pgqueue_streams", "Open streams and parked calls by kind: events, ticks, await, retain.", "kind")
	m.openCalls = map[queue.Op]prometheus.Gauge{}
	for op, kind := range openCalls {
		m.openCalls[op] = open.WithLabelValues(kind)
	}

	mk.registerCollector(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pgqueue_listener_connected", Help: "1 while hints of other processes are heard, 0 while tasks are found by polling.",
	}, m.listenerConnected))
	mk.registerCollector(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pgqueue_log_lines_lost_total", Help: "Lines of the log that could not be written.",
	}, func() float64 { return float64(lostLines.Load()) }))
	info := mk.newGauges("pgqueue_build_info", "The program, always 1.", "version", "revision", "go_version")
	info.WithLabelValues(c.version, buildRevision(), runtime.Version()).Set(1)
	return m, errors.Join(mk.errs...)
}

func newTaskMeters(mk *metricMaker, most int) *byQueue[taskMeters] {
	count := func(name, help string) *prometheus.CounterVec {
		return mk.newCounters("pgqueue_tasks_"+name+"_total", help, "namespace", "queue")
	}

	var (
		created     = count("created", "Tasks created, those of ticks too.")
		refused     = count("refused", "Tasks that were not created because max_waiting of the queue was reached.")
		retained    = count("retained", "Times a task was retained.")
		released    = count("released", "Tasks that succeeded.")
		failed      = count("failed", "Tasks that failed for good.")
		retried     = count("retried", "Failed attempts, or expired leases, after which the task is tried again.")
		returned    = count("returned", "Times a task was handed back or snoozed.")
		expired     = count("expired", "Tasks that ended at their ttl.")
		rescued     = count("rescued", "Tasks taken back after their lease lapsed.")
		quarantined = count("quarantined", "Tasks that failed by lost leases alone; they are among the failed ones.")
		cancelled   = count("cancelled", "Tasks that ended cancelled.")
		revived     = count("revived", "Finished tasks that an operator made new again.")
		deleted     = count("deleted", "Tasks that an operator deleted.")

		wait = mk.newHistograms("pgqueue_task_wait_seconds", "From when a task was created or due, whichever was later, until it was retained.",
			taskBuckets, "namespace", "queue")
		run = mk.newHistograms("pgqueue_task_run_seconds", "From a finished task's last retain to its end, by how it ended.",
			taskBuckets, "namespace", "queue", "status")
		endToEnd = mk.newHistograms("pgqueue_task_end_to_end_seconds", "From a finished task's creation to its end, delays and retries included; of releases that ask for the task back.",
			taskBuckets, "namespace", "queue")
	)
	return newByQueue(most, func(namespace, name string) *taskMeters {
		t := &taskMeters{
			created: created.WithLabelValues(namespace, name), refused: refused.WithLabelValues(namespace, name), retained: retained.WithLabelValues(namespace, name),
			released: released.WithLabelValues(namespace, name), failed: failed.WithLabelValues(namespace, name),
			retried: retried.WithLabelValues(namespace, name), returned: returned.WithLabelValues(namespace, name),
			expired: expired.WithLabelValues(namespace, name), rescued: rescued.WithLabelValues(namespace, name),
			quarantined: quarantined.WithLabelValues(namespace, name),
			cancelled:   cancelled.WithLabelValues(namespace, name), revived: revived.WithLabelValues(namespace, name),
			deleted: deleted.WithLabelValues(namespace, name),
			wait:    wait.WithLabelValues(namespace, name), endToEnd: endToEnd.WithLabelValues(namespace, name),
		}
		t.run.released = run.WithLabelValues(namespace, name, string(queue.StatusReleased))
		t.run.failed = run.WithLabelValues(namespace, name, string(queue.StatusFailed))
		t.run.cancelled = run.WithLabelValues(namespace, name, string(queue.StatusCancelled))
		return t
	}, func(namespace, name string) {
		for _, v := range []*prometheus.CounterVec{
			created, refused, retained, released, failed, retried, returned, expired, rescued, quarantined, cancelled, revived, deleted,
		} {
			v.DeleteLabelValues(namespace, name)
		}
		for _, v := range []*prometheus.HistogramVec{wait, run, endToEnd} {
			v.DeletePartialMatch(prometheus.Labels{"namespace": namespace, "queue": name})
		}
	})
}

func newWorkerMeters(mk *metricMaker, most int) *byQueue[workerMeters] {
	var (
		running = mk.newGauges("pgqueue_worker_running_tasks", "Handlers running now.", "namespace", "queue")
		lost    = mk.newCounters("pgqueue_worker_lease_lost_total", "Tasks lost while held.", "namespace", "queue")
		run     = mk.newHistograms("pgqueue_worker_run_seconds", "How long handlers ran, by the outcome they returned.", taskBuckets,
			"namespace", "queue", "outcome")
		wait = mk.newHistograms("pgqueue_worker_wait_seconds", "How long retained tasks waited in the worker for their handler.", taskBuckets,
			"namespace", "queue")
		holding = mk.newHistograms("pgqueue_worker_lease_age_seconds", "How long tasks had been held when their handler returned.", taskBuckets,
			"namespace", "queue")
	)
	endToEnd := mk.newHistograms("pgqueue_worker_end_to_end_seconds", "From a task's creation to its handler's success, delays and retries included.",
		taskBuckets, "namespace", "queue")
	return newByQueue(most, func(namespace, name string) *workerMeters {
		w := &workerMeters{
			running: running.WithLabelValues(namespace, name), leaseLost: lost.WithLabelValues(namespace, name),
			wait: wait.WithLabelValues(namespace, name), holding: holding.WithLabelValues(namespace, name),
			endToEnd: endToEnd.WithLabelValues(namespace, name), run: map[queue.Outcome]prometheus.Observer{},
		}
		for _, o := range outcomes {
			w.run[o] = run.WithLabelValues(namespace, name, string(o))
		}
		return w
	}, nil) // a worker knows its queues from its start on, and never looks which ones are there
}

var outcomes = []queue.Outcome{
	queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent, queue.OutcomeHandBack, queue.OutcomeSnooze,
}

func newChoreMeters(mk *metricMaker) map[queue.Chore]*choreMeters {
	var (
		runs    = mk.newCounters("pgqueue_chore_runs_total", "Steps of background work, by result: ok, error.", "chore", "result")
		moved   = mk.newCounters("pgqueue_chore_moved_total", "Tasks, ticks or rows that background work dealt with.", "chore")
		faults  = mk.newCounters("pgqueue_chore_faults_total", "Tickers, tasks, queues or partitions that a step of background work passed over.", "chore")
		seconds = mk.newHistograms("pgqueue_chore_seconds", "How long a step of background work took.", callBuckets, "chore")
		lag     = mk.newGauges("pgqueue_chore_lag_seconds", "By how much the oldest thing that the last step dealt with was late.", "chore")
		last    = mk.newGauges("pgqueue_chore_last_success_timestamp_seconds", "When a step of background work last ended well; 0 = never.", "chore")
	)
	all := map[queue.Chore]*choreMeters{}
	for _, c := range queue.Chores() {
		name := string(c)
		all[c] = &choreMeters{
			succeeded: runs.WithLabelValues(name, "ok"), failed: runs.WithLabelValues(name, "error"), moved: moved.WithLabelValues(name),
			faults:  faults.WithLabelValues(name),
			seconds: seconds.WithLabelValues(name), lag: lag.WithLabelValues(name), lastSuccess: last.WithLabelValues(name),
		}
	}

	return all
}

// listenerConnected is 1 while a listener hears.
func (m *meters) listenerConnected() float64 {
	if hears := m.listening.Load(); hears != nil && (*hears)() {
		return 1
	}
	return 0
}

// buildRevision is the commit that the program was built from, where the build knows.
func buildRevision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "unknown"
}
