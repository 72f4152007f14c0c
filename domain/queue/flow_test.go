package queue_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// dawn is the present time of the tests.
var dawn = time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)

func TestRate(t *testing.T) {
	t.Run("a burst starts at once, and then as many as the rate allows", func(t *testing.T) {
		r := queue.Rate{Limit: 10, Period: time.Second, Burst: 4}
		n, state, next := r.Admit(0, dawn, 9)
		if n != 4 || next.Sub(dawn) != 200*time.Millisecond {
			t.Fatalf("%d start, the next in %v", n, next.Sub(dawn))
		}
		if n, _, _ := r.Admit(state, dawn.Add(99*time.Millisecond), 9); n != 0 {
			t.Fatalf("%d start before their time", n)
		}
		if n, _, _ := r.Admit(state, dawn.Add(100*time.Millisecond), 9); n != 1 {
			t.Fatalf("%d start after a tenth of the period", n)
		}
		if n, _, _ := r.Admit(state, dawn.Add(time.Hour), 9); n != 4 {
			t.Fatalf("%d start after an idle hour", n)
		}
	})

	t.Run("in no period do more start than the limit and the burst", func(t *testing.T) {
		r := queue.Rate{Limit: 50, Period: time.Second, Burst: 7}
		var starts []time.Time
		state := int64(0)
		for now := dawn; now.Before(dawn.Add(5 * time.Second)); now = now.Add(3 * time.Millisecond) {
			var n int
			n, state, _ = r.Admit(state, now, 3)
			for range n {
				starts = append(starts, now)
			}
		}
		for i, first := range starts {
			n := 0
			for _, at := range starts[i:] {
				if at.Sub(first) < time.Second {
					n++
				}
			}
			if n > 57 {
				t.Fatalf("%d starts in the second from %v on", n, first)
			}
		}
		if len(starts) < 250 {
			t.Fatalf("%d starts in 5 seconds of 50", len(starts))
		}
	})

	t.Run("next is a time at which a task starts", func(t *testing.T) {
		for _, r := range []queue.Rate{
			{Limit: 1, Period: time.Hour}, {Limit: 7, Period: time.Second, Burst: 3}, {Limit: 1_000_000, Period: time.Second}, {Limit: 3, Period: 24 * time.Hour, Burst: 1},
		} {
			_, state, next := r.Admit(0, dawn, 1_000_000_000)
			if n, _, _ := r.Admit(state, next, 1); n != 1 {
				t.Errorf("%+v: no task starts at %v", r, next)
			}
		}
	})

	t.Run("without a limit all start", func(t *testing.T) {
		if n, state, next := (queue.Rate{}).Admit(5, dawn, 9); n != 9 || state != 5 || !next.IsZero() {
			t.Fatalf("%d start, state %d, next %v", n, state, next)
		}
	})

	t.Run("a rate without a burst starts the tasks of a tenth of a second at once", func(t *testing.T) {
		for limit, want := range map[int]int{1: 1, 10: 1, 19: 1, 20: 2, 1000: 100} {
			if n, _, _ := (queue.Rate{Limit: limit, Period: time.Second}).Admit(0, dawn, 1000); n != want {
				t.Errorf("%d of a rate of %d start at once, want %d", n, limit, want)
			}
		}
	})
}

func TestGroupState(t *testing.T) {
	fifo := queue.GroupLimits{FIFO: true, Batch: 2}

	t.Run("places limit the starts, and the end of a task frees one", func(t *testing.T) {
		var s queue.GroupState
		limits := queue.GroupLimits{Concurrency: 2}
		got, _ := s.Admit(limits, dawn, []int64{1, 2, 3}, 9)
		if !slices.Equal(got, []int64{1, 2}) || !slices.Equal(s.Holders, []int64{1, 2}) {
			t.Fatalf("%v start, %v hold", got, s.Holders)
		}
		if got, _ := s.Admit(limits, dawn, []int64{3}, 9); len(got) != 0 {
			t.Fatalf("%v start above the limit", got)
		}
		s.Free(1)
		s.Free(1)
		if got, _ := s.Admit(limits, dawn, []int64{3}, 9); !slices.Equal(got, []int64{3}) {
			t.Fatalf("%v start", got)
		}
	})

	t.Run("a FIFO group starts a batch, and nothing before all of it has ended", func(t *testing.T) {
		var s queue.GroupState
		got, _ := s.Admit(fifo, dawn, []int64{1, 2, 3}, 9)
		if !slices.Equal(got, []int64{1, 2}) {
			t.Fatalf("%v start", got)
		}
		s.Free(1)
		if got, _ := s.Admit(fifo, dawn, []int64{3}, 9); len(got) != 0 {
			t.Fatalf("%v start beside 2", got)
		}
		// 2 comes back, as after a failure: it is first again.
		if got, _ := s.Admit(fifo, dawn, []int64{2, 3}, 9); !slices.Equal(got, []int64{2, 3}) {
			t.Fatalf("%v start", got)
		}
	})

	t.Run("a pause says until when", func(t *testing.T) {
		var s queue.GroupState
		until := dawn.Add(time.Hour)
		got, next := s.Admit(queue.GroupLimits{PausedUntil: until}, dawn, []int64{1}, 9)
		if len(got) != 0 || !next.Equal(until) {
			t.Fatalf("%v start, the next at %v", got, next)
		}
	})

	t.Run("the state of the caller's copy stays", func(t *testing.T) {
		s := queue.GroupState{Holders: []int64{7}}
		probe := s
		probe.Admit(queue.GroupLimits{Concurrency: 5}, dawn, []int64{8, 9}, 9)
		probe.Free(7)
		if !slices.Equal(s.Holders, []int64{7}) {
			t.Fatalf("%v hold", s.Holders)
		}
	})
}

