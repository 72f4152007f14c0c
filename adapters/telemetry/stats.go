package telemetry

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Gauges that the store keeps. They are of the whole store, not of this process: with several processes scraped, take
// the max over them, never the sum.
var (
	descTasks = prometheus.NewDesc("queue_tasks", "Tasks by namespace, queue and status.", []string{"namespace", "queue", "status"}, nil)
	descReady = prometheus.NewDesc("pgqueue_queue_ready_tasks", "Tasks that could be retained now.", []string{"namespace", "queue"}, nil)
	descLater = prometheus.NewDesc("pgqueue_queue_delayed_tasks", "Tasks that wait for their time.", []string{"namespace", "queue"}, nil)
	descAge   = prometheus.NewDesc("pgqueue_queue_oldest_ready_age_seconds", "How long the task that is ready the longest has been so; 0 when none is.",
		[]string{"namespace", "queue"}, nil)
	descHeldUp = prometheus.NewDesc("pgqueue_queue_held_up_tasks",
		"Tasks that are due and that a setting keeps from starting: a limit of their group, the concurrency or the pause of the queue; absent = none.",
		[]string{"namespace", "queue", "reason"}, nil)
	descPaused  = prometheus.NewDesc("pgqueue_queue_paused", "1 while the queue is paused.", []string{"namespace", "queue"}, nil)
	descWanted  = prometheus.NewDesc("pgqueue_queue_wanted_slots", "Slots of workers that the queue has work for, to work off its ready tasks within 30 s.", []string{"namespace", "queue"}, nil)
	descUp      = prometheus.NewDesc("pgqueue_stats_up", "1 when the last reading of the queues' stats went well.", nil, nil)
	descSeconds = prometheus.NewDesc("pgqueue_stats_seconds", "How long the last reading of the queues' stats took.", nil, nil)
	descCell    = prometheus.NewDesc("pgqueue_cell_up", "1 when the cell can work; only with cells.", []string{"cell"}, nil)
	descQueues  = prometheus.NewDesc("pgqueue_queues", "Queues of all namespaces.", nil, nil)
)

// WatchQueues adds queue_tasks and the other gauges of every queue. They are read from the counts that the store keeps,
// when scraped, at most once in the time of WithStatsAge however many scrape; no task is looked at. When the store does
// not answer in time the gauges are missing and pgqueue_stats_up is 0; other metrics are served all the same.
func (t *Telemetry) WatchQueues(s queue.Store) error {
	if t.m == nil {
		return nil
	}

	for { // a scrape must not count as calls of the program
		u, ok := s.(interface{ withoutTelemetry() queue.Store })
		if !ok {
			break
		}
		s = u.withoutTelemetry()
	}

	c := &statsCollector{store: s, cfg: t.cfg, tasks: t.m.tasks}
	c.lister, _ = queue.StoreAs[queue.StatsLister](s)
	return t.registry.Register(c)
}

// statsCollector turns the stats of all queues into gauges.
type statsCollector struct {
	store  queue.Store
	lister queue.StatsLister // nil where the store is not one
	cfg    config
	tasks  *byQueue[taskMeters]

	mu      sync.Mutex
	read    time.Time // when metrics was made
	metrics []prometheus.Metric
}

func (c *statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTasks, descReady, descLater, descAge, descHeldUp, descPaused, descWanted, descUp, descSeconds, descCell, descQueues} {
		ch <- d
	}
}

func (c *statsCollector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.freshMetrics() {
		ch <- m
	}
}

// freshMetrics gives the metrics of a reading that is not too old. Scrapes that come during one wait for it.
func (c *statsCollector) freshMetrics() []prometheus.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	start := time.Now()
	// Several scrapers share a reading; those that come during it wait for mu and then find it fresh.
	if c.metrics != nil && start.Sub(c.read) < c.cfg.statsAge {
		return c.metrics
	}

	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.statsTimeout)
	defer cancel()

	// The cells are read beside the stats, in a time of their own: they name the cell that holds up the stats.
	var cells []queue.CellStatus
	var areAllUp bool
	// Side by side, because a cell that is down uses up its timeout.
	var look sync.WaitGroup
	look.Go(func() { cells, areAllUp = c.readCells() })

	// A scrape must not fail with the store: its other metrics show the reason.
	all, err := c.readAllStats(ctx)
	took, up := time.Since(start), 1.0
	look.Wait()
	if err != nil {
		all, up = nil, 0
	} else {
		there := make(map[queueKey]bool, len(all))
		for _, st := range all {
			there[queueKey{st.Namespace, st.Queue}] = true
		}
		if areAllUp { // else the counters of queues in a cell that is down would begin again at 0
			c.tasks.keepOnly(there)
		}
		c.tasks.addQueues(there)
	}

	c.metrics = append(c.queueGauges(all),
		prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, up),
		prometheus.MustNewConstMetric(descSeconds, prometheus.GaugeValue, took.Seconds()))
	if err == nil {
		c.metrics = append(c.metrics, prometheus.MustNewConstMetric(descQueues, prometheus.GaugeValue, float64(len(all))))
	}

	c.metrics = append(c.metrics, cellGauges(cells)...)
	c.read = time.Now()
	return c.metrics
}

