package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// everyMetric is all that a process with everything on exposes after work: name, type, labels.
var everyMetric = map[string]struct {
	kind   dto.MetricType
	labels string
}{
	"queue_tasks":                            {dto.MetricType_GAUGE, "namespace queue status"},
	"pgqueue_queue_ready_tasks":              {dto.MetricType_GAUGE, "namespace queue"},
	"pgqueue_queue_delayed_tasks":            {dto.MetricType_GAUGE, "namespace queue"},
	"pgqueue_queue_oldest_ready_age_seconds": {dto.MetricType_GAUGE, "namespace queue"},
	"pgqueue_queue_held_up_tasks":            {dto.MetricType_GAUGE, "namespace queue reason"},
	"pgqueue_queue_paused":                   {dto.MetricType_GAUGE, "namespace queue"},
	"pgqueue_queue_wanted_slots":             {dto.MetricType_GAUGE, "namespace queue"},
	"pgqueue_queues":                         {dto.MetricType_GAUGE, ""},
	"pgqueue_stats_up":                       {dto.MetricType_GAUGE, ""},
	"pgqueue_stats_seconds":                  {dto.MetricType_GAUGE, ""},

	"pgqueue_tasks_created_total":     {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_refused_total":     {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_retained_total":    {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_released_total":    {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_failed_total":      {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_retried_total":     {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_returned_total":    {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_expired_total":     {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_rescued_total":     {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_quarantined_total": {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_cancelled_total":   {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_revived_total":     {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_tasks_deleted_total":     {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_lease_lost_total":        {dto.MetricType_COUNTER, "op"},
	"pgqueue_task_wait_seconds":       {dto.MetricType_HISTOGRAM, "namespace queue"},
	"pgqueue_task_run_seconds":        {dto.MetricType_HISTOGRAM, "namespace queue status"},
	"pgqueue_task_end_to_end_seconds": {dto.MetricType_HISTOGRAM, "namespace queue"},

	"pgqueue_store_call_seconds":   {dto.MetricType_HISTOGRAM, "op"},
	"pgqueue_store_errors_total":   {dto.MetricType_COUNTER, "kind op"},
	"pgqueue_service_call_seconds": {dto.MetricType_HISTOGRAM, "op"},
	"pgqueue_service_errors_total": {dto.MetricType_COUNTER, "kind op"},
	"pgqueue_batch_tasks":          {dto.MetricType_HISTOGRAM, "op"},
	"pgqueue_polls_total":          {dto.MetricType_COUNTER, "result"},
	"pgqueue_notifications_total":  {dto.MetricType_COUNTER, ""},
	"pgqueue_listener_connected":   {dto.MetricType_GAUGE, ""},
	"pgqueue_streams":              {dto.MetricType_GAUGE, "kind"},

	"pgqueue_chore_runs_total":                     {dto.MetricType_COUNTER, "chore result"},
	"pgqueue_chore_moved_total":                    {dto.MetricType_COUNTER, "chore"},
	"pgqueue_chore_faults_total":                   {dto.MetricType_COUNTER, "chore"},
	"pgqueue_chore_seconds":                        {dto.MetricType_HISTOGRAM, "chore"},
	"pgqueue_chore_lag_seconds":                    {dto.MetricType_GAUGE, "chore"},
	"pgqueue_chore_last_success_timestamp_seconds": {dto.MetricType_GAUGE, "chore"},
	"pgqueue_ticks_total":                          {dto.MetricType_COUNTER, "result"},
	"pgqueue_tick_lateness_seconds":                {dto.MetricType_HISTOGRAM, ""},

	"pgqueue_worker_running_tasks":         {dto.MetricType_GAUGE, "namespace queue"},
	"pgqueue_worker_lease_lost_total":      {dto.MetricType_COUNTER, "namespace queue"},
	"pgqueue_worker_run_seconds":           {dto.MetricType_HISTOGRAM, "namespace outcome queue"},
	"pgqueue_worker_wait_seconds":          {dto.MetricType_HISTOGRAM, "namespace queue"},
	"pgqueue_worker_lease_age_seconds":     {dto.MetricType_HISTOGRAM, "namespace queue"},
	"pgqueue_worker_end_to_end_seconds":    {dto.MetricType_HISTOGRAM, "namespace queue"},
	"pgqueue_worker_heartbeat_lag_seconds": {dto.MetricType_HISTOGRAM, ""},
	"pgqueue_worker_batch_tasks":           {dto.MetricType_HISTOGRAM, "op"},
	"pgqueue_worker_call_seconds":          {dto.MetricType_HISTOGRAM, "op"},
	"pgqueue_worker_errors_total":          {dto.MetricType_COUNTER, "kind op"},

	"pgqueue_pool_max_connections":         {dto.MetricType_GAUGE, ""},
	"pgqueue_pool_connections":             {dto.MetricType_GAUGE, "state"},
	"pgqueue_pool_acquires_total":          {dto.MetricType_COUNTER, ""},
	"pgqueue_pool_empty_acquires_total":    {dto.MetricType_COUNTER, ""},
	"pgqueue_pool_canceled_acquires_total": {dto.MetricType_COUNTER, ""},
	"pgqueue_log_lines_lost_total":         {dto.MetricType_COUNTER, ""},
	"pgqueue_pool_wait_seconds_total":      {dto.MetricType_COUNTER, ""},

	"pgqueue_http_requests_total":         {dto.MetricType_COUNTER, "code method route"},
	"pgqueue_http_request_seconds":        {dto.MetricType_HISTOGRAM, "method route"},
	"pgqueue_http_in_flight_requests":     {dto.MetricType_GAUGE, ""},
	"pgqueue_http_refused_requests_total": {dto.MetricType_COUNTER, "reason"},
	"pgqueue_audit_failures_total":        {dto.MetricType_COUNTER, ""},
	"pgqueue_access_refused_total":        {dto.MetricType_COUNTER, "action reason"},

	"pgqueue_ready":        {dto.MetricType_GAUGE, ""},
	"pgqueue_health_check": {dto.MetricType_GAUGE, "check"},
	"pgqueue_build_info":   {dto.MetricType_GAUGE, "go_version revision version"},
}

// TestAuditFailures: each entry that the store did not keep is counted, and a Telemetry without metrics ignores it.
func TestAuditFailures(t *testing.T) {
	s := newStack(t)
	recorder := access.NewAuditRecorder(access.AuditSettings{Log: failingAudit{}, Failed: s.tel.AuditFailed})
	recorder.Record(t.Context(), access.AuditEntry{Operation: "delete_queue"}, nil)
	recorder.Record(t.Context(), access.AuditEntry{Operation: "delete_queue"}, nil)
	s.want(2, "pgqueue_audit_failures_total")
}

// TestHeldUpTasks: tasks that are due and may not start are counted by the setting that keeps them from it.
func TestHeldUpTasks(t *testing.T) {
	s := newStack(t)
	s.queue("paused", queue.QueueMeta{Paused: new(true)})
	s.create("paused", 3)
	s.queue("full", queue.QueueMeta{Concurrency: new(2)})
	s.create("full", 5)
	s.retain("full", 2)
	s.queue("groups", queue.QueueMeta{FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}})
	for range 3 {
		_, err := s.svc.CreateTask(t.Context(), "groups", queue.TaskMeta{Group: "a"})
		s.ok(err)
	}
	s.retain("groups", 1)
	none, err := s.svc.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"groups"}, Limit: 3})
	if s.ok(err); len(none) != 0 {
		t.Fatalf("a group of one place has %d tasks more", len(none))
	}
	s.queue("open", queue.QueueMeta{})
	s.create("open", 2)

	s.want(3, "pgqueue_queue_held_up_tasks", "queue", "paused", "reason", "paused")
	s.want(3, "pgqueue_queue_held_up_tasks", "queue", "full", "reason", "concurrency")
	s.want(2, "pgqueue_queue_held_up_tasks", "queue", "groups", "reason", "group")
	s.want(8, "pgqueue_queue_held_up_tasks")
}

// TestRefusedTasks: the tasks that max_waiting refuses are counted, each caller's own.
func TestRefusedTasks(t *testing.T) {
	s := newStack(t)
	s.queue("small", queue.QueueMeta{FlowMeta: queue.FlowMeta{MaxWaiting: new(2)}})
	s.create("small", 2)
	for range 3 {
		if _, err := s.svc.CreateTask(t.Context(), "small", queue.TaskMeta{}); queue.KindOf(err) != queue.KindExhausted {
			t.Fatalf("a create beyond max_waiting returns %v", err)
		}
	}
	s.want(3, "pgqueue_tasks_refused_total", "queue", "small")
	s.want(2, "pgqueue_tasks_created_total", "queue", "small")
}

// TestAccessRefusals: each refusal is counted by action and reason, those too that share one entry of the audit.
func TestAccessRefusals(t *testing.T) {
	s := newStack(t)
	recorder := access.NewAuditRecorder(access.AuditSettings{Log: failingAudit{}, Refused: s.tel.AccessRefused})
	defer recorder.Close(t.Context())
	for range 3 {
		recorder.Record(t.Context(), access.AuditEntry{}, queue.KindUnauthenticated)
	}
	recorder.Record(t.Context(), access.AuditEntry{Action: queue.ActionTaskOperate}, queue.KindDenied)
	recorder.Record(t.Context(), access.AuditEntry{Action: queue.ActionTaskOperate}, nil)
	recorder.Record(t.Context(), access.AuditEntry{Action: queue.ActionTaskOperate}, queue.KindNotFound)
	s.want(3, "pgqueue_access_refused_total", "action", "none", "reason", "unauthenticated")
	s.want(1, "pgqueue_access_refused_total", "action", "task.operate", "reason", "permission_denied")
}

// failingAudit keeps no entry.
type failingAudit struct{ access.AuditLog }

func (failingAudit) RecordAudit(context.Context, access.AuditEntry) error {
	return queue.Kind("unavailable")
}

// pool stands for a pool of connections.
type pool struct{}

func (pool) MaxConns() int32                     { return 10 }
func (pool) AcquiredConns() int32                { return 3 }
func (pool) IdleConns() int32                    { return 4 }
func (pool) ConstructingConns() int32            { return 1 }
func (pool) AcquireCount() int64                 { return 100 }
func (pool) EmptyAcquireCount() int64            { return 5 }
func (pool) CanceledAcquireCount() int64         { return 2 }
func (pool) EmptyAcquireWaitTime() time.Duration { return 1500 * time.Millisecond }

// TestEveryMetric does something of everything and compares what is exposed with the list above, in both directions.
func TestEveryMetric(t *testing.T) {
	s := newStack(t)
	s.ok(s.tel.WatchPool(func() telemetry.PoolStat { return pool{} }))
	h := telemetry.NewHealth()
	h.Add("store", s.store.Ping)
	s.ok(s.tel.WatchHealth(h))
	s.queue("mail", queue.QueueMeta{})
	s.create("mail", 2)
	s.queue("paused", queue.QueueMeta{Paused: new(true)})
	s.create("paused", 1)
	_, err := s.svc.GetQueue(t.Context(), "none")
	if !errors.Is(err, queue.ErrNotFound) {
		t.Fatal(err)
	}
	held := s.retain("mail", 1)
	s.release(queue.OutcomeSuccess, held...)
	held = s.retain("mail", 1)
	held[0].Lease.Token++ // stale
	s.release(queue.OutcomeSuccess, held...)
	s.chores(queue.Chores()...)
	_, err = s.svc.RegisterTicker(t.Context(), queue.TickerMeta{Name: "t", Period: new(time.Hour), Queue: new("mail")})
	s.ok(err)
	_, err = s.svc.RunTicker(t.Context(), "t")
	s.ok(err)
	obs := s.tel.Observer()
	task := worker.Held{ID: 1, Namespace: "default", Queue: "mail"}
	obs.TaskStarted(task, time.Millisecond)
	obs.TaskFinished(task, worker.Finished{Outcome: queue.OutcomeSuccess, Took: time.Second})
	obs.Retained(1, 1, time.Millisecond, nil)
	obs.Retained(1, 0, time.Millisecond, queue.ErrUnavailable)
	obs.Released(1, time.Millisecond, nil)
	obs.Heartbeat(1, time.Millisecond, nil)
	obs.LeaseLost(task)
	mux := http.NewServeMux()
	mux.Handle("GET /x/{id}", http.NotFoundHandler())
	s.tel.HTTP(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x/1", nil))

	s.tel.HTTPRefused("host")
	s.tel.AccessRefused("", queue.KindUnauthenticated)

	got := families(t, s.tel.Registry())
	for name, want := range everyMetric {
		f := got[name]
		if f == nil {
			t.Errorf("%s is not exposed", name)
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if f.GetType() != want.kind || strings.Join(labels, " ") != want.labels {
			t.Errorf("%s is a %v with labels %q, want a %v with %q", name, f.GetType(), labels, want.kind, want.labels)
		}
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
	for name := range got {
		if _, ok := everyMetric[name]; !ok {
			t.Errorf("%s is exposed and not in the list", name)
		}
	}
	problems, err := testutil.GatherAndLint(s.tel.Registry())
	s.ok(err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	t.Run("no label is a task's id or an error's text", func(t *testing.T) {
		for name, f := range got {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if strings.Contains(l.GetValue(), " ") && name != "pgqueue_build_info" {
						t.Errorf("%s has a label %s=%q", name, l.GetName(), l.GetValue())
					}
				}
			}
		}
	})
	t.Run("pool", func(*testing.T) {
		s.want(10, "pgqueue_pool_max_connections")
		s.want(3, "pgqueue_pool_connections", "state", "acquired")
		s.want(4, "pgqueue_pool_connections", "state", "idle")
		s.want(1, "pgqueue_pool_connections", "state", "constructing")
		s.want(100, "pgqueue_pool_acquires_total")
		s.want(5, "pgqueue_pool_empty_acquires_total")
		s.want(2, "pgqueue_pool_canceled_acquires_total")
		s.want(1.5, "pgqueue_pool_wait_seconds_total")
	})
}

// workload moves tasks of queue "mail" through every transition and returns how often each happened.
func workload(s *stack) map[string]float64 {
	s.Helper()
	ctx := s.Context()
	s.queue("mail", queue.QueueMeta{Retries: new(1), Lease: new(time.Minute), TTL: new(24 * time.Hour)})
	s.create("mail", 100)
	for range 2 { // the second finds the first
		_, err := s.svc.CreateTask(ctx, "mail", queue.TaskMeta{Key: "once"})
		s.ok(err)
	}
	s.release(queue.OutcomeSuccess, s.retain("mail", 30)...) // released 30
	failing := s.retain("mail", 10)
	s.release(queue.OutcomeFailure, failing...)               // retried 10
	s.release(queue.OutcomePermanent, s.retain("mail", 5)...) // failed 5
	s.release(queue.OutcomeHandBack, s.retain("mail", 4)...)  // returned 4
	s.release(queue.OutcomeSnooze, s.retain("mail", 3)...)    // returned 3

	again := s.retain("mail", 1)
	for range 2 { // the second is a repeat of an accepted release
		s.release(queue.OutcomeSuccess, again...) // released 1
	}
	stale := s.retain("mail", 1)
	right := stale[0].Lease.Token
	stale[0].Lease.Token = right - 1
	s.release(queue.OutcomeSuccess, stale...) // refused
	_, err := s.svc.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: stale[0].ID, Token: right - 1}})
	if !errors.Is(err, queue.ErrLeaseLost) {
		s.ok(err)
	}
	stale[0].Lease.Token = right
	s.release(queue.OutcomeSuccess, stale...) // released 1

	s.retain("mail", 7)
	s.clock.Advance(2 * time.Minute)
	s.chores(queue.ChoreRescue) // rescued 7, retried 7
	asked := s.retain("mail", 2)
	waiting := s.create("mail", 3)
	_, err = s.svc.CancelTasks(ctx, queue.Selection{IDs: []int64{asked[0].ID, asked[1].ID, waiting[0].ID, waiting[1].ID, waiting[2].ID}})
	s.ok(err)                                       // cancelled 3
	s.release(queue.OutcomeSuccess, asked[0])       // cancelled 1
	s.clock.Advance(2 * time.Minute)                //
	s.chores(queue.ChoreRescue, queue.ChorePromote) // rescued 1, cancelled 1
	_, err = s.svc.CancelTasks(ctx, queue.Selection{IDs: []int64{waiting[0].ID}, DryRun: true})
	s.ok(err)
	_, err = s.svc.RetryTasks(ctx, queue.Selection{IDs: []int64{waiting[0].ID, waiting[1].ID}})
	s.ok(err) // revived 2
	_, err = s.svc.DeleteTasks(ctx, queue.Selection{IDs: []int64{waiting[2].ID}})
	s.ok(err) // deleted 1

	_, err = s.svc.RegisterTicker(ctx, queue.TickerMeta{Name: "t", Period: new(time.Hour), Queue: new("mail"), Misfire: new(queue.MisfireAll)})
	s.ok(err)
	_, err = s.svc.RunTicker(ctx, "t")
	s.ok(err) // created 1
	s.queue("idle", queue.QueueMeta{})
	_, err = s.svc.RegisterTicker(ctx, queue.TickerMeta{
		Name: "u", Period: new(time.Hour), Queue: new("idle"), Misfire: new(queue.MisfireAll), Overlap: new(queue.OverlapSkip),
	})
	s.ok(err)
	s.clock.Advance(3*time.Hour + time.Minute)
	s.chores(queue.ChoreTick, queue.ChorePromote) // created 3
	left := s.retain("mail", 10)
	s.release(queue.OutcomeFailure, left[:5]...)
	s.release(queue.OutcomeSuccess, left[5:]...)
	s.clock.Advance(48 * time.Hour)
	s.chores(queue.ChoreExpire) // the waiting tasks expire
	return recount(s)
}

// recount counts each kind of change from the feed of events: another source than the counters'.
func recount(s *stack) map[string]float64 {
	s.Helper()
	page, err := s.raw.ListEvents(s.Context(), "default", queue.EventFilter{Queue: "mail"}, 10_000)
	s.ok(err)
	n := map[string]float64{}
	for _, e := range page.Events {
		n[string(e.Kind)]++
	}
	return n
}

func TestCounters(t *testing.T) {
	s := newStack(t)
	n := workload(s)
	of := []string{"namespace", "default", "queue", "mail"}
	for metric, kind := range map[string]queue.EventKind{
		"created": queue.EventCreated, "retained": queue.EventRetained, "released": queue.EventReleased, "failed": queue.EventFailed,
		"retried": queue.EventRetry, "returned": queue.EventReturned, "expired": queue.EventExpired,
		"cancelled": queue.EventCancelled, "revived": queue.EventRevived,
	} {
		if n[string(kind)] == 0 {
			t.Errorf("the workload has no %s", kind)
		}
		s.want(n[string(kind)], "pgqueue_tasks_"+metric+"_total", of...)
	}
	s.want(8, "pgqueue_tasks_rescued_total", of...)
	s.want(1, "pgqueue_tasks_deleted_total", of...)
	s.want(1, "pgqueue_lease_lost_total", "op", "release_tasks")
	s.want(1, "pgqueue_lease_lost_total", "op", "heartbeat_tasks")
	s.want(3+1, "pgqueue_ticks_total", "result", "task")
	s.want(2, "pgqueue_ticks_total", "result", "skipped")
	s.want(3+3, "pgqueue_tick_lateness_seconds")
	s.want(1, "pgqueue_ticks_total", "result", "manual")
	s.want(n["retained"], "pgqueue_task_wait_seconds", of...)
	s.want(n["released"], "pgqueue_task_run_seconds", append(of, "status", "released")...)
	t.Run("the gauges are what the store keeps", func(t *testing.T) {
		s.create("mail", 3)
		s.retain("mail", 1)
		stats, err := s.raw.QueueStats(t.Context(), "default", "mail")
		s.ok(err)
		for _, status := range queue.Statuses() {
			s.want(float64(stats[0].Counts[status]), "queue_tasks", append(of, "status", string(status))...)
		}
		s.want(float64(stats[0].Ready), "pgqueue_queue_ready_tasks", of...)
		slots := queue.ScaleQueues(queue.DefaultScaleWithin, stats[0]).Slots
		if stats[0].Ready == 0 || slots == 0 {
			t.Errorf("%d tasks are ready and want %v slots: the case says nothing", stats[0].Ready, slots)
		}
		s.want(slots, "pgqueue_queue_wanted_slots", of...)
	})
	t.Run("a created task is there, or was deleted, or is past retention", func(t *testing.T) {
		var there float64
		for _, status := range queue.Statuses() {
			there += s.value("queue_tasks", append(of, "status", string(status))...)
		}
		created, deleted := s.value("pgqueue_tasks_created_total", of...), s.value("pgqueue_tasks_deleted_total", of...)
		if there > created-deleted {
			t.Errorf("%v tasks are there, %v were created and %v deleted", there, created, deleted)
		}
	})
}

func TestDurations(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{Lease: new(time.Hour)})
	s.create("mail", 1)
	s.clock.Advance(10 * time.Second)
	held := s.retain("mail", 1)
	s.clock.Advance(3 * time.Second)
	s.release(queue.OutcomeSuccess, held...)
	sum := func(name string) float64 {
		return families(t, s.tel.Registry())[name].GetMetric()[0].GetHistogram().GetSampleSum()
	}
	for name, want := range map[string]float64{
		"pgqueue_task_wait_seconds": 10, "pgqueue_task_end_to_end_seconds": 13,
	} {
		if got := sum(name); got < want || got > want+.01 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, m := range families(t, s.tel.Registry())["pgqueue_task_run_seconds"].GetMetric() {
		if has(m, []string{"status", "released"}) && (m.GetHistogram().GetSampleSum() < 3 || m.GetHistogram().GetSampleSum() > 3.01) {
			t.Errorf("run is %v, want 3 s", m.GetHistogram().GetSampleSum())
		}
	}
	t.Run("a delayed task waits from when it is due", func(t *testing.T) {
		_, err := s.svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Delay: time.Hour})
		s.ok(err)
		s.clock.Advance(time.Hour + 5*time.Second)
		s.chores(queue.ChorePromote)
		s.retain("mail", 1)
		if got := sum("pgqueue_task_wait_seconds"); got < 15 || got > 15.01 {
			t.Errorf("waits are %v, want 15 s", got)
		}
	})
}

