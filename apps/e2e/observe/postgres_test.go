package observe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/domain/worker"
)

func TestMain(m *testing.M) {
	os.Exit(queuetest.VerifyGoroutines(func() int { return postgrestest.Main(m) }))
}

// scraped returns the metrics of a scrape.
func scraped(t testing.TB, tel *telemetry.Telemetry) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return parsed(t, w.Result())
}

// scrapedFrom returns the metrics at url.
func scrapedFrom(t testing.TB, url string) map[string]*dto.MetricFamily {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, resp)
}

func parsed(t testing.TB, resp *http.Response) map[string]*dto.MetricFamily {
	t.Helper()
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.StatusCode, err)
	}
	return families
}

// total sums the counters and gauges of a family that have these labels (name, value, …).
func total(f *dto.MetricFamily, labels ...string) (sum float64) {
	for _, m := range f.GetMetric() {
		all := true
		for i := 0; i < len(labels); i += 2 {
			all = all && slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] })
		}
		if all {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// TestCountersOnPostgres moves tasks through every transition, by hand and by the worker runtime. It compares the
// counters with a recount from the feed of events.
func TestCountersOnPostgres(t *testing.T) {
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	raw := postgrestest.Open(t)
	tel, err := telemetry.New(telemetry.WithStatsAge(0))
	ok(err)
	store := tel.Store(raw)
	ok(tel.WatchQueues(store))
	m, err := manager.New(store)
	ok(err)
	defer func() { ok(m.Close(context.WithoutCancel(t.Context()))) }()
	svc, ctx := tel.Service(m), t.Context()
	for _, name := range []string{"mail", "bulk"} {
		_, err := svc.RegisterQueue(ctx, queue.QueueMeta{Name: name, Retries: new(1), Lease: new(time.Minute), TTL: new(24 * time.Hour), Retention: new(1000 * time.Hour)})
		ok(err)
	}
	create := func(name string, n int) []*queue.Task {
		t.Helper()
		batch := make([]queue.NewTask, n)
		for i := range batch {
			batch[i].Queue = name
		}
		made, err := svc.CreateTasks(ctx, batch)
		ok(err)
		return made
	}
	retain := func(n int) []*queue.Task {
		t.Helper()
		var all []*queue.Task
		for len(all) < n { // an answer may hold fewer tasks than are ready
			got, err := svc.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: n - len(all), Wait: 10 * time.Second})
			if err != nil || len(got) == 0 {
				t.Fatalf("retained %d of %d: %v", len(all), n, err)
			}
			all = append(all, got...)
		}
		return all
	}
	release := func(o queue.Outcome, tasks ...*queue.Task) {
		t.Helper()
		rs := make([]queue.Release, len(tasks))
		for i, k := range tasks {
			rs[i] = queue.Release{ID: k.ID, Token: k.Lease.Token, Outcome: o, Quiet: i%2 == 0}
			if o == queue.OutcomeSnooze {
				rs[i].Delay = time.Hour
			}
		}
		answers, err := svc.ReleaseTasks(ctx, rs)
		if len(answers) == 0 { // an error beside answers says that each element was refused
			ok(err)
		}
	}
	pass := func(d time.Duration, chores ...queue.Chore) {
		t.Helper()
		postgrestest.Advance(t, raw, d)
		queuetest.Chores(t, store, chores...)
	}

	create("mail", 100)
	for range 2 { // the second create finds the first task
		_, err := svc.CreateTask(ctx, "mail", queue.TaskMeta{Key: "once"})
		ok(err)
	}
	release(queue.OutcomeSuccess, retain(30)...)
	release(queue.OutcomeFailure, retain(10)...)
	release(queue.OutcomePermanent, retain(5)...)
	release(queue.OutcomeHandBack, retain(4)...)
	release(queue.OutcomeSnooze, retain(3)...)
	twice := retain(1)
	release(queue.OutcomeSuccess, twice...)
	release(queue.OutcomeSuccess, twice...) // repeats an accepted release
	stale := retain(1)
	stale[0].Lease.Token--
	release(queue.OutcomeSuccess, stale...)
	retain(6)
	pass(2*time.Minute, queue.ChoreRescue) // these tasks, and the one with the stale release
	asked, waiting := retain(2), create("mail", 3)
	_, err = svc.CancelTasks(ctx, queue.Selection{IDs: []int64{asked[0].ID, asked[1].ID, waiting[0].ID, waiting[1].ID, waiting[2].ID}})
	ok(err)
	release(queue.OutcomeSuccess, asked[0])
	pass(2*time.Minute, queue.ChoreRescue, queue.ChorePromote)
	_, err = svc.RetryTasks(ctx, queue.Selection{IDs: []int64{waiting[0].ID, waiting[1].ID}})
	ok(err)
	_, err = svc.DeleteTasks(ctx, queue.Selection{IDs: []int64{waiting[2].ID}})
	ok(err)
	_, err = svc.RegisterTicker(ctx, queue.TickerMeta{Name: "t", Period: new(time.Hour), Queue: new("mail"), Misfire: new(queue.MisfireAll)})
	ok(err)
	_, err = svc.RunTicker(ctx, "t")
	ok(err)
	pass(3*time.Hour+time.Minute, queue.ChoreTick, queue.ChorePromote)
	release(queue.OutcomeFailure, retain(5)...)

	const n = 300
	create("bulk", n)
	var worked atomic.Int64
	all := make(chan struct{})
	w := worker.New(svc, worker.WithInProcess(), worker.WithObserver(tel.Observer()), worker.WithLogger(slog.New(slog.DiscardHandler)))
	w.HandleFunc("bulk", func(_ context.Context, k *queue.Task) (any, error) {
		if worked.Add(1) == n {
			close(all)
		}
		switch k.ID % 3 {
		case 0:
			return nil, errors.New("no")
		case 1:
			return nil, worker.Permanent(errors.New("never"))
		}
		return "done", nil
	})
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(working) }()
	<-all
	stop()
	ok(<-ended)
	pass(48*time.Hour, queue.ChoreExpire)

	recount := map[string]map[queue.EventKind]float64{"mail": {}, "bulk": {}}
	for f := (queue.EventFilter{}); ; {
		page, err := raw.ListEvents(ctx, "default", f, 1000)
		ok(err)
		for _, e := range page.Events {
			recount[e.Queue][e.Kind]++
		}
		if len(page.Events) == 0 {
			break
		}
		f.After = page.Events[len(page.Events)-1].Cursor
	}
	got := scraped(t, tel)
	for name, events := range recount {
		of := []string{"namespace", "default", "queue", name}
		for metric, kind := range map[string]queue.EventKind{
			"created": queue.EventCreated, "retained": queue.EventRetained, "released": queue.EventReleased, "failed": queue.EventFailed,
			"retried": queue.EventRetry, "returned": queue.EventReturned, "expired": queue.EventExpired,
			"cancelled": queue.EventCancelled, "revived": queue.EventRevived,
		} {
			metric = "pgqueue_tasks_" + metric + "_total"
			if have, want := total(got[metric], of...), events[kind]; have != want || name == "mail" && want == 0 {
				t.Errorf("%s of queue %s is %v, there are %v events %s", metric, name, have, want, kind)
			}
		}
		again, err := raw.Recount(ctx, "default")
		ok(err)
		for _, status := range queue.Statuses() {
			if have, want := total(got["queue_tasks"], append(of, "status", string(status))...), float64(again[name][status]); have != want {
				t.Errorf("queue_tasks of %s %s is %v, a recount finds %v", name, status, have, want)
			}
		}
	}
	for metric, want := range map[string]float64{"pgqueue_tasks_rescued_total": 8, "pgqueue_tasks_deleted_total": 1, "pgqueue_lease_lost_total": 1} {
		if have := total(got[metric]); have != want {
			t.Errorf("%s is %v, want %v", metric, have, want)
		}
	}
	if have := total(got["pgqueue_ticks_total"], "result", "task"); have != 3 {
		t.Errorf("%v ticks made tasks, want 3", have)
	}
}

