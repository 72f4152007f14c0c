package postgrestest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
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

// firedTick is a tick as its row tells.
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

// TestTickersOfKilledProcesses kills the processes that fire tickers at random: no tick is lost, doubled or early.
func TestTickersOfKilledProcesses(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	processes, tickers, long := sized(t, 3, 8), sized(t, 30, 200), sized(t, 6*time.Second, time.Minute)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	makeQueue(t, s, "tests", "mail")
	present := make([]*child, processes)
	for i := range present {
		present[i] = spawn(t, "ticker", dsn)
		present[i].hear(t)
	}
	byName := map[string]*queue.Ticker{}
	for i := range tickers {
		period := 100*time.Millisecond + time.Duration(i)*1900*time.Millisecond/time.Duration(tickers)
		k := makeTicker(t, s, fmt.Sprintf("t%d", i), period.Round(time.Millisecond))
		byName[k.Name] = k
	}
	ledger := &tickLedger{conn: connect(t, dsn)}
	killed := 0
	for end := time.Now().Add(long); time.Now().Before(end); {
		time.Sleep(time.Duration(200+rand.IntN(400)) * time.Millisecond) // between two murders
		i := rand.IntN(processes)
		present[i].signal(t, os.Kill)
		killed++
		present[i] = spawn(t, "ticker", dsn)
		ledger.gather(t)
	}
	for _, c := range present {
		c.signal(t, os.Kill)
	}
	for more := true; more; { // what was due when the last of them died
		m, err := s.Maintain(t.Context(), queue.ChoreTick)
		if err != nil {
			t.Fatal(err)
		}
		more = m.More
	}
	ledger.gather(t)

	at := map[string]map[int64]bool{}
	tasks := map[int64]bool{}
	for _, k := range ledger.all {
		ticker := byName[k.Ticker]
		if at[k.Ticker] == nil {
			at[k.Ticker] = map[int64]bool{}
		}
		since := k.At.Sub(ticker.Anchor)
		n := int64(since / ticker.Period)
		switch {
		case since%ticker.Period != 0 || n < 1:
			t.Errorf("ticker %s fired for %v, which is no time of it", k.Ticker, k.At)
		case at[k.Ticker][n]:
			t.Errorf("ticker %s fired twice for %v", k.Ticker, k.At)
		case k.Skipped || k.TaskID == nil || tasks[*k.TaskID]:
			t.Errorf("the tick of %s at %v has no task of its own", k.Ticker, k.At)
		case k.Fired.Before(k.At):
			t.Errorf("ticker %s fired at %v for %v: early", k.Ticker, k.Fired, k.At)
		default:
			tasks[*k.TaskID] = true
		}
		at[k.Ticker][n] = true
	}
	for name, ticker := range byName {
		now, err := s.GetTicker(t.Context(), "tests", name)
		if err != nil {
			t.Fatal(err)
		}
		last := int64(now.Timestamp.Sub(ticker.Anchor) / ticker.Period)
		if least := int64(long / ticker.Period); last < least {
			t.Errorf("ticker %s fired %d times in %v, %d are due", name, last, long, least)
		}
		for n := int64(1); n <= last; n++ {
			if !at[name][n] {
				t.Errorf("ticker %s lost its tick %d of %d", name, n, last)
			}
		}
		if next := now.Timestamp.Add(ticker.Period); !now.NextAt.Equal(next) {
			t.Errorf("ticker %s fires next at %v, want %v: it drifts", name, now.NextAt, next)
		}
	}
	total := totals(t, s)
	if total[queue.StatusNew] != int64(len(ledger.all)) {
		t.Errorf("%d ticks made %d tasks", len(ledger.all), total[queue.StatusNew])
	}
	recounted(t, s)
	t.Logf("%d ticks of %d tickers; %d processes were killed", len(ledger.all), tickers, killed)
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
	sql(t, conn, `insert into pgqueue.ticker (namespace, name, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused,
			next_at, anchor, created_at, updated_at)
		select namespace, 't' || i, period, cron, timezone, queue, payload, misfire, misfire_limit, overlap, paused,
			next_at + i * interval '1 ms', anchor + i * interval '1 ms', created_at, updated_at
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
			for name, args := range map[string][]string{"ticker.due": {"200"}, "ticker.next": {}, "ticker.due.listen": {"200", "'tests'"}, "ticker.next.listen": {"'tests'"}} {
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

// countTicks tells of each look for due tickers.
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
