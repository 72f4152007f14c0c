package queuetest

import (
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func (e *env) tryTicker(name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	e.Helper()
	meta.Name = name
	t, err := queue.NewTicker(e.ns, meta, queue.DefaultMaxPayloadBytes)
	e.ok(err)
	return e.s.CreateTicker(e.ctx(), t)
}

func (e *env) ticker(name string, meta queue.TickerMeta) *queue.Ticker {
	e.Helper()
	t, err := e.tryTicker(name, meta)
	e.ok(err)
	return t
}

func (e *env) tryUpdateTicker(name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	e.Helper()
	return e.s.UpdateTicker(e.ctx(), e.ns, name, meta, queue.DefaultMaxPayloadBytes)
}

func (e *env) updateTicker(name string, meta queue.TickerMeta) *queue.Ticker {
	e.Helper()
	t, err := e.tryUpdateTicker(name, meta)
	e.ok(err)
	return t
}

func (e *env) getTicker(name string) *queue.Ticker {
	e.Helper()
	t, err := e.s.GetTicker(e.ctx(), e.ns, name)
	e.ok(err)
	return t
}

func (e *env) ticks(name string) []queue.Tick {
	e.Helper()
	ticks, err := e.s.ListTicks(e.ctx(), e.ns, name, 100)
	e.ok(err)
	return ticks
}

func (e *env) take(limit int, hold time.Duration) []queue.Tick {
	e.Helper()
	ticks, _, err := e.s.TakeTicks(e.ctx(), e.ns, limit, hold)
	e.ok(err)
	return ticks
}

func testTickers(e *env) {
	e.it("a ticker is kept as it was made, and says when it fires next", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.ticker("t", queue.TickerMeta{
			Cron: new("30 2 * * MON-FRI"), Timezone: new("Europe/Berlin"), Queue: new("q"), Payload: []byte(`{"a": 1.0}`),
			Misfire: new(queue.MisfireAll), MisfireLimit: new(7), Overlap: new(queue.OverlapSkip),
		})
		sch, err := made.Schedule()
		e.ok(err)
		next, _ := sch.Next(made.Anchor, made.Anchor)
		e.equal("next_at", made.NextAt.UTC(), next)
		e.equal("payload", string(made.Payload), `{"a": 1.0}`)
		e.equal("policy", []any{made.Misfire, made.MisfireLimit, made.Overlap, made.Queue, made.Timezone, made.Version},
			[]any{queue.MisfireAll, 7, queue.OverlapSkip, "q", "Europe/Berlin", int64(1)})
		if !made.Timestamp.IsZero() || made.CreatedAt.IsZero() {
			e.Fatalf("ticker is %+v", made)
		}
		e.equal("ticker read back", e.getTicker("t"), made)
	})
	e.it("a period counts from its creation", func(e *env) {
		made := e.ticker("t", queue.TickerMeta{Period: new(3 * time.Hour)})
		if !made.NextAt.Equal(made.Anchor.Add(3 * time.Hour)) {
			e.Fatalf("anchor %v, next %v", made.Anchor, made.NextAt)
		}
		e.near("anchor", made.Anchor, e.now(), aWhile)
		e.equal("payload", string(made.Payload), "{}")
	})
	e.it("a name that is taken, an unknown queue and an unknown ticker are refused", func(e *env) {
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour)})
		_, err := e.tryTicker("t", queue.TickerMeta{Period: new(time.Hour)})
		e.kind(err, queue.KindAlreadyExists)
		e.subject(err, "ticker t", "")
		_, err = e.tryTicker("u", queue.TickerMeta{Period: new(time.Hour), Queue: new("none")})
		e.kind(err, queue.KindNotFound)
		e.subject(err, "queue none", "")
		_, err = e.tryUpdateTicker("t", queue.TickerMeta{Queue: new("none")})
		e.kind(err, queue.KindNotFound)
		for _, f := range []func() error{
			func() error { _, err := e.s.GetTicker(e.ctx(), e.ns, "none"); return err },
			func() error { _, err := e.tryUpdateTicker("none", queue.TickerMeta{}); return err },
			func() error { _, err := e.s.DeleteTicker(e.ctx(), e.ns, "none"); return err },
			func() error { _, err := e.s.RunTicker(e.ctx(), e.ns, "none"); return err },
			func() error { _, err := e.s.ListTicks(e.ctx(), e.ns, "none", 1); return err },
		} {
			err := f()
			e.kind(err, queue.KindNotFound)
			e.subject(err, "ticker none", "")
		}
	})
	e.it("an update of the schedule counts from now, any other leaves the times", func(e *env) {
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour)})
		e.advance(4 * time.Hour)
		same := e.updateTicker("t", queue.TickerMeta{Payload: []byte(`1`), Misfire: new(queue.MisfireSkip)})
		e.equal("anchor, next", []time.Time{same.Anchor, same.NextAt}, []time.Time{made.Anchor, made.NextAt})
		e.equal("version, payload, misfire", []any{same.Version, string(same.Payload), same.Misfire}, []any{int64(2), "1", queue.MisfireSkip})
		moved := e.updateTicker("t", queue.TickerMeta{Period: new(7 * time.Hour)})
		e.near("anchor", moved.Anchor, made.Anchor.Add(4*time.Hour), aWhile)
		if !moved.NextAt.Equal(moved.Anchor.Add(7 * time.Hour)) {
			e.Fatalf("anchor %v, next %v", moved.Anchor, moved.NextAt)
		}
		cron := e.updateTicker("t", queue.TickerMeta{Cron: new("@hourly")})
		e.equal("period, cron", []any{cron.Period, cron.Cron}, []any{time.Duration(0), "@hourly"})
		if cron.NextAt.Sub(cron.Anchor) > time.Hour || cron.NextAt.Minute() != 0 {
			e.Fatalf("anchor %v, next %v", cron.Anchor, cron.NextAt)
		}
	})
	e.it("an update for another version, or against a rule, changes nothing", func(e *env) {
		made := e.ticker("t", queue.TickerMeta{Period: new(time.Hour)})
		_, err := e.tryUpdateTicker("t", queue.TickerMeta{IfVersion: 9, Payload: []byte(`1`)})
		e.kind(err, queue.KindPrecondition)
		_, err = e.tryUpdateTicker("t", queue.TickerMeta{Payload: []byte(`1`), Period: new(time.Millisecond)})
		e.kind(err, queue.KindInvalid)
		e.subject(err, "", "period")
		e.equal("ticker", e.getTicker("t"), made)
		e.updateTicker("t", queue.TickerMeta{IfVersion: 1, Payload: []byte(`1`)})
	})
	e.it("a run and a delete for another version of the ticker change nothing", func(e *env) {
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour)})
		made := e.updateTicker("t", queue.TickerMeta{Payload: []byte(`1`)})

		_, ran := e.s.RunTicker(e.ctx(), e.ns, "t", 1)
		_, deleted := e.s.DeleteTicker(e.ctx(), e.ns, "t", 1)
		for _, err := range []error{ran, deleted} {
			e.kind(err, queue.KindPrecondition)
			e.subject(err, "ticker t", "version")
		}
		e.equal("ticker", e.getTicker("t"), made)
		e.equal("ticks", len(e.ticks("t")), 0)

		_, err := e.s.RunTicker(e.ctx(), e.ns, "t", 2)
		e.ok(err)
		e.equal("ticks", len(e.ticks("t")), 1)
		_, err = e.s.DeleteTicker(e.ctx(), e.ns, "t", 2)
		e.ok(err)
		_, err = e.s.RunTicker(e.ctx(), e.ns, "t", 2)
		e.kind(err, queue.KindNotFound)
	})
	e.it("a list of tickers is in the order of names, by pages", func(e *env) {
		for _, n := range []string{"c", "a", "e", "b", "d"} {
			e.ticker(n, queue.TickerMeta{Period: new(time.Hour)})
		}
		var names []string
		for offset := 0; offset < 6; offset += 2 {
			page, err := e.s.ListTickers(e.ctx(), e.ns, queue.Page{Offset: offset, Limit: 2})
			e.ok(err)
			e.equal("count", page.Count, int64(5))
			for _, t := range page.Tickers {
				names = append(names, t.Name)
			}
		}
		e.equal("names", strings.Join(names, ""), "abcde")
	})
	e.it("a deleted ticker fires no more, and its tasks stay", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q")})
		e.pass(time.Hour + time.Minute)
		made := e.getTicker("t")
		was, err := e.s.DeleteTicker(e.ctx(), e.ns, "t")
		e.ok(err)
		e.equal("the ticker as it was", was, made)
		e.pass(10 * time.Hour)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
		again := e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q")})
		e.equal("ticks of the new one", len(e.ticks("t")), 0)
		e.equal("version", again.Version, int64(1))
	})
}

