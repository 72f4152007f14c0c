package queuetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func (v *svc) ticker(meta queue.TickerMeta) *queue.Ticker {
	v.Helper()
	t, err := v.s.CreateTicker(v.ctx(), meta)
	v.ok(err)
	return t
}

func serveTickers(v *svc) {
	v.it("a ticker has the contract's defaults", func(v *svc) {
		t := v.ticker(queue.TickerMeta{Name: " Hourly ", Period: new(time.Hour)})
		v.equal("ticker", []any{t.Name, t.Namespace, t.Period, t.Cron, t.Queue, string(t.Payload), t.Misfire, t.MisfireLimit, t.Overlap, t.Paused, t.Version},
			[]any{"hourly", v.s.Namespace(), time.Hour, "", "", "{}", queue.MisfireOnce, 100, queue.OverlapAllow, false, int64(1)})
		sameTime(v, "next_at", t.NextAt, t.CreatedAt.Add(time.Hour))
		if !t.Timestamp.IsZero() {
			v.Fatalf("timestamp is %v before the first tick", t.Timestamp)
		}
	})
	v.it("a ticker keeps every field that is set", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.ticker(queue.TickerMeta{
			Name: "t", Cron: new("30 2 * * MON-FRI"), Timezone: new("Europe/Berlin"), Queue: new("Q"), Payload: []byte(`{"a": 1.0}`),
			Misfire: new(queue.MisfireAll), MisfireLimit: new(7), Overlap: new(queue.OverlapSkip), Paused: new(true),
		})
		t, err := v.s.GetTicker(v.ctx(), "T")
		v.ok(err)
		v.equal("ticker", []any{t.Cron, t.Timezone, t.Queue, string(t.Payload), t.Misfire, t.MisfireLimit, t.Overlap, t.Paused},
			[]any{"30 2 * * MON-FRI", "Europe/Berlin", "q", `{"a": 1.0}`, queue.MisfireAll, 7, queue.OverlapSkip, true})
		if !t.NextAt.IsZero() {
			v.Fatalf("a paused ticker fires at %v", t.NextAt)
		}
	})
	v.it("create refuses a name that is taken, register updates it", func(v *svc) {
		v.ticker(queue.TickerMeta{Name: "t", Period: new(time.Hour), Payload: []byte(`1`)})
		_, err := v.s.CreateTicker(v.ctx(), queue.TickerMeta{Name: "t", Period: new(time.Hour)})
		v.kind(err, queue.KindAlreadyExists)
		t, err := v.s.RegisterTicker(v.ctx(), queue.TickerMeta{Name: "t", Cron: new("@daily")})
		v.ok(err)
		v.equal("cron, period, payload", []any{t.Cron, t.Period, string(t.Payload)}, []any{"@daily", time.Duration(0), "1"})
		t, err = v.s.RegisterTicker(v.ctx(), queue.TickerMeta{Name: "fresh", Period: new(time.Minute)})
		v.ok(err)
		v.equal("period", t.Period, time.Minute)
		_, err = v.s.CreateTicker(v.ctx(), queue.TickerMeta{Name: "u", Period: new(time.Hour), Queue: new("none")})
		v.kind(err, queue.KindNotFound)
	})
	v.it("a bad schedule is refused with the field at fault", func(v *svc) {
		for _, c := range []struct {
			field string
			meta  queue.TickerMeta
		}{
			{"period", queue.TickerMeta{}},
			{"period", queue.TickerMeta{Period: new(time.Hour), Cron: new("@daily")}},
			{"period", queue.TickerMeta{Period: new(99 * time.Millisecond)}},
			{"period", queue.TickerMeta{Period: new(-time.Hour)}},
			{"timezone", queue.TickerMeta{Cron: new("@daily"), Timezone: new("Mars/Olympus")}},
			{"cron", queue.TickerMeta{Cron: new("0 0 30 2 *")}},
			{"cron", queue.TickerMeta{Cron: new(long(10_000))}},
			{"cron", queue.TickerMeta{Cron: new("TZ=UTC 0 0 * * *")}},
			{"misfire", queue.TickerMeta{Period: new(time.Hour), Misfire: new(queue.Misfire("never"))}},
			{"misfire_limit", queue.TickerMeta{Period: new(time.Hour), MisfireLimit: new(queue.MaxMisfireLimit + 1)}},
			{"overlap", queue.TickerMeta{Period: new(time.Hour), Overlap: new(queue.Overlap("maybe"))}},
			{"payload", queue.TickerMeta{Period: new(time.Hour), Payload: []byte(`{`)}},
			{"queue", queue.TickerMeta{Period: new(time.Hour), Queue: new("1")}},
		} {
			c.meta.Name = "t"
			_, err := v.s.CreateTicker(v.ctx(), c.meta)
			v.invalid(err, queue.KindInvalid, c.field)
		}
		_, err := v.s.CreateTicker(v.ctx(), queue.TickerMeta{Name: "next", Period: new(time.Hour)})
		v.invalid(err, queue.KindInvalid, "ticker")
		page, err := v.s.ListTickers(v.ctx(), queue.Page{})
		v.ok(err)
		v.equal("tickers", page.Count, int64(0))
	})
	v.it("an update changes what it names, for the version it names", func(v *svc) {
		made := v.ticker(queue.TickerMeta{Name: "t", Period: new(time.Hour), Payload: []byte(`1`)})
		t, err := v.s.UpdateTicker(v.ctx(), "t", queue.TickerMeta{Payload: []byte(`2`), IfVersion: made.Version})
		v.ok(err)
		v.equal("payload, period, version", []any{string(t.Payload), t.Period, t.Version}, []any{"2", time.Hour, int64(2)})
		sameTime(v, "next_at", t.NextAt, made.NextAt)
		_, err = v.s.UpdateTicker(v.ctx(), "t", queue.TickerMeta{Payload: []byte(`3`), IfVersion: made.Version})
		v.kind(err, queue.KindPrecondition)
		was, err := v.s.DeleteTicker(v.ctx(), "t")
		v.ok(err)
		v.equal("payload", string(was.Payload), "2")
		_, err = v.s.GetTicker(v.ctx(), "t")
		v.kind(err, queue.KindNotFound)
	})
	v.it("a run and a delete are for the version they name", func(v *svc) {
		made := v.ticker(queue.TickerMeta{Name: "t", Period: new(time.Hour)})
		t, err := v.s.UpdateTicker(v.ctx(), "t", queue.TickerMeta{Payload: []byte(`2`)})
		v.ok(err)

		_, err = v.s.RunTicker(v.ctx(), "t", queue.IfVersion(made.Version))
		v.invalid(err, queue.KindPrecondition, "version")
		_, err = v.s.DeleteTicker(v.ctx(), "t", queue.IfVersion(made.Version))
		v.invalid(err, queue.KindPrecondition, "version")
		ticks, err := v.s.ListTicks(v.ctx(), "t", 10)
		v.ok(err)
		v.equal("ticks", len(ticks), 0)

		_, err = v.s.RunTicker(v.ctx(), "t", queue.IfVersion(t.Version))
		v.ok(err)
		_, err = v.s.DeleteTicker(v.ctx(), "t", queue.IfVersion(t.Version))
		v.ok(err)
	})
	v.it("a ticker says why it made no task, and forgets it when it is updated", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.ticker(queue.TickerMeta{Name: "t", Period: new(time.Hour), Queue: new("q")})
		_, err := v.s.DeleteQueue(v.ctx(), "q")
		v.ok(err)
		v.pass(time.Hour + time.Minute)
		t, err := v.s.GetTicker(v.ctx(), "t")
		v.ok(err)
		page, err := v.s.ListTickers(v.ctx(), queue.Page{})
		v.ok(err)
		if !strings.Contains(t.Fault, "queue q") || page.Tickers[0].Fault != t.Fault {
			v.Fatalf("the ticker's fault is %q, in the list %q", t.Fault, page.Tickers[0].Fault)
		}
		t, err = v.s.UpdateTicker(v.ctx(), "t", queue.TickerMeta{Paused: new(true)})
		v.ok(err)
		v.equal("fault", t.Fault, "")
	})
	v.it("tickers are listed by name, by pages", func(v *svc) {
		for _, n := range []string{"c", "a", "b"} {
			v.ticker(queue.TickerMeta{Name: n, Period: new(time.Hour)})
		}
		page, err := v.s.ListTickers(v.ctx(), queue.Page{Limit: 2, Offset: 1})
		v.ok(err)
		v.equal("count, names", []any{page.Count, page.Tickers[0].Name, page.Tickers[1].Name}, []any{int64(3), "b", "c"})
	})
	v.it("the next fires of all tickers come in their order, with a bound", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		slow := v.ticker(queue.TickerMeta{Name: "slow", Period: new(3 * time.Hour), Queue: new("q")})
		fast := v.ticker(queue.TickerMeta{Name: "fast", Period: new(2 * time.Hour)})
		v.ticker(queue.TickerMeta{Name: "paused", Period: new(time.Hour), Paused: new(true)})

		u, err := v.s.UpcomingTicks(v.ctx(), queue.UpcomingQuery{Until: slow.NextAt.Add(2 * time.Hour)})
		v.ok(err)
		var names []string
		for _, tick := range u.Ticks {
			names = append(names, tick.Ticker)
		}
		v.equal("names, more", []any{names, u.More}, []any{[]string{"fast", "slow", "fast"}, false})
		v.equal("queues", []string{u.Ticks[0].Queue, u.Ticks[1].Queue}, []string{"", "q"})
		sameTime(v, "first", u.Ticks[0].At, fast.NextAt)
		sameTime(v, "second", u.Ticks[1].At, slow.NextAt)
		sameTime(v, "third", u.Ticks[2].At, fast.NextAt.Add(2*time.Hour))
		sameTime(v, "until", u.Until, slow.NextAt.Add(2*time.Hour))

		u, err = v.s.UpcomingTicks(v.ctx(), queue.UpcomingQuery{Limit: 100, PerTicker: 1})
		v.ok(err)
		perTicker := map[string]int{}
		for _, tick := range u.Ticks {
			perTicker[tick.Ticker]++
			v.equal("fires of "+tick.Ticker, perTicker[tick.Ticker], 1)
		}
		u, err = v.s.UpcomingTicks(v.ctx(), queue.UpcomingQuery{Limit: 5})
		v.ok(err)
		v.equal("number, more", []any{len(u.Ticks), u.More}, []any{5, true})
		for _, limit := range []int{-1, queue.MaxPreview + 1} {
			_, err = v.s.UpcomingTicks(v.ctx(), queue.UpcomingQuery{Limit: limit})
			v.invalid(err, queue.KindInvalid, "limit")
		}
		_, err = v.s.UpcomingTicks(v.ctx(), queue.UpcomingQuery{Until: time.Now().Add(queue.MaxDuration + time.Hour)})
		v.invalid(err, queue.KindInvalid, "until")
	})
	v.it("a preview gives the next fires", func(v *svc) {
		made := v.ticker(queue.TickerMeta{Name: "t", Period: new(time.Hour)})
		fires, err := v.s.PreviewTicker(v.ctx(), "t", 5)
		v.ok(err)
		v.equal("fires", len(fires), 5)
		for i, at := range fires {
			sameTime(v, "fire", at, made.Anchor.Add(time.Duration(i+1)*time.Hour))
		}
		_, err = v.s.PreviewTicker(v.ctx(), "t", queue.MaxPreview+1)
		v.invalid(err, queue.KindInvalid, "n")
		_, err = v.s.PreviewTicker(v.ctx(), "none", 1)
		v.kind(err, queue.KindNotFound)
	})
	v.it("each tick becomes one task, and run now makes one beside the schedule", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		made := v.ticker(queue.TickerMeta{Name: "t", Period: new(10 * time.Hour), Queue: new("q"), Payload: []byte(`[1]`)})
		v.pass(10*time.Hour + time.Minute)
		ticks, err := v.s.ListTicks(v.ctx(), "t", 10)
		v.ok(err)
		v.equal("ticks", len(ticks), 1)
		sameTime(v, "nominal time", ticks[0].At, made.NextAt)
		t := v.hold("q")
		v.equal("task, payload", []any{t.ID, string(t.Payload)}, []any{ticks[0].TaskID, "[1]"})
		tick, err := v.s.RunTicker(v.ctx(), "t")
		v.ok(err)
		v.equal("manual, ticker, queue", []any{tick.Manual, tick.Ticker, tick.Queue}, []any{true, "t", "q"})
		v.equal("task", v.hold("q").ID, tick.TaskID)
		now, err := v.s.GetTicker(v.ctx(), "t")
		v.ok(err)
		sameTime(v, "timestamp", now.Timestamp, made.NextAt)
		sameTime(v, "next_at", now.NextAt, made.NextAt.Add(10*time.Hour))
		ticks, err = v.s.ListTicks(v.ctx(), "t", 1)
		v.ok(err)
		v.equal("newest tick", []any{len(ticks), ticks[0].ID}, []any{1, tick.ID})
	})
}

