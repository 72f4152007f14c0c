package postgrestest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// keepTicking is a process that does background work.
func keepTicking(ctx context.Context, s *postgres.Store, _ <-chan string, say func(string, ...any)) error {
	m, err := manager.New(s, manager.WithNamespace("tests"))
	if err != nil {
		return err
	}
	say("ready")
	err = m.Run(ctx)
	return errorsOf(err, m.Close(context.WithoutCancel(ctx)))
}

// firedTick is the row of a tick.
type firedTick struct {
	ID        int64
	Ticker    string
	At, Fired time.Time
	TaskID    *int64
	Skipped   bool
}

// tickLedger gathers ticks before the history of a ticker is cut short.
type tickLedger struct {
	conn *pgx.Conn
	last int64
	all  []firedTick
}

func (l *tickLedger) gather(t *testing.T) {
	t.Helper()
	rows, err := l.conn.Query(t.Context(), `select i.id, k.name, i.at, i.fired_at, i.task_id, i.skipped
		from pgqueue.tick i join pgqueue.ticker k on k.id = i.ticker_id where i.id > $1 order by i.id`, l.last)
	if err != nil {
		t.Fatal(err)
	}
	more, err := pgx.CollectRows(rows, pgx.RowToStructByPos[firedTick])
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	for _, k := range l.all[max(0, len(l.all)-10_000):] {
		seen[k.ID] = true
	}
	for _, k := range more {
		if !seen[k.ID] {
			l.all = append(l.all, k)
		}
	}
	// Ids are given before they are committed: look a while back the next time.
	if n := len(l.all); n > 5_000 {
		l.last = l.all[n-5_000].ID
	}
}

// makeTicker creates a ticker of queue mail that makes up for every tick it missed.
func makeTicker(t *testing.T, s *postgres.Store, name string, period time.Duration) *queue.Ticker {
	t.Helper()
	all, limit, mail := queue.MisfireAll, queue.MaxMisfireLimit, "mail"
	k, err := queue.NewTicker("tests", queue.TickerMeta{Name: name, Period: &period, Queue: &mail, Misfire: &all, MisfireLimit: &limit}, queue.DefaultMaxPayloadBytes)
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.CreateTicker(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// epoch is a stretch of a ticker's life with one schedule: its times are anchor + n x period, up to the next epoch's anchor.
type epoch struct {
	anchor time.Time
	period time.Duration
}

// tickRun is processes that fire tickers, and what is known of both.
type tickRun struct {
	*testing.T
	s         *postgres.Store
	dsn       string
	present   []*child
	tickers   []string
	epochs    map[string][]epoch
	ledger    *tickLedger
	disturbed int
}

// TestTickersOfManyProcesses has processes fire the same tickers: no tick is lost, doubled or early while processes die and
// tickers change. The test logs how late they are; that decides nothing.
func TestTickersOfManyProcesses(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	processes, tickers := sized(t, 3, 8), sized(t, 30, 200)
	for _, c := range []struct {
		name        string
		short, long time.Duration
		disturb     func(*tickRun)
	}{
		{"killed at random", 6 * time.Second, time.Minute, (*tickRun).kill},
		{"of tickers that are updated meanwhile", 3 * time.Second, time.Minute, (*tickRun).update},
		{"left alone", 3 * time.Second, time.Minute, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			long := sized(t, c.short, c.long)
			r := &tickRun{T: t, dsn: postgrestest.URL(t), present: make([]*child, processes), epochs: map[string][]epoch{}}
			r.s = postgrestest.OpenURL(t, r.dsn)
			r.ledger = &tickLedger{conn: connect(t, r.dsn)}
			makeQueue(t, r.s, "tests", "mail")
			for i := range r.present {
				r.present[i] = spawn(t, "ticker", r.dsn)
				r.present[i].hear(t)
			}
			for i := range tickers {
				period := 100*time.Millisecond + time.Duration(i)*1900*time.Millisecond/time.Duration(tickers)
				k := makeTicker(t, r.s, fmt.Sprintf("t%d", i), period.Round(time.Millisecond))
				r.tickers = append(r.tickers, k.Name)
				r.epochs[k.Name] = []epoch{{k.Anchor, k.Period}}
			}
			var worked func() map[int64]time.Time
			if c.disturb == nil {
				worked = r.work()
			}
			for end := time.Now().Add(long); time.Now().Before(end); {
				time.Sleep(time.Duration(200+rand.IntN(400)) * time.Millisecond) // between two disturbances
				if c.disturb != nil {
					c.disturb(r)
				}
				r.ledger.gather(t)
			}
			end := value[time.Time](t, r.ledger.conn, "select pgqueue.clock()")
			for _, c := range r.present {
				c.signal(t, os.Kill)
			}
			// The ticks due when the last process died. A session that has not noticed the death yet holds its tickers for a moment.
			waitFor(t, func() (bool, string) {
				if _, err := r.s.Maintain(t.Context(), queue.ChoreTick); err != nil {
					t.Fatal(err)
				}
				due := value[int](t, r.ledger.conn, "select count(*) from pgqueue.ticker where next_at <= $1", end)
				return due == 0, fmt.Sprintf("%d tickers are due", due)
			})
			r.ledger.gather(t)
			r.judge(long)
			t.Logf("%d ticks of %d tickers by %d processes; %d disturbances", len(r.ledger.all), tickers, processes, r.disturbed)
			if worked != nil {
				r.tellLateness(end.Add(-time.Second), worked())
			}
		})
	}
}

// kill kills a process, and another takes its place.
func (r *tickRun) kill() {
	i := rand.IntN(len(r.present))
	r.present[i].signal(r.T, os.Kill)
	r.disturbed++
	r.present[i] = spawn(r.T, "ticker", r.dsn)
}

// update changes some tickers: the schedule of some, the payload of others.
func (r *tickRun) update() {
	for range len(r.tickers) / 5 {
		name := r.tickers[rand.IntN(len(r.tickers))]
		meta := queue.TickerMeta{Payload: fmt.Appendf(nil, `{"update":%d}`, r.disturbed)}
		if rand.IntN(2) == 0 {
			period := time.Duration(100+rand.IntN(1900)) * time.Millisecond
			meta.Period = &period
		}
		k, err := r.s.UpdateTicker(r.Context(), "tests", name, meta, queue.DefaultMaxPayloadBytes)
		if err != nil {
			r.Fatal(err)
		}
		if last := r.epochs[name][len(r.epochs[name])-1]; !k.Anchor.Equal(last.anchor) {
			r.epochs[name] = append(r.epochs[name], epoch{k.Anchor, k.Period})
		}
		r.disturbed++
	}
}

// work retains the tasks of ticks as a worker that waits for them, until the returned function is called; it gives when
// each task was retained, by the database's clock.
func (r *tickRun) work() func() map[int64]time.Time {
	m, err := manager.New(postgrestest.OpenURL(r.T, r.dsn), manager.WithNamespace("tests"), manager.WithBackgroundWork(false))
	if err != nil {
		r.Fatal(err)
	}
	ctx, end := context.WithCancel(r.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }() // for its ears
	started := make(chan map[int64]time.Time, 1)
	go func() {
		at := map[int64]time.Time{}
		defer func() { started <- at }()
		for ctx.Err() == nil {
			tasks, err := m.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 100, Wait: 5 * time.Second})
			if err != nil && ctx.Err() == nil {
				r.Error(err)
				return
			}
			for _, task := range tasks {
				at[task.ID] = task.StartedAt
			}
		}
	}()
	return func() map[int64]time.Time {
		end()
		if err := errorsOf(<-ran, m.Close(context.WithoutCancel(r.Context()))); err != nil {
			r.Error(err)
		}
		return <-started
	}
}