func testTicks(e *env) {
	e.it("each nominal time makes exactly one task, and none is early", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(1000 * time.Hour)})
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour), Queue: new("q"), Payload: []byte(`{"n": 1}`)})
		e.chores(queue.ChoreTick)
		e.counts("q", nil)
		for i := range 5 {
			e.advance(9 * time.Hour)
			e.chores(queue.ChoreTick)
			e.equal("early", len(e.ticks("t")), i)
			e.advance(time.Hour)
			m := e.chores(queue.ChoreTick)
			if !slices.ContainsFunc(m.Woken, func(w queue.Wake) bool { return w.Namespace == e.ns && w.Queue == "q" }) {
				e.Fatalf("woken are %v", m.Woken)
			}
			if !slices.Contains(m.Tallies, queue.Tally{Namespace: e.ns, Queue: "q", Is: queue.StatusNew, N: 1}) {
				e.Fatalf("tallies are %+v", m.Tallies)
			}
			for range 3 {
				e.equal("ticks of a step with nothing due", len(e.chores(queue.ChoreTick).Ticks), 0)
			}
			ticks := e.ticks("t")
			e.equal("the step's ticks", m.Ticks, ticks[:1])
			e.equal("ticks", len(ticks), i+1)
			want := made.Anchor.Add(time.Duration(i+1) * 10 * time.Hour) // without drift
			if !ticks[0].At.Equal(want) {
				e.Fatalf("nominal time is %v, want %v", ticks[0].At, want)
			}
			if ticks[0].FiredAt.Before(want) {
				e.Fatalf("fired at %v, before %v", ticks[0].FiredAt, want)
			}
			now := e.getTicker("t")
			if !now.Timestamp.Equal(want) || !now.NextAt.Equal(want.Add(10*time.Hour)) {
				e.Fatalf("timestamp %v, next %v", now.Timestamp, now.NextAt)
			}
			task := e.status(ticks[0].TaskID, queue.StatusNew)
			e.equal("queue, payload", []string{task.Queue, string(task.Payload)}, []string{"q", `{"n": 1}`})
		}
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 5})
		held := e.retain("w", 9, "q")
		e.equal("retained", len(held), 5)
	})
	e.it("a tick says what fired", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q"), Payload: []byte(`[1]`)})
		e.pass(time.Hour + time.Minute)
		tick := e.ticks("t")[0]
		if tick.ID == 0 || tick.Namespace != e.ns || tick.Ticker != "t" || tick.Queue != "q" || tick.TaskID == 0 ||
			tick.Skipped || tick.Manual || string(tick.Payload) != `[1]` || tick.Period != time.Hour {
			e.Fatalf("tick is %+v", tick)
		}
	})
	e.it("while the last tick's task is unfinished, overlap skip makes no other", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(1000 * time.Hour)})
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q"), Overlap: new(queue.OverlapSkip)})
		e.pass(time.Hour + time.Minute)
		first := e.ticks("t")[0]
		e.pass(time.Hour)
		ticks := e.ticks("t")
		e.equal("ticks", len(ticks), 2)
		e.equal("skipped, task", []any{ticks[0].Skipped, ticks[0].TaskID}, []any{true, int64(0)})
		t := e.hold("q")
		e.equal("held", t.ID, first.TaskID)
		e.advance(time.Hour)
		e.chores(queue.ChoreTick)
		e.equal("skipped while held", e.ticks("t")[0].Skipped, true)
		e.release(t, queue.OutcomeSuccess, "")
		e.advance(time.Hour)
		e.chores(queue.ChoreTick)
		tick := e.ticks("t")[0]
		e.equal("skipped", tick.Skipped, false)
		e.status(tick.TaskID, queue.StatusNew)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1, queue.StatusReleased: 1})
	})
	e.it("overlap skip knows its last task after any number of skipped ticks", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(10_000 * time.Hour)})
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q"), Overlap: new(queue.OverlapSkip)})
		e.pass(time.Hour + time.Minute)
		held := e.retainFor(9_000*time.Hour, "w", 1, "q")[0]
		for range 5 { // so the pruner shortens the history several times
			for range 60 {
				e.advance(time.Hour)
				e.chores(queue.ChoreTick)
			}
			e.chores(queue.ChorePrune)
		}
		e.counts("q", map[queue.Status]int64{queue.StatusRetained: 1})
		e.release(held, queue.OutcomeSuccess, "")
		e.advance(time.Hour)
		e.chores(queue.ChoreTick)
		e.counts("q", map[queue.Status]int64{queue.StatusReleased: 1, queue.StatusNew: 1})
	})
	e.it("a task that was run by hand is the last one to overlap skip", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(1000 * time.Hour)})
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q"), Overlap: new(queue.OverlapSkip)})
		_, err := e.s.RunTicker(e.ctx(), e.ns, "t")
		e.ok(err)
		e.pass(time.Hour + time.Minute)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
	})
	e.it("a clock that went ahead and came back leaves no ticker standing, and no time fires twice", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(1000 * time.Hour)})
		e.ticker("p", queue.TickerMeta{Period: new(time.Hour), Queue: new("q")})
		e.ticker("c", queue.TickerMeta{Cron: new("@hourly"), Queue: new("q")})
		e.ticker("skips", queue.TickerMeta{Cron: new("@daily"), Queue: new("q"), Misfire: new(queue.MisfireSkip)})
		e.advance(50*time.Hour + time.Minute)
		e.chores(queue.ChoreTick)
		e.ticker("young", queue.TickerMeta{Period: new(time.Hour), Queue: new("q")})
		e.advance(-50 * time.Hour)
		e.chores(queue.ChorePrune)
		for _, name := range []string{"p", "c", "young"} {
			if in := e.getTicker(name).NextAt.Sub(e.now()); in > time.Hour+time.Minute {
				e.Errorf("ticker %s fires in %v", name, in)
			}
		}
		if in := e.getTicker("skips").NextAt.Sub(e.now()); in > 24*time.Hour+time.Minute {
			e.Errorf("ticker skips fires in %v", in)
		}
		for range 60 { // beyond the times that fired while the clock was ahead
			e.advance(time.Hour)
			e.chores(queue.ChoreTick)
		}
		for _, name := range []string{"p", "c"} {
			seen := map[int64]bool{}
			ticks := e.ticks(name)
			for _, k := range ticks {
				if seen[k.At.UnixMicro()] {
					e.Errorf("%s fired twice for %v", name, k.At)
				}
				seen[k.At.UnixMicro()] = true
			}
			if n := len(ticks); n < 59 || n > 61 {
				e.Errorf("%s has %d ticks of 60 hours", name, n)
			}
		}
	})
	e.it("overlap allow makes a task at each tick", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q")})
		for range 3 {
			e.pass(time.Hour)
		}
		e.pass(time.Minute)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 3})
	})
	e.it("a paused ticker does not fire, and what the pause swallowed is not made up", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour), Queue: new("q"), Misfire: new(queue.MisfireAll)})
		paused := e.updateTicker("t", queue.TickerMeta{Paused: new(true)})
		if !paused.NextAt.IsZero() {
			e.Fatalf("a paused ticker fires at %v", paused.NextAt)
		}
		e.pass(55 * time.Hour)
		e.equal("ticks", len(e.ticks("t")), 0)
		resumed := e.updateTicker("t", queue.TickerMeta{Paused: new(false)})
		if !resumed.NextAt.Equal(made.Anchor.Add(60 * time.Hour)) {
			e.Fatalf("next is %v, want %v", resumed.NextAt, made.Anchor.Add(60*time.Hour))
		}
		e.chores(queue.ChoreTick)
		e.equal("ticks", len(e.ticks("t")), 0)
		e.pass(6 * time.Hour)
		e.equal("ticks", len(e.ticks("t")), 1)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
	})
	e.it("run now makes a tick beside the schedule", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour), Queue: new("q"), Overlap: new(queue.OverlapSkip)})
		e.advance(time.Hour)
		for range 2 {
			tick, err := e.s.RunTicker(e.ctx(), e.ns, "t")
			e.ok(err)
			e.equal("manual, skipped", []bool{tick.Manual, tick.Skipped}, []bool{true, false})
			e.near("at", tick.At, made.Anchor.Add(time.Hour), aWhile)
			e.status(tick.TaskID, queue.StatusNew)
			e.equal("last tick", e.ticks("t")[0].ID, tick.ID)
		}
		now := e.getTicker("t")
		if !now.NextAt.Equal(made.NextAt) {
			e.Fatalf("next is %v, want %v", now.NextAt, made.NextAt)
		}
		e.updateTicker("t", queue.TickerMeta{Paused: new(true)})
		_, err := e.s.RunTicker(e.ctx(), e.ns, "t")
		e.ok(err)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 3})
	})
	e.it("ticks are listed newest first, as many as asked for", func(e *env) {
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour)})
		var made []int64
		for range 12 {
			tick, err := e.s.RunTicker(e.ctx(), e.ns, "t")
			e.ok(err)
			made = append(made, tick.ID)
		}
		slices.Reverse(made)
		got, err := e.s.ListTicks(e.ctx(), e.ns, "t", 5)
		e.ok(err)
		e.equal("number", len(got), 5)
		for i, tick := range got {
			e.equal("id", tick.ID, made[i])
		}
	})
	e.it("an update loses no tick and doubles none", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.queue("r", queue.QueueMeta{})
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour), Queue: new("q")})
		e.advance(11 * time.Hour)
		e.updateTicker("t", queue.TickerMeta{Payload: []byte(`2`), Queue: new("r")}) // the first tick is due
		e.chores(queue.ChoreTick)
		ticks := e.ticks("t")
		e.equal("ticks", len(ticks), 1)
		if !ticks[0].At.Equal(made.NextAt) {
			e.Fatalf("at %v, want %v", ticks[0].At, made.NextAt)
		}
		e.updateTicker("t", queue.TickerMeta{Payload: []byte(`3`)})
		e.chores(queue.ChoreTick)
		e.equal("ticks", len(e.ticks("t")), 1)
		e.counts("r", map[queue.Status]int64{queue.StatusNew: 1})
		e.counts("q", nil)
	})
	e.it("a tick that was due by the old schedule fires when the schedule is updated, once", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour), Queue: new("q")})
		e.advance(11 * time.Hour)
		moved := e.updateTicker("t", queue.TickerMeta{Period: new(7 * time.Hour)})
		if !moved.Timestamp.Equal(made.NextAt) || !moved.NextAt.Equal(moved.Anchor.Add(7*time.Hour)) {
			e.Fatalf("last %v, want %v; next %v, anchor %v", moved.Timestamp, made.NextAt, moved.NextAt, moved.Anchor)
		}
		e.chores(queue.ChoreTick)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
		e.advance(7 * time.Hour)
		e.chores(queue.ChoreTick)
		ticks := e.ticks("t") // newest first
		e.equal("ticks", len(ticks), 2)
		e.equal("nominal times", []time.Time{ticks[1].At, ticks[0].At}, []time.Time{made.NextAt, moved.NextAt})
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 2})
	})
	e.it("a tick of a ticker with a deleted queue makes no task, and the ticker goes on", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q")})
		_, err := e.s.DeleteQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.advance(time.Hour + time.Minute)
		done := e.chores(queue.ChoreTick)
		if len(done.Faults) != 1 || done.Faults[0].Namespace != e.ns || done.Faults[0].Subject != "ticker t" || done.Faults[0].Known {
			e.Fatalf("faults are %+v", done.Faults)
		}
		if fault := e.getTicker("t").Fault; !strings.Contains(fault, "queue q") {
			e.Fatalf("the ticker's fault is %q", fault)
		}
		e.equal("skipped", e.ticks("t")[0].Skipped, true)
		_, err = e.s.RunTicker(e.ctx(), e.ns, "t")
		e.kind(err, queue.KindNotFound)
		e.queue("q", queue.QueueMeta{})
		e.pass(time.Hour)
		e.equal("fault", e.getTicker("t").Fault, "")
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
	})
}