// BenchmarkScrape scrapes the metrics of 1,000 queues with 10,000,000 tasks in the database. It reports the slowest
// scrape beside the mean. Without PGQUEUE_TEST_FULL=1 there are 100,000 tasks.
//
//	PGQUEUE_TEST_FULL=1 go run ./adapters/postgres/postgrestest/cmd/testdb -- go test -run '^$' -bench Scrape -benchtime 100x -timeout 30m ./apps/e2e/observe
func BenchmarkScrape(b *testing.B) {
	n := 100_000
	if os.Getenv("PGQUEUE_TEST_FULL") != "" {
		n = 10_000_000
	}
	s := thousandQueues(b, n)
	tel, err := telemetry.New(telemetry.WithStatsAge(0))
	if err != nil {
		b.Fatal(err)
	}
	if err := tel.WatchQueues(tel.Store(s)); err != nil {
		b.Fatal(err)
	}
	f := scraped(b, tel)["queue_tasks"]
	if len(f.GetMetric()) != 1000*len(queue.Statuses()) || total(f) != float64(n) || total(f, "status", "released") != float64(n/10) {
		b.Fatalf("%d series count %v tasks, %v released", len(f.GetMetric()), total(f), total(f, "status", "released"))
	}
	var worst time.Duration
	for b.Loop() {
		start := time.Now()
		w := httptest.NewRecorder()
		tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil))
		worst = max(worst, time.Since(start))
		if w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte("pgqueue_stats_up 1")) {
			b.Fatal(w.Code)
		}
	}
	b.ReportMetric(float64(worst.Microseconds())/1000, "ms-slowest")
}

