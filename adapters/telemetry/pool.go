package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PoolStat is how a pool of connections is doing; *pgxpool.Stat is one.
type PoolStat interface {
	MaxConns() int32
	AcquiredConns() int32
	IdleConns() int32
	ConstructingConns() int32
	AcquireCount() int64
	EmptyAcquireCount() int64
	CanceledAcquireCount() int64
	EmptyAcquireWaitTime() time.Duration
}

var (
	descPoolMax      = prometheus.NewDesc("pgqueue_pool_max_connections", "The most connections that the pool opens.", nil, nil)
	descPoolConns    = prometheus.NewDesc("pgqueue_pool_connections", "Connections by state: acquired, idle, constructing.", []string{"state"}, nil)
	descPoolAcquires = prometheus.NewDesc("pgqueue_pool_acquires_total", "Acquires that got a connection.", nil, nil)
	descPoolEmpty    = prometheus.NewDesc("pgqueue_pool_empty_acquires_total", "Acquires that had to wait for a connection.", nil, nil)
	descPoolCanceled = prometheus.NewDesc("pgqueue_pool_canceled_acquires_total", "Acquires that ended with their caller's context.", nil, nil)
	descPoolWait     = prometheus.NewDesc("pgqueue_pool_wait_seconds_total", "Time that acquires waited for a connection.", nil, nil)
)

// WatchPool adds the metrics of a pool of connections. stat is called when scraped and must be quick.
func (t *Telemetry) WatchPool(stat func() PoolStat) error {
	if t.m == nil {
		return nil
	}
	return t.registry.Register(poolCollector(stat))
}

type poolCollector func() PoolStat

func (poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPoolMax, descPoolConns, descPoolAcquires, descPoolEmpty, descPoolCanceled, descPoolWait} {
		ch <- d
	}
}

func (stat poolCollector) Collect(ch chan<- prometheus.Metric) {
	st := stat()
	gauge := func(d *prometheus.Desc, v int32, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}

	count := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}

	gauge(descPoolMax, st.MaxConns())
	gauge(descPoolConns, st.AcquiredConns(), "acquired")
	gauge(descPoolConns, st.IdleConns(), "idle")
	gauge(descPoolConns, st.ConstructingConns(), "constructing")
	count(descPoolAcquires, float64(st.AcquireCount()))
	count(descPoolEmpty, float64(st.EmptyAcquireCount()))
	count(descPoolCanceled, float64(st.CanceledAcquireCount()))
	count(descPoolWait, st.EmptyAcquireWaitTime().Seconds())
}