func TestCardinality(t *testing.T) {
	s := newStack(t, telemetry.WithMaxQueues(3), telemetry.WithMaxGaugeQueues(4))
	for i := range 10 {
		name := fmt.Sprintf("q%d", i)
		s.queue(name, queue.QueueMeta{})
		s.create(name, i+1)
	}
	_, err := s.svc.UpdateQueue(t.Context(), "q9", queue.QueueMeta{Paused: new(true)})
	s.ok(err)
	t.Run("counters beyond the limit share a label", func(t *testing.T) {
		f := families(t, s.tel.Registry())["pgqueue_tasks_created_total"]
		if n := len(f.GetMetric()); n != 4 {
			t.Errorf("%d series, want 4", n)
		}
		s.want(55-1-2-3, "pgqueue_tasks_created_total", "namespace", "other", "queue", "other")
		s.want(55, "pgqueue_tasks_created_total")
	})
	t.Run("gauges beyond the limit are added up", func(t *testing.T) {
		s.want(55, "queue_tasks")
		s.want(55-1-2-3-4, "queue_tasks", "namespace", "other", "queue", "other", "status", "new")
		s.want(4, "pgqueue_queue_wanted_slots", "namespace", "default", "queue", "q3")
		// The slots of each queue are added up: those of the sum of their tasks would count the paused one.
		s.want(55-1-2-3-4-10, "pgqueue_queue_wanted_slots", "namespace", "other", "queue", "other")
		s.want(10, "pgqueue_queues")
		if n := len(families(t, s.tel.Registry())["queue_tasks"].GetMetric()); n != 5*7 {
			t.Errorf("%d series, want 35", n)
		}
	})
}

