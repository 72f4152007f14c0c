package schedule_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

const (
	skip = schedule.MisfireSkip
	once = schedule.MisfireOnce
	all  = schedule.MisfireAll
)

func TestDue(t *testing.T) {
	hourly := schedule.Spec{Period: time.Hour}
	nightly := schedule.Spec{Cron: "30 2 * * *", Timezone: "America/New_York"}
	minutely := schedule.Spec{Cron: "* * * * *"}
	fast := schedule.Spec{Period: 100 * time.Millisecond}
	const anchor = "2026-01-01T00:00:00Z"
	for name, c := range map[string]struct {
		spec         schedule.Spec
		policy       schedule.Policy
		settled, now string
		fires        []string
		next         string
		dropped      bool
	}{
		"nothing is due before the first nominal time": {
			hourly, schedule.Policy{}, anchor, "2026-01-01T00:59:59.999999999Z", nil, "2026-01-01T01:00:00Z", false,
		},
		"a tick is due at its very instant": {
			hourly, schedule.Policy{}, anchor, "2026-01-01T01:00:00Z", []string{"2026-01-01T01:00:00Z"}, "2026-01-01T02:00:00Z", false,
		},
		"a settled tick does not fire again": {
			hourly, schedule.Policy{Misfire: all}, "2026-01-01T01:00:00Z", "2026-01-01T01:30:00Z", nil, "2026-01-01T02:00:00Z", false,
		},
		"a caller may settle up to just before the stored next time": {
			hourly, schedule.Policy{}, "2026-01-01T00:59:59.999999Z", "2026-01-01T01:00:00.05Z", []string{"2026-01-01T01:00:00Z"}, "2026-01-01T02:00:00Z", false,
		},
		"what comes next does not depend on how late the look was": {
			hourly, schedule.Policy{}, anchor, "2026-01-01T01:59:59Z", []string{"2026-01-01T01:00:00Z"}, "2026-01-01T02:00:00Z", false,
		},
		"a clock that went back fires nothing and keeps the next time": {
			hourly, schedule.Policy{Misfire: all}, "2026-01-01T05:00:00Z", "2026-01-01T03:30:00Z", nil, "2026-01-01T06:00:00Z", false,
		},
		"a ticker that never ticked is settled up to its anchor": {
			hourly, schedule.Policy{Misfire: all}, "0001-01-01T00:00:00Z", "2026-01-01T02:00:00Z", []string{"2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"}, "2026-01-01T03:00:00Z", false,
		},

		"once: missed times make one fire, the latest": {
			hourly, schedule.Policy{Misfire: once}, anchor, "2026-01-03T00:30:00Z", []string{"2026-01-03T00:00:00Z"}, "2026-01-03T01:00:00Z", true,
		},
		"once: a single missed time fires however old": {
			nightly, schedule.Policy{Misfire: once}, "2026-06-01T06:30:00Z", "2026-06-03T06:29:00Z", []string{"2026-06-02T06:30:00Z"}, "2026-06-03T06:30:00Z", false,
		},
		"once is the default": {
			hourly, schedule.Policy{}, anchor, "2026-01-01T03:00:01Z", []string{"2026-01-01T03:00:00Z"}, "2026-01-01T04:00:00Z", true,
		},

		"skip: a tick seen 50 ms late fires": {
			nightly, schedule.Policy{Misfire: skip}, "2026-06-01T06:30:00Z", "2026-06-02T06:30:00.05Z", []string{"2026-06-02T06:30:00Z"}, "2026-06-03T06:30:00Z", false,
		},
		"skip: a tick seen a minute late fires": {
			nightly, schedule.Policy{Misfire: skip}, "2026-06-01T06:30:00Z", "2026-06-02T06:31:00Z", []string{"2026-06-02T06:30:00Z"}, "2026-06-03T06:30:00Z", false,
		},
		"skip: a tick seen more than a minute late is dropped": {
			nightly, schedule.Policy{Misfire: skip}, "2026-06-01T06:30:00Z", "2026-06-02T06:31:00.000000001Z", nil, "2026-06-03T06:30:00Z", true,
		},
		"skip: of many only the one that is on time fires": {
			hourly, schedule.Policy{Misfire: skip}, anchor, "2026-01-01T09:00:10Z", []string{"2026-01-01T09:00:00Z"}, "2026-01-01T10:00:00Z", true,
		},
		"skip: many and none on time are all dropped": {
			hourly, schedule.Policy{Misfire: skip}, anchor, "2026-01-01T09:30:00Z", nil, "2026-01-01T10:00:00Z", true,
		},
		"skip: the latest of a fast ticker is always on time": {
			fast, schedule.Policy{Misfire: skip}, anchor, "2026-01-01T00:00:10.399Z", []string{"2026-01-01T00:00:10.3Z"}, "2026-01-01T00:00:10.4Z", true,
		},
		"skip: the latest of every minute is always on time": {
			minutely, schedule.Policy{Misfire: skip}, "2026-01-01T00:05:00Z", "2026-01-01T00:06:59.999Z", []string{"2026-01-01T00:06:00Z"}, "2026-01-01T00:07:00Z", false,
		},

		"all: every missed time fires, oldest first": {
			hourly, schedule.Policy{Misfire: all}, anchor, "2026-01-01T03:30:00Z", []string{"2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z"}, "2026-01-01T04:00:00Z", false,
		},
		"all: as many as the limit are not too many": {
			hourly, schedule.Policy{Misfire: all, Limit: 3}, anchor, "2026-01-01T03:30:00Z", []string{"2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z"}, "2026-01-01T04:00:00Z", false,
		},
		"all: over the limit the newest are kept": {
			hourly, schedule.Policy{Misfire: all, Limit: 2}, anchor, "2026-01-01T03:30:00Z", []string{"2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z"}, "2026-01-01T04:00:00Z", true,
		},
		"all: over both nights of clock changes each night fires once": {
			nightly, schedule.Policy{Misfire: all}, "2026-03-07T07:30:00Z", "2026-03-10T00:00:00Z", []string{"2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"}, "2026-03-10T06:30:00Z", false,
		},
		"all: a repeated hour is not fired again after a restart in it": {
			schedule.Spec{Cron: "30 1 * * *", Timezone: "America/New_York"}, schedule.Policy{Misfire: all}, "2026-11-01T05:30:00Z", "2026-11-01T06:45:00Z", nil, "2026-11-02T06:30:00Z", false,
		},
		"a resumed ticker owes nothing for the time of its pause": {
			hourly, schedule.Policy{Misfire: all}, "2026-01-05T10:20:00Z", "2026-01-05T10:40:00Z", nil, "2026-01-05T11:00:00Z", false,
		},
		"the last fire of all has no next": {
			schedule.Spec{Cron: "@yearly"}, schedule.Policy{}, "9998-06-01T00:00:00Z", "9999-06-01T00:00:00Z", []string{"9999-01-01T00:00:00Z"}, "", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := mustParse(t, c.spec).Due(at(t, anchor), at(t, c.settled), at(t, c.now), c.policy)
			if len(out.Fires) != len(c.fires) {
				t.Fatalf("fires %v, want %v", out.Fires, c.fires)
			}
			for i, want := range c.fires {
				if !out.Fires[i].Equal(at(t, want)) {
					t.Errorf("fire %d is %v, want %v", i, out.Fires[i], want)
				}
			}
			if c.next == "" && !out.Next.IsZero() || c.next != "" && !out.Next.Equal(at(t, c.next)) {
				t.Errorf("next is %v, want %q", out.Next, c.next)
			}
			if out.Dropped != c.dropped {
				t.Errorf("dropped is %v, want %v", out.Dropped, c.dropped)
			}
		})
	}
}