// readCells reads the state of the cells, and says whether all of them can work; a store without cells has none.
func (c *statsCollector) readCells() (all []queue.CellStatus, areAllUp bool) {
	lister, ok := queue.StoreAs[queue.CellLister](c.store)
	if !ok {
		return nil, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.statsTimeout)
	defer cancel()
	all, err := lister.ListCells(ctx)
	if err != nil {
		return nil, false
	}
	return all, !slices.ContainsFunc(all, func(cell queue.CellStatus) bool { return cell.Err != nil })
}

// cellGauges makes the metrics of the cells.
func cellGauges(all []queue.CellStatus) []prometheus.Metric {
	out := make([]prometheus.Metric, len(all))
	for i, cell := range all {
		up := 1.0
		if cell.Err != nil {
			up = 0
		}
		out[i] = prometheus.MustNewConstMetric(descCell, prometheus.GaugeValue, up, strconv.Itoa(cell.ID))
	}
	return out
}

// readAllStats reads the stats of every queue of every namespace.
func (c *statsCollector) readAllStats(ctx context.Context) ([]*queue.QueueStats, error) {
	if c.lister != nil {
		return c.lister.AllQueueStats(ctx)
	}

	names, err := c.store.ListNamespaces(ctx)
	if err != nil {
		return nil, err
	}

	var all []*queue.QueueStats
	for _, n := range names {
		some, err := c.store.QueueStats(ctx, n, "")
		// A namespace may be deleted between the list and this call.
		if err != nil && !errors.Is(err, queue.ErrNotFound) {
			return nil, err
		}
		all = append(all, some...)
	}

	return all, nil
}

// queueGauges makes the metrics of the queues; those beyond the limit are added up.
func (c *statsCollector) queueGauges(all []*queue.QueueStats) []prometheus.Metric {
	statuses := queue.Statuses()
	byStatus := make([]*dto.LabelPair, len(statuses))
	for i, s := range statuses {
		byStatus[i] = labelPair("status", string(s))
	}

	// 5 gauges beside those by status; the room is for queues that nothing holds up.
	out := make([]prometheus.Metric, 0, (len(statuses)+5)*min(len(all), c.cfg.maxGaugeQueues+1)+3)
	one := func(st *queue.QueueStats, wanted float64) {
		labels := []*dto.LabelPair{labelPair("namespace", st.Namespace), labelPair("queue", st.Queue)}
		add := func(d *prometheus.Desc, v float64) { out = append(out, &gauge{d, labels, v}) }
		for i, s := range statuses {
			out = append(out, &gauge{descTasks, []*dto.LabelPair{labels[0], labels[1], byStatus[i]}, float64(st.Counts[s])})
		}
		add(descReady, float64(st.Ready))
		add(descLater, float64(st.Delayed))
		add(descAge, st.OldestReadyAge.Seconds())
		for reason, n := range heldUpTasks(st) {
			if n > 0 {
				out = append(out, &gauge{descHeldUp, []*dto.LabelPair{labels[0], labels[1], labelPair("reason", reason)}, float64(n)})
			}
		}
		add(descPaused, boolToFloat(st.Paused))
		add(descWanted, wanted)
	}

	if len(all) <= c.cfg.maxGaugeQueues {
		for _, st := range all {
			one(st, queue.ScaleQueues(queue.DefaultScaleWithin, st).Slots)
		}
		return out
	}

	// The rest is paused only if each of its queues is, so the sum starts as true.
	rest := &queue.QueueStats{Namespace: Other, Queue: Other, Counts: map[queue.Status]int64{}, Paused: true}
	restWanted := 0.0
	for i, st := range all {
		wanted := queue.ScaleQueues(queue.DefaultScaleWithin, st).Slots
		if i < c.cfg.maxGaugeQueues {
			if st.Namespace != Other || st.Queue != Other { // that one is among the rest
				one(st, wanted)
				continue
			}
		}
		for s, n := range st.Counts {
			rest.Counts[s] += n
		}
		restWanted += wanted
		rest.Ready += st.Ready
		rest.Delayed += st.Delayed
		rest.GroupWaiting += st.GroupWaiting
		rest.OldestReadyAge = max(rest.OldestReadyAge, st.OldestReadyAge)
		rest.Paused = rest.Paused && st.Paused
	}

	one(rest, restWanted)
	return out
}

// heldUpTasks returns how many due tasks of a queue may not start, by reason. A rate shows in the tasks retained, not here.
func heldUpTasks(st *queue.QueueStats) map[string]int64 {
	held := map[string]int64{"group": st.GroupWaiting}
	switch {
	case st.Paused:
		held["paused"] = st.Ready
	case st.Concurrency > 0 && st.Counts[queue.StatusRetained] >= int64(st.Concurrency):
		held["concurrency"] = st.Ready
	}
	return held
}

// gauge is a constant metric. Its sorted labels are made once for each queue; that saves a quarter of a scrape.
type gauge struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  float64
}

func (g *gauge) Desc() *prometheus.Desc { return g.desc }

func (g *gauge) Write(m *dto.Metric) error {
	m.Label, m.Gauge = g.labels, &dto.Gauge{Value: &g.value}
	return nil
}

func labelPair(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