// TestDeletedQueuesGiveTheirPlacesBack makes and deletes more queues than there are places: a later one has its own.
func TestDeletedQueuesGiveTheirPlacesBack(t *testing.T) {
	s := newStack(t, telemetry.WithMaxQueues(3))
	look := func() { families(t, s.tel.Registry()) }
	for i := range 10 {
		name := fmt.Sprintf("q%d", i)
		s.queue(name, queue.QueueMeta{})
		s.create(name, 1)
		if _, err := s.svc.DeleteQueue(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		look()
		look()
	}
	s.queue("live", queue.QueueMeta{})
	s.create("live", 5)
	look()
	look()
	s.want(5, "pgqueue_tasks_created_total", "queue", "live")
	f := families(t, s.tel.Registry())
	for _, name := range []string{"pgqueue_tasks_created_total", "pgqueue_task_wait_seconds"} {
		if n := len(f[name].GetMetric()); n != 1 {
			t.Errorf("%s has %d series, want that of the one queue", name, n)
		}
	}
}

func TestCountersOfAQueueBeginAtZero(t *testing.T) {
	s := newStack(t, telemetry.WithMaxQueues(2))
	series := func() int {
		families(t, s.tel.Registry()) // reads the queues
		return len(families(t, s.tel.Registry())["pgqueue_tasks_expired_total"].GetMetric())
	}
	s.queue("idle", queue.QueueMeta{})
	s.queue("mail", queue.QueueMeta{})
	if n := series(); n != 2 {
		t.Errorf("got %d series before the first event, want one of each queue", n)
	}

	busy := newStack(t, telemetry.WithMaxQueues(2))
	s = busy
	for _, name := range []string{"a", "b", "c"} {
		s.queue(name, queue.QueueMeta{})
	}
	s.create("c", 1)
	if n := series(); n != 1 {
		t.Errorf("got %d series where not all queues have a place, want that of the busy one", n)
	}
}

// failing is a store that fails to read stats.
type failing struct {
	*memory.Store
	fail bool
}

func (f *failing) AllQueueStats(ctx context.Context) ([]*queue.QueueStats, error) {
	if f.fail {
		return nil, queue.ErrUnavailable
	}
	return f.Store.AllQueueStats(ctx)
}

// plain is a store without optional powers.
type plain struct{ queue.Store }

func TestStats(t *testing.T) {
	t.Run("a store that does not answer leaves the other metrics alone", func(t *testing.T) {
		tel, err := telemetry.New(telemetry.WithStatsAge(0))
		if err != nil {
			t.Fatal(err)
		}
		f := &failing{Store: memory.New(), fail: true}
		if err := tel.WatchQueues(tel.Store(f)); err != nil {
			t.Fatal(err)
		}
		body := scrape(t, tel)
		if !strings.Contains(body, "pgqueue_stats_up 0") || !strings.Contains(body, "pgqueue_build_info") || strings.Contains(body, "queue_tasks{") {
			t.Errorf("scraped:\n%s", body)
		}
		f.fail = false
		if body = scrape(t, tel); !strings.Contains(body, "pgqueue_stats_up 1") {
			t.Errorf("scraped:\n%s", body)
		}
	})
	t.Run("a store without stats over all namespaces is asked by namespace", func(t *testing.T) {
		tel, err := telemetry.New()
		if err != nil {
			t.Fatal(err)
		}
		raw := memory.New()
		for _, ns := range []string{"a", "b"} {
			if _, err := raw.CreateQueue(t.Context(), queue.Queue{Namespace: ns, Name: "q", Version: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tel.WatchQueues(plain{raw}); err != nil {
			t.Fatal(err)
		}
		body := scrape(t, tel)
		for _, ns := range []string{"a", "b"} {
			if want := fmt.Sprintf("queue_tasks{namespace=%q,queue=\"q\",status=\"new\"} 0", ns); !strings.Contains(body, want) {
				t.Errorf("scraped without %s:\n%s", want, body)
			}
		}
	})
	t.Run("the predecessor's line is as it was", func(t *testing.T) {
		s := newStack(t)
		s.queue("emails", queue.QueueMeta{})
		s.create("emails", 1)
		if body := scrape(t, s.tel); !strings.Contains(body, `queue_tasks{namespace="default",queue="emails",status="new"} 1`) {
			t.Errorf("scraped:\n%s", body)
		}
	})
	t.Run("scrapes within the age share a reading", func(t *testing.T) {
		tel, err := telemetry.New(telemetry.WithStatsAge(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		f := &failing{Store: memory.New()}
		if err := tel.WatchQueues(f); err != nil {
			t.Fatal(err)
		}
		scrape(t, tel)
		f.fail = true
		if body := scrape(t, tel); !strings.Contains(body, "pgqueue_stats_up 1") {
			t.Errorf("scraped:\n%s", body)
		}
	})
}

func scrape(t testing.TB, tel *telemetry.Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d\n%s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestListening(t *testing.T) {
	s := newStack(t)
	l, ok := queue.StoreAs[queue.Listener](s.store)
	if !ok {
		t.Fatal("the decorated store does not listen")
	}
	s.want(0, "pgqueue_listener_connected")
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	heard, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- l.Listen(ctx, func(w queue.Wake) {
			if w != (queue.Wake{}) {
				once.Do(func() { close(heard) })
			}
		})
	}()
	s.queue("mail", queue.QueueMeta{})
	until(heard, func() { s.create("mail", 1) }) // the listener may begin a little later
	s.want(1, "pgqueue_listener_connected")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, queue.ErrCanceled) {
		t.Error(err)
	}
	s.want(0, "pgqueue_listener_connected")
	if s.value("pgqueue_notifications_total") == 0 {
		t.Error("no hint was counted")
	}
}

// until does f again and again until done is closed.
func until(done <-chan struct{}, f func()) {
	for {
		select {
		case <-done:
			return
		default:
			f()
			runtime.Gosched()
		}
	}
}

func TestStreams(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	var once sync.Once
	began := make(chan struct{})
	go func() {
		ended <- s.svc.SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error {
			once.Do(func() { close(began) })
			return nil
		})
	}()
	until(began, func() { s.create("mail", 1) }) // the subscription may begin a little later
	s.want(1, "pgqueue_streams", "kind", "events")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, queue.ErrCanceled) {
		t.Error(err)
	}
	s.want(0, "pgqueue_streams", "kind", "events")
}

func TestPolls(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	for range 3 {
		s.retain("mail", 0+len(s.create("mail", 1)))
	}
	if _, err := s.svc.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"}); err != nil {
		t.Fatal(err)
	}
	s.want(3, "pgqueue_polls_total", "result", "found")
	s.want(1, "pgqueue_polls_total", "result", "empty")
	s.want(3, "pgqueue_batch_tasks", "op", "create_tasks")
}

func TestErrorsAreCountedByKind(t *testing.T) {
	s := newStack(t)
	if _, err := s.svc.CreateTask(t.Context(), "none", queue.TaskMeta{}); !errors.Is(err, queue.ErrNotFound) {
		t.Fatal(err)
	}
	s.want(1, "pgqueue_service_errors_total", "op", "create_task", "kind", "not_found")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.svc.CreateTask(ctx, "none", queue.TaskMeta{}); !errors.Is(err, queue.ErrCanceled) {
		t.Fatal(err)
	}
	s.want(1, "pgqueue_service_errors_total") // a caller's own cancellation does not count
}

func TestChoreMetrics(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	_, err := s.svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Delay: time.Minute})
	s.ok(err)
	s.clock.Advance(time.Minute + 7*time.Second)
	s.chores(queue.ChorePromote)
	s.want(1, "pgqueue_chore_runs_total", "chore", "promote", "result", "ok")
	s.want(1, "pgqueue_chore_moved_total", "chore", "promote")
	if lag := s.value("pgqueue_chore_lag_seconds", "chore", "promote"); lag < 7 || lag > 7.01 {
		t.Errorf("lag is %v, want 7 s", lag)
	}
	s.chores(queue.ChorePromote)
	s.want(0, "pgqueue_chore_lag_seconds", "chore", "promote")
	if s.value("pgqueue_chore_last_success_timestamp_seconds", "chore", "promote") == 0 {
		t.Error("the last success is missing")
	}
	s.want(0, "pgqueue_chore_runs_total", "result", "error")
}

