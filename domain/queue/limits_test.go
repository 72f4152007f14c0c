package queue

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLimits tests each limit at itself and one past it.
func TestLimits(t *testing.T) {
	d := func(d time.Duration) *time.Duration { return &d }
	queueOf := func(m QueueMeta) error {
		m.Name = "q"
		_, err := NewQueue("ns", m)
		return err
	}
	tickerOf := func(m TickerMeta) error {
		m.Name = "t"
		if m.Period == nil && m.Cron == nil {
			m.Period = new(time.Hour)
		}
		_, err := NewTicker("ns", m, 100)
		return err
	}
	task := func(m TaskMeta) error {
		_, err := NewTask{Queue: "q", TaskMeta: m}.Normalize(100)
		return err
	}
	retain := func(r RetainRequest) error {
		if r.Worker == "" {
			r.Worker = "w"
		}
		_, err := r.Normalize()
		return err
	}
	str := func(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }
	names := func(n int) []string { return slices.Repeat([]string{"q"}, n) }
	for _, c := range []struct {
		field      string
		at, beyond error
	}{
		{"retries", queueOf(QueueMeta{Retries: new(MaxRetries)}), queueOf(QueueMeta{Retries: new(MaxRetries + 1)})},
		{"retries", queueOf(QueueMeta{Retries: new(0)}), queueOf(QueueMeta{Retries: new(-1)})},
		{"concurrency", queueOf(QueueMeta{Concurrency: new(MaxConcurrency)}), queueOf(QueueMeta{Concurrency: new(MaxConcurrency + 1)})},
		{"concurrency", queueOf(QueueMeta{Concurrency: new(0)}), queueOf(QueueMeta{Concurrency: new(-1)})},
		{"ttl", queueOf(QueueMeta{TTL: d(MaxDuration)}), queueOf(QueueMeta{TTL: d(MaxDuration + 1)})},
		{"ttl", queueOf(QueueMeta{TTL: d(0)}), queueOf(QueueMeta{TTL: d(-1)})},
		{"retry_delay", queueOf(QueueMeta{RetryDelay: d(MaxDuration)}), queueOf(QueueMeta{RetryDelay: d(MaxDuration + 1)})},
		{"retry_delay", queueOf(QueueMeta{RetryDelay: d(0)}), queueOf(QueueMeta{RetryDelay: d(-1)})},
		{"retry_max_delay", queueOf(QueueMeta{RetryMaxDelay: d(0)}), queueOf(QueueMeta{RetryMaxDelay: d(-1)})},
		{"lease", queueOf(QueueMeta{Lease: d(MaxDuration)}), queueOf(QueueMeta{Lease: d(MaxDuration + 1)})},
		{"lease", queueOf(QueueMeta{Lease: d(MinLease)}), queueOf(QueueMeta{Lease: d(MinLease - 1)})},
		{"retention", queueOf(QueueMeta{Retention: d(MaxDuration)}), queueOf(QueueMeta{Retention: d(MaxDuration + 1)})},
		{"backoff", queueOf(QueueMeta{Backoff: new(BackoffLinear)}), queueOf(QueueMeta{Backoff: new(Backoff(""))})},
		{"period", tickerOf(TickerMeta{Period: d(MinPeriod)}), tickerOf(TickerMeta{Period: d(MinPeriod - time.Microsecond)})},
		{"misfire_limit", tickerOf(TickerMeta{MisfireLimit: new(MaxMisfireLimit)}), tickerOf(TickerMeta{MisfireLimit: new(MaxMisfireLimit + 1)})},
		{"misfire_limit", tickerOf(TickerMeta{MisfireLimit: new(1)}), tickerOf(TickerMeta{MisfireLimit: new(0)})},
		{"misfire", tickerOf(TickerMeta{Misfire: new(MisfireSkip)}), tickerOf(TickerMeta{Misfire: new(Misfire(""))})},
		{"overlap", tickerOf(TickerMeta{Overlap: new(OverlapSkip)}), tickerOf(TickerMeta{Overlap: new(Overlap(""))})},
		{"queue", tickerOf(TickerMeta{Queue: new("")}), tickerOf(TickerMeta{Queue: new("1")})},
		{"payload", tickerOf(TickerMeta{Payload: []byte(`1`)}), tickerOf(TickerMeta{Payload: []byte(`{`)})},
		{"delay", task(TaskMeta{Delay: MaxDuration}), task(TaskMeta{Delay: MaxDuration + 1})},
		{"delay", task(TaskMeta{Delay: 0}), task(TaskMeta{Delay: -1})},
		{"delay", task(TaskMeta{DelayedAt: noon}), task(TaskMeta{DelayedAt: noon, Delay: 1})},
		{"delayed_at", task(TaskMeta{DelayedAt: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}), task(TaskMeta{DelayedAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)})},
		{"delayed_at", task(TaskMeta{DelayedAt: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)}), task(TaskMeta{DelayedAt: time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC)})},
		{"limit", retain(RetainRequest{Limit: MaxBatch}), retain(RetainRequest{Limit: MaxBatch + 1})},
		{"limit", retain(RetainRequest{Limit: 0}), retain(RetainRequest{Limit: -1})},
		{"wait", retain(RetainRequest{Wait: MaxWait}), retain(RetainRequest{Wait: MaxWait + 1})},
		{"wait", retain(RetainRequest{}), retain(RetainRequest{Wait: -1})},
		{"lease", retain(RetainRequest{Lease: MinLease}), retain(RetainRequest{Lease: MinLease - 1})},
		{"lease", retain(RetainRequest{Lease: MaxDuration}), retain(RetainRequest{Lease: -1})},
		{"queue", retain(RetainRequest{Queues: names(MaxQueuesPerRetain)}), retain(RetainRequest{Queues: names(MaxQueuesPerRetain + 1)})},
		{"max_bytes", retain(RetainRequest{MaxBytes: MaxRetainBytes}), retain(RetainRequest{MaxBytes: MaxRetainBytes + 1})},
		{"max_bytes", retain(RetainRequest{MaxBytes: 1}), retain(RetainRequest{MaxBytes: -1})},
		{"request_id", retain(RetainRequest{RequestID: strings.Repeat("x", MaxRequestIDBytes)}), retain(RetainRequest{RequestID: strings.Repeat("x", MaxRequestIDBytes+1)})},
		{"request_id", retain(RetainRequest{RequestID: "☃"}), retain(RetainRequest{RequestID: "\xff"})},
		{"progress", Heartbeat{ID: 1, Token: 1, Progress: str(MaxProgressBytes)}.Check(), Heartbeat{ID: 1, Token: 1, Progress: str(MaxProgressBytes + 1)}.Check()},
		{"lease", Heartbeat{ID: 1, Token: 1, Lease: MinLease}.Check(), Heartbeat{ID: 1, Token: 1, Lease: MinLease - 1}.Check()},
		{"token", Heartbeat{ID: 1, Token: 1}.Check(), Heartbeat{ID: 1}.Check()},
		{"id", Heartbeat{ID: 1, Token: 1}.Check(), Heartbeat{Token: 1}.Check()},
		{"id", Release{ID: 1, Outcome: OutcomeSuccess}.Check(9), Release{Outcome: OutcomeSuccess}.Check(9)},
		{"token", Release{ID: 1, Outcome: OutcomeSuccess}.Check(9), Release{ID: 1, Token: -1, Outcome: OutcomeSuccess}.Check(9)},
		{"outcome", Release{ID: 1, Outcome: OutcomeHandBack}.Check(9), Release{ID: 1}.Check(9)},
		{"delay", Release{ID: 1, Outcome: OutcomeSnooze, Delay: 1}.Check(9), Release{ID: 1, Outcome: OutcomeSnooze}.Check(9)},
		{"delay", Release{ID: 1, Outcome: OutcomeFailure, Delay: MaxDuration}.Check(9), Release{ID: 1, Outcome: OutcomeFailure, Delay: MaxDuration + 1}.Check(9)},
		{"delay", Release{ID: 1, Outcome: OutcomeFailure}.Check(9), Release{ID: 1, Outcome: OutcomeSuccess, Delay: 1}.Check(9)},
		{"result", Release{ID: 1, Outcome: OutcomeSuccess, Result: str(9)}.Check(9), Release{ID: 1, Outcome: OutcomeSuccess, Result: str(10)}.Check(9)},
		{"result", Release{ID: 1, Outcome: OutcomePermanent, Result: str(9)}.Check(9), Release{ID: 1, Outcome: OutcomeHandBack, Result: str(9)}.Check(9)},
		{"limit", second(Page{Limit: MaxPage}.Normalize()), second(Page{Limit: MaxPage + 1}.Normalize())},
		{"limit", second(Page{Limit: 1}.Normalize()), second(Page{Limit: -1}.Normalize())},
		{"offset", second(Page{}.Normalize()), second(Page{Offset: -1}.Normalize())},
		{"cursor", second(Page{Cursor: "x"}.Normalize()), second(Page{Cursor: "x", Offset: 1}.Normalize())},
		{"ids", second(Selection{IDs: slices.Repeat([]int64{1}, MaxBatch)}.Normalize()), second(Selection{IDs: slices.Repeat([]int64{1}, MaxBatch+1)}.Normalize())},
		{"ids", second(Selection{Filter: &TaskFilter{Queue: "q"}}.Normalize()), second(Selection{}.Normalize())},
		{"ids", second(Selection{IDs: []int64{1}}.Normalize()), second(Selection{IDs: []int64{0}}.Normalize())},
		{"ids", second(Selection{IDs: []int64{1}}.Normalize()), second(Selection{IDs: []int64{1}, Filter: &TaskFilter{Queue: "q"}}.Normalize())},
		{"status", second(TaskFilter{Statuses: Statuses()}.Normalize()), second(TaskFilter{Statuses: []Status{"x"}}.Normalize())},
		{"worker", second(TaskFilter{Worker: strings.Repeat("w", MaxWorkerBytes)}.Normalize()), second(TaskFilter{Worker: strings.Repeat("w", MaxWorkerBytes+1)}.Normalize())},
		{"kind", second(EventFilter{Kinds: EventKinds()}.Normalize()), second(EventFilter{Kinds: []EventKind{"x"}}.Normalize())},
		{"task", second(EventFilter{TaskID: 1}.Normalize()), second(EventFilter{TaskID: -1}.Normalize())},
	} {
		if c.at != nil {
			t.Errorf("%s at its limit: %v", c.field, c.at)
		}
		e, ok := errors.AsType[*Error](c.beyond)
		if !ok || e.Field != c.field || e.Msg == "" || e.Kind != KindInvalid && e.Kind != KindTooLarge {
			t.Errorf("%s past its limit: %v", c.field, c.beyond)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestNormalizeFillsIn(t *testing.T) {
	r, err := RetainRequest{Worker: "w", Queues: []string{" B", "a", "b"}}.Normalize()
	if err != nil || r.Limit != 1 || !slices.Equal(r.Queues, []string{"a", "b"}) {
		t.Errorf("%+v, %v", r, err)
	}
	n, err := NewTask{Queue: " Mail "}.Normalize(10)
	if err != nil || n.Queue != "mail" || string(n.Payload) != "{}" {
		t.Errorf("%+v, %v", n, err)
	}
	p, err := Page{}.Normalize()
	if err != nil || p.Limit != DefaultPage {
		t.Errorf("%+v, %v", p, err)
	}
	given := TaskFilter{Queue: " Mail "}
	s, err := Selection{Filter: &given}.Normalize()
	if err != nil || s.Filter.Queue != "mail" || given.Queue != " Mail " {
		t.Errorf("%+v, %v; the caller's filter is %+v", s.Filter, err, given)
	}
}

func TestFinishedStay(t *testing.T) {
	for _, c := range []struct {
		q    Queue
		want time.Duration
	}{
		{Queue{Retention: time.Hour, TTL: time.Minute}, time.Hour},
		{Queue{TTL: time.Minute}, time.Minute},
		{Queue{}, DefaultRetention},
	} {
		if got := c.q.FinishedStay(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.q, got, c.want)
		}
	}
}

func TestWithLeavesTheOriginal(t *testing.T) {
	q, err := NewQueue("ns", QueueMeta{Name: "Q", Retries: new(0), TTL: new(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	next, err := q.With(QueueMeta{TTL: new(time.Duration(0)), Name: "other"})
	if err != nil || next.TTL != 0 || next.Name != "q" || next.Retries != 0 || q.TTL != time.Hour {
		t.Errorf("%+v became %+v, %v", q, next, err)
	}
	tk, err := NewTicker("ns", TickerMeta{Name: "T", Period: new(time.Hour)}, 100)
	if err != nil {
		t.Fatal(err)
	}
	cron, err := tk.With(TickerMeta{Cron: new("@daily")}, 100)
	if err != nil || cron.Period != 0 || cron.Cron != "@daily" || tk.Period != time.Hour || tk.Cron != "" {
		t.Errorf("%+v became %+v, %v", tk, cron, err)
	}
	if _, err := tk.With(TickerMeta{Cron: new("@daily"), Period: new(time.Hour)}, 100); KindOf(err) != KindInvalid {
		t.Errorf("both a period and a cron: %v", err)
	}
}

func TestEventFilterMatches(t *testing.T) {
	e := Event{Kind: EventReleased, Queue: "q", TaskID: 7, Worker: "w"}
	for f, want := range map[*EventFilter]bool{
		{}: true,
		{Queue: "q", TaskID: 7, Worker: "w", Kinds: []EventKind{EventReleased}, Statuses: []Status{StatusReleased}}: true,
		{Queue: "other"}:                  false,
		{TaskID: 8}:                       false,
		{Worker: "x"}:                     false,
		{Kinds: []EventKind{EventFailed}}: false,
		{Statuses: []Status{StatusNew}}:   false,
	} {
		if f.Matches(e) != want {
			t.Errorf("%+v matches: %v", f, !want)
		}
	}
	if (EventFilter{Statuses: Statuses()}).Matches(Event{Kind: EventProgress}) {
		t.Error("progress changes no status and matches one")
	}
}

func TestStoreAs(t *testing.T) {
	if _, ok := StoreAs[Listener](nil); ok {
		t.Error("no store is a Listener")
	}
}