func testMisfire(e *env) {
	e.it("a catch-up goes in bounded steps, loses no tick, and other tickers do not wait for it", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(1000 * time.Hour)})
		e.queue("r", queue.QueueMeta{Retention: new(1000 * time.Hour)})
		const big, fires = 256 << 10, 100
		payload := []byte(`"` + strings.Repeat("x", big) + `"`)
		for i := range 3 {
			e.ticker("big"+string(rune('a'+i)), queue.TickerMeta{
				Period: new(time.Hour), Queue: new("q"), Misfire: new(queue.MisfireAll), MisfireLimit: new(fires), Payload: payload,
			})
		}
		made := e.ticker("small", queue.TickerMeta{Period: new(90 * time.Hour), Queue: new("r")})
		e.advance(99*time.Hour + time.Minute)
		first, err := e.s.Maintain(e.ctx(), queue.ChoreTick)
		e.ok(err)
		second, err := e.s.Maintain(e.ctx(), queue.ChoreTick)
		e.ok(err)
		bytes := 0
		for _, k := range first.Ticks {
			bytes += len(k.Payload)
		}
		if bytes > queue.MaxStepTickBytes+big || !first.More {
			e.Fatalf("the first step made %d ticks of %d bytes, more is %v", len(first.Ticks), bytes, first.More)
		}
		if !slices.ContainsFunc(slices.Concat(first.Ticks, second.Ticks), func(k queue.Tick) bool { return k.Ticker == "small" && k.At.Equal(made.NextAt) }) {
			e.Fatal("the small ticker waits for the catch-up of the others")
		}
		rest := e.chores(queue.ChoreTick)
		e.counts("r", map[queue.Status]int64{queue.StatusNew: 1})
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 3 * 99})
		seen := map[int64]bool{}
		for _, k := range slices.Concat(first.Ticks, second.Ticks, rest.Ticks) {
			if k.Ticker == "biga" {
				seen[k.At.UnixMicro()] = true
			}
		}
		e.equal("nominal times", len(seen), 99)
	})
	down := func(e *env, misfire queue.Misfire, limit int) (*queue.Ticker, []queue.Tick) {
		e.queue("q", queue.QueueMeta{})
		made := e.ticker("t", queue.TickerMeta{
			Period: new(10 * time.Hour), Queue: new("q"), Misfire: &misfire, MisfireLimit: &limit,
		})
		e.advance(75 * time.Hour) // 7 times are missed, the last by 5 hours
		e.chores(queue.ChoreTick)
		ticks := e.ticks("t")
		slices.Reverse(ticks)
		now := e.getTicker("t")
		if want := made.Anchor.Add(80 * time.Hour); !now.NextAt.Equal(want) {
			e.Fatalf("next is %v, want %v", now.NextAt, want)
		}
		n := int64(0)
		for _, tick := range ticks {
			if !tick.Skipped {
				n++
				e.status(tick.TaskID, queue.StatusNew)
			}
		}
		e.counts("q", map[queue.Status]int64{queue.StatusNew: n})
		e.chores(queue.ChoreTick)
		e.equal("ticks after that", len(e.ticks("t")), len(ticks))
		return made, ticks
	}
	at := func(e *env, made *queue.Ticker, ticks []queue.Tick, ks ...int) {
		e.Helper()
		e.equal("number of ticks", len(ticks), len(ks))
		for i, k := range ks {
			if want := made.Anchor.Add(time.Duration(k) * 10 * time.Hour); !ticks[i].At.Equal(want) {
				e.Fatalf("tick %d is of %v, want %v", i, ticks[i].At, want)
			}
		}
	}
	e.it("after a downtime misfire skip fires none", func(e *env) {
		made, ticks := down(e, queue.MisfireSkip, 100)
		at(e, made, ticks)
		e.pass(6 * time.Hour)
		// The next tick comes an hour late: longer than the grace of a minute, so it is missed too.
		e.equal("ticks", len(e.ticks("t")), 0)
	})
	e.it("after a downtime misfire once fires one for all", func(e *env) {
		made, ticks := down(e, queue.MisfireOnce, 100)
		at(e, made, ticks, 7)
	})
	e.it("after a downtime misfire all fires each", func(e *env) {
		made, ticks := down(e, queue.MisfireAll, 100)
		at(e, made, ticks, 1, 2, 3, 4, 5, 6, 7)
	})
	e.it("after a downtime misfire all fires at most its limit, the newest", func(e *env) {
		made, ticks := down(e, queue.MisfireAll, 3)
		at(e, made, ticks, 5, 6, 7)
	})
	e.it("misfire skip fires what is seen on time", func(e *env) {
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour), Misfire: new(queue.MisfireSkip)})
		e.advance(10*time.Hour - made.Anchor.Sub(made.Anchor) + time.Second)
		ticks := e.take(10, time.Hour)
		e.equal("ticks", len(ticks), 1)
	})
}