func TestOffCostsNothing(t *testing.T) {
	tel, err := telemetry.New(telemetry.WithMetrics(false))
	if err != nil {
		t.Fatal(err)
	}
	raw := memory.New()
	if s := tel.Store(raw); s != queue.Store(raw) {
		t.Errorf("the store is decorated: %T", s)
	}
	svc := newStack(t).svc
	if got := tel.Service(svc); got != svc {
		t.Errorf("the service is decorated: %T", got)
	}
	if _, none := tel.Observer().(worker.NoObserver); !none {
		t.Error("workers are observed")
	}
	mux := http.NewServeMux()
	if got := tel.HTTP(mux); got != http.Handler(mux) {
		t.Errorf("the handler is decorated: %T", got)
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]telemetry.Option{
		"max_queues": telemetry.WithMaxQueues(0), "max_gauge_queues": telemetry.WithMaxGaugeQueues(100_001),
		"stats_age": telemetry.WithStatsAge(-1), "registry": telemetry.WithRegistry(nil),
	} {
		_, err := telemetry.New(o)
		if e, ok := errors.AsType[*queue.Error](err); !ok || e.Kind != queue.KindInvalid || e.Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	reg := prometheus.NewRegistry()
	if _, err := telemetry.New(telemetry.WithRegistry(reg)); err != nil {
		t.Fatal(err)
	}
	if _, err := telemetry.New(telemetry.WithRegistry(reg)); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("a second Telemetry on one registry: %v", err)
	}
}