func TestDueAfterALongOutage(t *testing.T) {
	anchor := at(t, "2016-01-01T00:00:00Z")
	now := anchor.AddDate(10, 0, 0).Add(50 * time.Millisecond)
	for name, s := range map[string]schedule.Schedule{
		"100 ms":       every(t, schedule.MinPeriod),
		"every minute": cronIn(t, "* * * * *", "Australia/Lord_Howe"),
		"nightly":      cronIn(t, "30 2 * * *", "Australia/Lord_Howe"),
	} {
		t.Run(name+": ten years are decided at once", func(t *testing.T) {
			start := time.Now()
			out := s.Due(anchor, anchor, now, schedule.Policy{Misfire: all})
			if len(out.Fires) != schedule.DefaultMisfireLimit || !out.Dropped {
				t.Errorf("%d fires, dropped %v", len(out.Fires), out.Dropped)
			}
			// It takes some 30 µs; a walk over the three thousand million ticks of
			// the fast schedule would take minutes.
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestPolicyValidate(t *testing.T) {
	for _, p := range []schedule.Policy{
		{}, {Misfire: skip}, {Misfire: once}, {Misfire: all}, {Misfire: all, Limit: 1}, {Misfire: all, Limit: schedule.MaxMisfireLimit},
	} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for name, c := range map[string]struct {
		policy schedule.Policy
		field  string
	}{
		"an unknown policy":     {schedule.Policy{Misfire: "latest"}, "misfire"},
		"a policy in capitals":  {schedule.Policy{Misfire: "SKIP"}, "misfire"},
		"a long unknown policy": {schedule.Policy{Misfire: schedule.Misfire(strings.Repeat("x", 10_000))}, "misfire"},
		"a negative limit":      {schedule.Policy{Misfire: all, Limit: -1}, "misfire_limit"},
		"a limit one too large": {schedule.Policy{Misfire: all, Limit: schedule.MaxMisfireLimit + 1}, "misfire_limit"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			var e *schedule.Error
			if err := c.policy.Validate(); !errors.As(err, &e) || e.Field != c.field || len(e.Msg) > 200 {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("a limit out of range counts as the nearest in it", func(t *testing.T) {
		s, anchor := every(t, time.Second), at(t, "2026-01-01T00:00:00Z")
		for limit, want := range map[int]int{-5: 1, 0: schedule.DefaultMisfireLimit, 1 << 40: schedule.MaxMisfireLimit} {
			out := s.Due(anchor, anchor, anchor.AddDate(1, 0, 0), schedule.Policy{Misfire: all, Limit: limit})
			if len(out.Fires) != want {
				t.Errorf("limit %d gives %d fires, want %d", limit, len(out.Fires), want)
			}
		}
	})
}