// judge holds the ticks to the schedules.
func (r *tickRun) judge(long time.Duration) {
	r.Helper()
	fired := map[string]map[int64]bool{} // by nominal time
	tasks := map[int64]bool{}
	for _, name := range r.tickers {
		fired[name] = map[int64]bool{}
	}
	for _, k := range r.ledger.all {
		at := k.At.UnixMicro()
		switch {
		case fired[k.Ticker][at]:
			r.Errorf("ticker %s fired twice for %v", k.Ticker, k.At)
		case k.Skipped || k.TaskID == nil || tasks[*k.TaskID]:
			r.Errorf("the tick of %s at %v has no task of its own", k.Ticker, k.At)
		case k.Fired.Before(k.At):
			r.Errorf("ticker %s fired at %v for %v: early", k.Ticker, k.Fired, k.At)
		default:
			tasks[*k.TaskID] = true
		}
		fired[k.Ticker][at] = true
	}
	for _, name := range r.tickers {
		now, err := r.s.GetTicker(r.Context(), "tests", name)
		if err != nil {
			r.Fatal(err)
		}
		epochs := r.epochs[name]
		last := epochs[len(epochs)-1]
		if end := epochs[0].anchor.Add(long); now.NextAt.Before(end) {
			r.Errorf("ticker %s fires next at %v, before the end of the run, %v", name, now.NextAt, end)
		}
		if now.Timestamp.After(last.anchor) && !now.NextAt.Equal(now.Timestamp.Add(last.period)) {
			r.Errorf("ticker %s fires next at %v after %v: it drifts", name, now.NextAt, now.Timestamp)
		}
		want := 0
		for i, e := range epochs {
			end := now.NextAt.Add(-1)
			if i+1 < len(epochs) {
				end = epochs[i+1].anchor
			}
			for at := e.anchor.Add(e.period); !at.After(end); at = at.Add(e.period) {
				want++
				if !fired[name][at.UnixMicro()] {
					r.Errorf("ticker %s lost its tick at %v, of every %v from %v", name, at, e.period, e.anchor)
				}
			}
		}
		if n := len(fired[name]); n != want {
			r.Errorf("ticker %s fired for %d times, %d were due", name, n, want)
		}
	}
	total := totals(r.T, r.s)
	if n := total[queue.StatusNew] + total[queue.StatusRetained]; n != int64(len(r.ledger.all)) {
		r.Errorf("%d ticks made %d tasks", len(r.ledger.all), n)
	}
	recounted(r.T, r.s)
}