// quiet answers quiet releases as a store does that does not read tasks back.
type quiet struct{ *memory.Store }

func (q quiet) ReleaseTasks(ctx context.Context, namespace string, rs []queue.Release) ([]queue.Released, error) {
	outs, err := q.Store.ReleaseTasks(ctx, namespace, rs)
	for i := range outs {
		if t := outs[i].Task; t != nil && rs[i].Quiet {
			outs[i] = queue.Released{Queue: t.Queue, Status: t.Status, Held: t.FinishedAt.Sub(t.StartedAt)}
		}
	}
	return outs, err
}

func TestQuietReleases(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	s.create("mail", 2)
	store := s.tel.Store(quiet{s.raw})
	got := s.retain("mail", 2)
	for i, task := range got {
		outcome := []queue.Outcome{queue.OutcomeSuccess, queue.OutcomeFailure}[i]
		_, err := store.ReleaseTasks(t.Context(), "default", []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: outcome, Quiet: true}})
		s.ok(err)
	}
	s.want(1, "pgqueue_tasks_released_total", "queue", "mail")
	s.want(1, "pgqueue_tasks_retried_total", "queue", "mail")
	s.want(1, "pgqueue_task_run_seconds", "queue", "mail", "status", "released")
}

// ofCells is a store of two cells.
type ofCells struct {
	queue.Store
	down, hangs bool
}

