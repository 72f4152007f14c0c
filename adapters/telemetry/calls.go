package telemetry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// op is an operation of a port, the label op of its metrics.
type op int

const (
	opCreateTask op = iota
	opCreateTasks
	opRetainTasks
	opCreateAndRetain
	opHeartbeatTasks
	opReleaseTasks
	opGetTasks
	opListTasks
	opCancelTasks
	opRetryTasks
	opDeleteTasks
	opAwaitTask
	opListWorkers
	opCreateQueue
	opRegisterQueue
	opGetQueue
	opListQueues
	opUpdateQueue
	opDeleteQueue
	opCleanQueue
	opQueueStats
	opListNamespaces
	opCreateTicker
	opRegisterTicker
	opGetTicker
	opListTickers
	opUpdateTicker
	opDeleteTicker
	opPreviewTicker
	opRunTicker
	opListTicks
	opTakeTicks
	opSettleTicks
	opTickerLoop
	opListEvents
	opLastEvent
	opSubscribeEvents
	opPing
	opMaintain
	opListen
	opCount
)

var opNames = [opCount]string{
	opCreateTask: "create_task", opCreateTasks: "create_tasks", opRetainTasks: "retain_tasks", opCreateAndRetain: "create_and_retain", opHeartbeatTasks: "heartbeat_tasks",
	opReleaseTasks: "release_tasks", opGetTasks: "get_tasks", opListTasks: "list_tasks", opCancelTasks: "cancel_tasks",
	opRetryTasks: "retry_tasks", opDeleteTasks: "delete_tasks", opAwaitTask: "await_task", opListWorkers: "list_workers",
	opCreateQueue: "create_queue", opRegisterQueue: "register_queue", opGetQueue: "get_queue", opListQueues: "list_queues",
	opUpdateQueue: "update_queue", opDeleteQueue: "delete_queue", opCleanQueue: "clean_queue", opQueueStats: "queue_stats",
	opListNamespaces: "list_namespaces", opCreateTicker: "create_ticker", opRegisterTicker: "register_ticker",
	opGetTicker: "get_ticker", opListTickers: "list_tickers", opUpdateTicker: "update_ticker", opDeleteTicker: "delete_ticker",
	opPreviewTicker: "preview_ticker", opRunTicker: "run_ticker", opListTicks: "list_ticks", opTakeTicks: "take_ticks",
	opSettleTicks: "settle_ticks", opTickerLoop: "run_ticker_loop", opListEvents: "list_events", opLastEvent: "last_event",
	opSubscribeEvents: "subscribe_events", opPing: "ping", opMaintain: "maintain", opListen: "listen",
}

func (o op) String() string { return opNames[o] }

// calls times the calls of a layer and counts their errors by kind.
type calls struct {
	seconds *prometheus.HistogramVec
	errors  *prometheus.CounterVec
	of      [opCount]atomic.Pointer[prometheus.Observer]
}

func newCalls(mk *maker, layer, what string) *calls {
	return &calls{
		seconds: mk.histograms("pgqueue_"+layer+"_call_seconds", "How long "+what+" took, by operation. Those that wait, wait in it.", callBuckets, "op"),
		errors:  mk.counters("pgqueue_"+layer+"_errors_total", "Errors of "+what+", by operation and kind.", "op", "kind"),
	}
}

// done notes a call of o that took took and ended with err. What the caller ended himself is no error.
func (c *calls) done(o op, took time.Duration, err error) {
	seconds := c.of[o].Load()
	if seconds == nil {
		obs := c.seconds.WithLabelValues(o.String())
		seconds = &obs
		c.of[o].Store(seconds)
	}
	(*seconds).Observe(took.Seconds())
	c.failed(o, err)
}

// failed counts an error; nil is none.
func (c *calls) failed(o op, err error) {
	if err == nil {
		return
	}
	if k := queue.KindOf(err); k != queue.KindCanceled {
		c.errors.WithLabelValues(o.String(), string(k)).Inc()
	}
}

// within begins a span inside a trace that is being recorded, or that links say of; else there is none (nil).
func (t *Telemetry) within(ctx context.Context, layer string, o op, namespace string, links []trace.Link) (context.Context, trace.Span) {
	if t.tracer == nil || len(links) == 0 && !recorded(ctx) {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, layer+" "+o.String(), trace.WithLinks(links...))
	if span.IsRecording() {
		span.SetAttributes(keyOperation.String(o.String()))
		if namespace != "" {
			span.SetAttributes(keyNamespace.String(namespace))
		}
	}
	return ctx, span
}

// end ends a span that may be nil.
func end(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		failed(span, err)
	}
	span.End()
}

// failed marks a span by the kind of err alone.
func failed(span trace.Span, err error) {
	kind := string(queue.KindOf(err))
	span.SetStatus(codes.Error, kind)
	span.SetAttributes(attrError(kind))
}

var epoch = time.Now()

// stopwatch reads the monotonic clock alone: half the price of time.Now, and there are many reads on the hot path.
func stopwatch() time.Duration { return time.Since(epoch) }