func serveTickerLoops(v *svc) {
	v.it("a loop gets the ticks of tickers without a queue, in their order, at their times", func(v *svc) {
		made := v.ticker(queue.TickerMeta{Name: "t", Period: new(queue.MinPeriod), Payload: []byte(`{"a": 1}`), Misfire: new(queue.MisfireAll)})
		got := make(chan queue.Tick, 100)
		end := v.during(func(ctx context.Context) error {
			return v.s.RunTickerLoop(ctx, func(_ context.Context, tick queue.Tick) error {
				got <- tick
				return nil
			})
		})
		for i := range 4 {
			tick := receive(v, got)
			sameTime(v, "nominal time", tick.At, made.Anchor.Add(time.Duration(i+1)*queue.MinPeriod))
			v.equal("tick", []any{tick.Ticker, tick.Namespace, string(tick.Payload), tick.Period, tick.TaskID},
				[]any{"t", v.s.Namespace(), `{"a": 1}`, queue.MinPeriod, int64(0)})
		}
		_, err := v.s.DeleteTicker(v.ctx(), "t")
		v.ok(err)
		v.endsCanceled(end())
	})
	v.it("a tick goes to exactly one of many loops", func(v *svc) {
		v.ticker(queue.TickerMeta{Name: "t", Cron: new("@yearly")})
		got := make(chan int64, 100)
		for range 3 {
			v.during(func(ctx context.Context) error {
				return v.s.RunTickerLoop(ctx, func(_ context.Context, tick queue.Tick) error {
					got <- tick.ID
					return nil
				})
			})
		}
		seen := map[int64]bool{}
		for range 12 {
			tick, err := v.s.RunTicker(v.ctx(), "t")
			v.ok(err)
			id := receive(v, got)
			if id != tick.ID || seen[id] {
				v.Fatalf("tick %d came, want %d; seen %v", id, tick.ID, seen)
			}
			seen[id] = true
		}
	})
	v.it("a tick that no loop is there for waits for one", func(v *svc) {
		v.ticker(queue.TickerMeta{Name: "t", Cron: new("@yearly")})
		tick, err := v.s.RunTicker(v.ctx(), "t")
		v.ok(err)
		got := make(chan int64, 10)
		v.during(func(ctx context.Context) error {
			return v.s.RunTickerLoop(ctx, func(_ context.Context, tick queue.Tick) error {
				got <- tick.ID
				return nil
			})
		})
		v.equal("tick", receive(v, got), tick.ID)
	})
	v.it("a tick with a failing handler goes to the next listener", func(v *svc) {
		v.ticker(queue.TickerMeta{Name: "t", Cron: new("@yearly")})
		got := make(chan int64, 10)
		var once sync.Once
		for range 2 {
			v.during(func(ctx context.Context) error {
				return v.s.RunTickerLoop(ctx, func(_ context.Context, tick queue.Tick) (err error) {
					once.Do(func() { err = errors.New("not today") })
					got <- tick.ID
					return err
				})
			})
		}
		tick, err := v.s.RunTicker(v.ctx(), "t")
		v.ok(err)
		v.equal("first", receive(v, got), tick.ID)
		v.equal("second", receive(v, got), tick.ID)
	})
	v.it("loops of one namespace get nothing of another's", func(v *svc) {
		other := *v
		other.s = v.in(v.s.Namespace() + "-other")
		v.ticker(queue.TickerMeta{Name: "t", Cron: new("@yearly")})
		other.ticker(queue.TickerMeta{Name: "t", Cron: new("@yearly")})
		got := make(chan string, 10)
		v.during(func(ctx context.Context) error {
			return v.s.RunTickerLoop(ctx, func(_ context.Context, tick queue.Tick) error {
				got <- tick.Namespace
				return nil
			})
		})
		_, err := other.s.RunTicker(v.ctx(), "t")
		v.ok(err)
		_, err = v.s.RunTicker(v.ctx(), "t")
		v.ok(err)
		v.equal("namespace", receive(v, got), v.s.Namespace())
		v.equal("more", len(got), 0)
	})
}

// endsCanceled checks that the end of its context ended a stream.
func (v *svc) endsCanceled(err error) {
	v.Helper()
	if !errors.Is(err, context.Canceled) && queue.KindOf(err) != queue.KindCanceled {
		v.Fatalf("it ended with %v", err)
	}
}