func (s *ofCells) ListCells(ctx context.Context) ([]queue.CellStatus, error) {
	if ctx.Err() != nil {
		return nil, queue.ContextError(ctx.Err())
	}
	all := []queue.CellStatus{{ID: 0}, {ID: 1}}
	if s.down || s.hangs {
		all[1].Err = queue.ErrUnavailable
	}
	return all, nil
}

func (s *ofCells) AllQueueStats(ctx context.Context) ([]*queue.QueueStats, error) {
	if s.hangs {
		<-ctx.Done()
		return nil, queue.ContextError(ctx.Err())
	}
	if s.down {
		return nil, nil
	}
	return s.Store.(queue.StatsLister).AllQueueStats(ctx)
}

func TestStatsOfCells(t *testing.T) {
	t.Run("stats that take all of their time leave the metric that names the cell", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tel, err := telemetry.New(telemetry.WithStatsAge(0))
			if err != nil {
				t.Fatal(err)
			}
			if err := tel.WatchQueues(&ofCells{Store: memory.New(), hangs: true}); err != nil {
				t.Fatal(err)
			}
			body := scrape(t, tel)
			for _, want := range []string{`pgqueue_cell_up{cell="0"} 1`, `pgqueue_cell_up{cell="1"} 0`, "pgqueue_stats_up 0"} {
				if !strings.Contains(body, want) {
					t.Errorf("scraped without %s:\n%s", want, body)
				}
			}
		})
	})
	t.Run("counters of queues in a cell that is down go on", func(t *testing.T) {
		tel, err := telemetry.New(telemetry.WithStatsAge(0))
		if err != nil {
			t.Fatal(err)
		}
		cells := &ofCells{Store: memory.New()}
		store := tel.Store(cells)
		if err := tel.WatchQueues(store); err != nil {
			t.Fatal(err)
		}
		if _, err := store.CreateQueue(t.Context(), queue.Queue{Namespace: "a", Name: "mail", Version: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := store.CreateTasks(t.Context(), queue.Create{Namespace: "a", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}}}}); err != nil {
			t.Fatal(err)
		}
		scrape(t, tel)
		cells.down = true
		for range 3 {
			if body, want := scrape(t, tel), `pgqueue_tasks_created_total{namespace="a",queue="mail"} 1`; !strings.Contains(body, want) {
				t.Errorf("scraped without %s:\n%s", want, body)
			}
		}
	})
}