func testListenerTicks(e *env) {
	e.it("a tick of a ticker without a queue goes to one listener", func(e *env) {
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour), Payload: []byte(`[1]`)})
		e.chores(queue.ChoreTick)
		e.equal("early", len(e.take(10, time.Hour)), 0)
		e.advance(10*time.Hour + time.Minute)
		got := e.take(10, time.Hour)
		e.equal("ticks", len(got), 1)
		tick := got[0]
		if !tick.At.Equal(made.NextAt) || tick.Ticker != "t" || tick.TaskID != 0 || tick.Queue != "" ||
			string(tick.Payload) != `[1]` || tick.Period != 10*time.Hour {
			e.Fatalf("tick is %+v", tick)
		}
		e.equal("for another", len(e.take(10, time.Hour)), 0)
		e.ok(e.s.SettleTicks(e.ctx(), e.ns, []int64{tick.ID}, true))
		e.advance(5 * time.Hour)
		e.equal("after the hold", len(e.take(10, time.Hour)), 0)
		e.equal("history", len(e.ticks("t")), 1)
	})
	e.it("a tick that is given back goes to the next at once", func(e *env) {
		e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour)})
		e.advance(10*time.Hour + time.Minute)
		first := e.take(10, time.Hour)
		e.ok(e.s.SettleTicks(e.ctx(), e.ns, []int64{first[0].ID}, false))
		second := e.take(10, time.Hour)
		e.equal("number", len(second), 1)
		e.equal("id", second[0].ID, first[0].ID)
	})
	e.it("a tick of a listener that died goes to the next after its hold", func(e *env) {
		e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour)})
		e.advance(10*time.Hour + time.Minute)
		first := e.take(10, time.Hour)
		e.advance(30 * time.Minute)
		e.equal("during the hold", len(e.take(10, time.Hour)), 0)
		e.advance(time.Hour)
		second := e.take(10, time.Hour)
		e.equal("number", len(second), 1)
		e.equal("id", second[0].ID, first[0].ID)
	})
	e.it("a time without listeners is a downtime under the misfire policy", func(e *env) {
		for _, m := range []queue.Misfire{queue.MisfireSkip, queue.MisfireOnce, queue.MisfireAll} {
			e.ticker("t-"+string(m), queue.TickerMeta{Period: new(10 * time.Hour), Misfire: &m})
		}
		e.pass(45 * time.Hour)
		fired := map[string]int{}
		for _, tick := range e.take(100, time.Hour) {
			fired[tick.Ticker]++
		}
		e.equal("fired", fired, map[string]int{"t-once": 1, "t-all": 4})
	})
	e.it("at most limit ticks are taken, oldest first, the others stay for others", func(e *env) {
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Misfire: new(queue.MisfireAll)})
		e.advance(10*time.Hour + time.Minute)
		first, second := e.take(4, time.Hour), e.take(100, time.Hour)
		e.equal("numbers", []int{len(first), len(second)}, []int{4, 6})
		all := slices.Concat(first, second)
		for i := 1; i < len(all); i++ {
			if !all[i].At.After(all[i-1].At) {
				e.Fatalf("tick %d is of %v, behind %v", i, all[i].At, all[i-1].At)
			}
		}
	})
	e.it("it says in how long the next is due", func(e *env) {
		_, in, err := e.s.TakeTicks(e.ctx(), e.ns, 1, time.Hour)
		e.ok(err)
		e.equal("without tickers", in, time.Duration(0))
		e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour)})
		_, in, err = e.s.TakeTicks(e.ctx(), e.ns, 1, time.Hour)
		e.ok(err)
		if in <= 9*time.Hour || in > 10*time.Hour {
			e.Fatalf("next in %v, want 10h", in)
		}
	})
	e.it("run now reaches a listener, and a paused ticker none by itself", func(e *env) {
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Paused: new(true)})
		e.advance(10 * time.Hour)
		e.equal("ticks", len(e.take(10, time.Hour)), 0)
		tick, err := e.s.RunTicker(e.ctx(), e.ns, "t")
		e.ok(err)
		got := e.take(10, time.Hour)
		e.equal("number", len(got), 1)
		e.equal("id, manual", []any{got[0].ID, got[0].Manual}, []any{tick.ID, true})
	})
	e.it("settling a tick that is settled, or not there, does nothing", func(e *env) {
		e.ok(e.s.SettleTicks(e.ctx(), e.ns, []int64{1 << 60}, true))
		e.ok(e.s.SettleTicks(e.ctx(), e.ns, []int64{1 << 60}, false))
	})
}
