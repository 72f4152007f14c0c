package run

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// telemetry is what lets operators look inside.
type telemetry struct {
	metrics http.Handler
	close   func(context.Context) error
}

// telemetry is the single place where it is put together.
func (s *Server) telemetry() telemetry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(&queueTasks{svc: s.manager})
	return telemetry{
		metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}),
		close:   func(context.Context) error { return nil },
	}
}

// queueTasksDesc is the predecessor's gauge.
var queueTasksDesc = prometheus.NewDesc("queue_tasks", "Tasks by namespace, queue and status.", []string{"namespace", "queue", "status"}, nil)

// queueTasks reads the counts that the store keeps; it scans no tasks.
type queueTasks struct{ svc queue.Service }

// Describe names the gauge.
func (*queueTasks) Describe(ch chan<- *prometheus.Desc) { ch <- queueTasksDesc }

// Collect reads every namespace.
func (q *queueTasks) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	names, err := q.svc.ListNamespaces(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(queueTasksDesc, err)
		return
	}
	for _, name := range names {
		if name == queue.SystemNamespace {
			continue
		}
		if err := q.collect(ctx, name, ch); err != nil {
			ch <- prometheus.NewInvalidMetric(queueTasksDesc, err)
			return
		}
	}
}

func (q *queueTasks) collect(ctx context.Context, namespace string, ch chan<- prometheus.Metric) error {
	svc, err := q.svc.In(namespace)
	if err != nil {
		return err
	}
	all, err := svc.ListQueueStatuses(ctx)
	if err != nil {
		return err
	}
	for _, st := range all {
		for status, n := range st.Counts {
			ch <- prometheus.MustNewConstMetric(queueTasksDesc, prometheus.GaugeValue, float64(n), namespace, st.Queue, string(status))
		}
	}
	return nil
}