// tellLateness logs by how much ticks fired after their nominal times, and by how much a waiting worker had their tasks
// after them, up to an end. The first second is left out: the tickers were just made.
func (r *tickRun) tellLateness(end time.Time, retained map[int64]time.Time) {
	r.Helper()
	var fire, have []time.Duration
	for _, k := range r.ledger.all {
		if k.At.Before(r.epochs[k.Ticker][0].anchor.Add(time.Second)) || k.At.After(end) || k.TaskID == nil {
			continue
		}
		fire = append(fire, k.Fired.Sub(k.At))
		if at, ok := retained[*k.TaskID]; ok {
			have = append(have, at.Sub(k.At))
		}
	}
	for what, all := range map[string][]time.Duration{"fired": fire, "was with a worker": have} {
		if len(all) == 0 {
			continue
		}
		slices.Sort(all)
		p := func(share float64) time.Duration {
			return all[int(share*float64(len(all)-1))].Round(10 * time.Microsecond)
		}
		r.Logf("a tick %s after its time by p50 %v, p90 %v, p99 %v, p99.9 %v, at most %v (%d ticks)", what, p(.5), p(.9), p(.99), p(.999), p(1), len(all))
	}
}

// TestManyTickers holds the look for due tickers to its index.
func TestManyTickers(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeTicker(t, s, "first", time.Hour)
	conn := connect(t, dsn)
	sql(t, conn, `insert into pgqueue.ticker (id, namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused,
			payload_bytes, next_at, due_at, planned_at, anchor, created_at, updated_at)
		select nextval('pgqueue.number'), namespace, 't' || i, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused,
			payload_bytes, next_at + i * interval '1 ms', next_at + i * interval '1 ms', planned_at, anchor + i * interval '1 ms', created_at, updated_at
		from pgqueue.ticker, generate_series(1, 10000) i`)
	pooled, err := s.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pooled.Release()
	for _, statistics := range []string{"that were never analyzed", "that are analyzed"} {
		t.Run("finding none due among 10,000 tickers "+statistics+" touches a few buffers", func(t *testing.T) {
			if statistics == "that are analyzed" {
				sql(t, conn, "analyze")
			}
			p := newPlanner(t, pooled.Conn())
			for name, args := range map[string][]string{"ticker.due": {"200", "8388608"}, "ticker.next": {}, "ticker.due.listen": {"'tests'", "200", "8388608"}, "ticker.next.listen": {"'tests'"}} {
				got := p.explain(t, name, true, args...)
				if n := got.buffers(); n > 12 || len(got.scans()) > 0 {
					t.Errorf("%s touches %d buffers by %v", name, n, got.indexes())
				}
			}
			p.forget(t)
		})
	}
	t.Run("a look says when the next is due", func(t *testing.T) {
		m, err := s.Maintain(t.Context(), queue.ChoreTick)
		if err != nil || m.Moved != 0 || m.More || m.NextIn < 59*time.Minute {
			t.Fatalf("%+v, %v", m, err)
		}
	})
	t.Run("an idle process asks once a second", func(t *testing.T) {
		counted := &countTicks{Store: s, asked: make(chan time.Time, 100)}
		m, err := manager.New(counted, manager.WithNamespace("tests"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx) }()
		first := <-counted.asked
		for n := 1; n <= 3; n++ {
			if at := <-counted.asked; at.Sub(first) < time.Duration(n)*900*time.Millisecond {
				t.Errorf("look %d came after %v", n, at.Sub(first))
			}
		}
		end()
		if err := errorsOf(<-ran, m.Close(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
	})
	t.Run("all of them fire when they are due, each once", func(t *testing.T) {
		postgrestest.Advance(t, s, time.Hour+time.Minute)
		for more := true; more; {
			m, err := s.Maintain(t.Context(), queue.ChoreTick)
			if err != nil {
				t.Fatal(err)
			}
			more = m.More
		}
		if total := totals(t, s); total[queue.StatusNew] != 10_001 {
			t.Errorf("10,001 tickers made %d tasks", total[queue.StatusNew])
		}
		recounted(t, s)
	})
}

// countTicks counts the looks for due tickers.
type countTicks struct {
	queue.Store
	asked chan time.Time
}

func (c *countTicks) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	if chore == queue.ChoreTick {
		c.asked <- time.Now()
	}
	return c.Store.Maintain(ctx, chore)
}