// thousandQueues returns a store of 1,000 queues and n tasks, inserted by plain SQL: seven tenths are delayed, two
// are ready, one is released.
func thousandQueues(b *testing.B, n int) *postgres.Store {
	b.Helper()
	dsn := postgrestest.URL(b)
	s := postgrestest.OpenURL(b, dsn)
	ctx := b.Context()
	for i := range 1000 {
		q, err := queue.NewQueue(fmt.Sprintf("tenant%d", i%10), queue.QueueMeta{Name: fmt.Sprintf("queue%d", i)})
		if err == nil {
			_, err = s.CreateQueue(ctx, q)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	do := func(sql string, args ...any) {
		b.Helper()
		if _, err := conn.Exec(ctx, fmt.Sprintf(sql, args...)); err != nil {
			b.Fatalf("%s: %v", sql, err)
		}
	}
	var first, base int64
	if err := conn.QueryRow(ctx, "select last_value + 1, (select min(id)::bigint from pgqueue.queue) from pgqueue.turn").Scan(&first, &base); err != nil {
		b.Fatal(err)
	}
	end := first + int64(n)
	do("select setval('pgqueue.turn', %d)", end)
	// The create of a task also creates all partitions up to its id.
	made, err := s.CreateTasks(ctx, queue.Create{Namespace: "tenant0", Tasks: []queue.NewTask{{Queue: "queue0", TaskMeta: queue.TaskMeta{Payload: []byte("{}")}}}})
	if err == nil {
		err = made[0].Err
	}
	if err == nil {
		_, err = s.DeleteTasks(ctx, "tenant0", queue.Selection{IDs: []int64{made[0].Task.ID}})
	}
	if err != nil {
		b.Fatal(err)
	}
	do("set synchronous_commit = off")
	const piece = 250_000
	for from := first; from < end; from += piece {
		to := min(from+piece, end) - 1
		do(`insert into pgqueue.task (id, created_at, delayed_at, queue_id, priority, retries, payload)
			select i, now() - interval '1 h', case when i %% 10 < 7 then now() + interval '1 d' end, %d + i / 10 %% 1000, 0, 3, '{"to": "ann"}'
			from generate_series(%d::bigint, %d) i`, base, from, to)
		do(`insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt)
			select now() + interval '1 d', i, %d + i / 10 %% 1000, 0, 0 from generate_series(%d::bigint, %d) i where i %% 10 < 7`, base, from, to)
		do(`insert into pgqueue.ready (turn, task_id, queue_id, priority, attempt)
			select i, i, %d + i / 10 %% 1000, 0, 0 from generate_series(%d::bigint, %d) i where i %% 10 in (7, 8)`, base, from, to)
		do(`insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker)
			select i, now() - interval '1 min', now() - interval '2 min', i * 256, %d + i / 10 %% 1000, 4, 1, 'w'
			from generate_series(%d::bigint, %d) i where i %% 10 = 9`, base, from, to)
		// Event rows hold sums, like those of the statements that create and move tasks.
		do(`insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
			select now(), q, k.kind, k.was, k.now, count(*) filter (where d = 9 or k.kind = 1), case when k.kind = 1 then count(*) filter (where d < 7) else 0 end
			from (select %d + i / 10 %% 1000 as q, i %% 10 as d from generate_series(%d::bigint, %d) i) i,
			     (values (1, 0, 1), (2, 1, 3), (4, 3, 4)) k (kind, was, now) group by q, k.kind, k.was, k.now`, base, from, to)
	}
	do("insert into pgqueue.lane select id, 0 from pgqueue.queue on conflict do nothing")
	do("analyze")
	queuetest.Chores(b, s, queue.ChoreFold)
	return s
}