func TestFlowSettings(t *testing.T) {
	for _, c := range []struct {
		name  string
		meta  queue.FlowMeta
		field string
	}{
		{"a rate limit below 0", queue.FlowMeta{RateLimit: new(-1)}, "rate_limit"},
		{"a rate limit above the bound", queue.FlowMeta{RateLimit: new(queue.MaxRate + 1)}, "rate_limit"},
		{"a rate without a period", queue.FlowMeta{RateLimit: new(5), RatePeriod: new(time.Duration(0))}, "rate_period"},
		{"a period above a day", queue.FlowMeta{RatePeriod: new(25 * time.Hour)}, "rate_period"},
		{"a burst above the bound", queue.FlowMeta{RateBurst: new(queue.MaxRate + 1)}, "rate_burst"},
		{"a group concurrency above the bound", queue.FlowMeta{GroupConcurrency: new(257)}, "group_concurrency"},
		{"a group rate below 0", queue.FlowMeta{GroupRateLimit: new(-1)}, "group_rate_limit"},
		{"a group rate without a period", queue.FlowMeta{GroupRatePeriod: new(time.Duration(0))}, "group_rate_period"},
		{"a group burst below 0", queue.FlowMeta{GroupRateBurst: new(-1)}, "group_rate_burst"},
		{"an unknown order", queue.FlowMeta{Order: new(queue.Order("lifo"))}, "order"},
		{"a batch of 0", queue.FlowMeta{FIFOBatch: new(0)}, "fifo_batch"},
		{"a batch above the bound", queue.FlowMeta{FIFOBatch: new(33)}, "fifo_batch"},
		{"an unknown way after a failure", queue.FlowMeta{GroupOnFailure: new(queue.GroupOnFailure("stop"))}, "group_on_failure"},
		{"a limit of waiting tasks below 0", queue.FlowMeta{MaxWaiting: new(-1)}, "max_waiting"},
		{"an order and several places", queue.FlowMeta{Order: new(queue.OrderFIFO), GroupConcurrency: new(2)}, "group_concurrency"},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			_, err := queue.NewQueue("default", queue.QueueMeta{Name: "q", FlowMeta: c.meta})
			checkField(t, err, c.field)
		})
	}

	for _, c := range []struct {
		name  string
		meta  queue.GroupMeta
		field string
	}{
		{"a weight of 0", queue.GroupMeta{Weight: new(0)}, "weight"},
		{"a weight above the bound", queue.GroupMeta{Weight: new(1001)}, "weight"},
		{"a concurrency above the bound", queue.GroupMeta{Concurrency: new(257)}, "concurrency"},
		{"a rate below 0", queue.GroupMeta{RateLimit: new(-1)}, "rate_limit"},
		{"a period below a second", queue.GroupMeta{RatePeriod: new(time.Millisecond)}, "rate_period"},
		{"a burst below 0", queue.GroupMeta{RateBurst: new(-1)}, "rate_burst"},
	} {
		t.Run("for one group "+c.name+" is refused", func(t *testing.T) {
			_, err := queue.GroupPolicy{}.With(c.meta)
			checkField(t, err, c.field)
		})
	}

	t.Run("a group of 256 bytes is refused, and one of 255 is not", func(t *testing.T) {
		checkField(t, queue.CheckGroup(strings.Repeat("g", 256)), "group")
		checkField(t, queue.CheckGroup("a\x00"), "group")
		checkField(t, queue.CheckGroup("\xff"), "group")
		if err := queue.CheckGroup(strings.Repeat("g", 255)); err != nil {
			t.Fatal(err)
		}
	})
}

// checkField checks that err is KindInvalid about a field.
func checkField(t *testing.T, err error, field string) {
	t.Helper()
	e, ok := err.(*queue.Error) //nolint:errorlint // the domain returns it itself
	if !ok || e.Kind != queue.KindInvalid || e.Field != field {
		t.Fatalf("got %v, want an error about %s", err, field)
	}
}

func TestHashGroup(t *testing.T) {
	// The SQL function hash_group returns the same.
	for group, want := range map[string]int64{"": -2039914840885289964, "tenant-7": queue.HashGroup("tenant-7")} {
		if got := queue.HashGroup(group); got != want {
			t.Errorf("the hash of %q is %d, want %d", group, got, want)
		}
	}
	seen := map[int16]bool{}
	for i := range 100_000 {
		b := queue.BucketOfGroup(queue.HashGroup(strings.Repeat("x", i%97) + string(rune('a'+i%26)) + time.Duration(i).String()))
		if b < 1 || b > queue.GroupBuckets {
			t.Fatalf("bucket %d", b)
		}
		seen[b] = true
	}
	if len(seen) != queue.GroupBuckets {
		t.Fatalf("%d buckets in use", len(seen))
	}
}
