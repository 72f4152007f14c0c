package schedule_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

// FuzzParse: any input gives a schedule that fires, or an error that names a
// field. Parse never panics and never takes long.
func FuzzParse(f *testing.F) {
	f.Add(int64(0), "*/15 8-18 * * MON-FRI", "Europe/Berlin")
	f.Fuzz(func(t *testing.T, period int64, cron, zone string) {
		spec := schedule.Spec{Period: time.Duration(period), Cron: cron, Timezone: zone}
		s, err := schedule.Parse(spec)
		if err != nil {
			var e *schedule.Error
			if !errors.As(err, &e) || e.Field == "" || e.Msg == "" {
				t.Fatalf("%+v: error %v", spec, err)
			}
			if len(e.Msg) > 2000 {
				t.Fatalf("a message of %d bytes", len(e.Msg))
			}
			return
		}
		if again, err := schedule.Parse(s.Spec()); err != nil || again.String() != s.String() {
			t.Fatalf("%+v is %v, parsed again %v, %v", spec, s, again, err)
		}
		anchor := time.Unix(1_700_000_000, 0)
		if err := checkNext(s, anchor, anchor, rand.New(rand.NewPCG(1, 1))); err != nil {
			t.Fatalf("%+v: %v", spec, err)
		}
	})
}

// FuzzNext: the properties of checkNext hold at every instant, in every zone.
func FuzzNext(f *testing.F) {
	f.Add("30 2 * * *", uint8(1), int64(1_772_953_200), int64(1_772_953_200))
	f.Fuzz(func(t *testing.T, cron string, zone uint8, anchor, after int64) {
		s, err := schedule.Parse(schedule.Spec{Cron: cron, Timezone: propertyZones[int(zone)%len(propertyZones)]})
		if err != nil {
			return
		}
		a, b := time.Unix(anchor, 0), time.Unix(after, 0)
		if first := time.Date(1, 1, 3, 0, 0, 0, 0, time.UTC); a.Before(first) || b.Before(first) || a.After(b) || b.Year() > 9900 {
			// Outside of the calendar Next only has to return.
			s.Next(a, b)
			s.Due(a, b, a, schedule.Policy{Misfire: schedule.MisfireAll})
			return
		}
		if err := checkNext(s, a, b, rand.New(rand.NewPCG(1, 1))); err != nil {
			t.Fatalf("%v: %v", s, err)
		}
	})
}

// FuzzDuePeriod checks the arithmetic of periods at the edges of the calendar.
func FuzzDuePeriod(f *testing.F) {
	f.Add(int64(100_000_000), int64(1_700_000_000_000_000), int64(0), int64(1_800_000_000_000_000), 100)
	f.Fuzz(func(t *testing.T, period, anchor, settled, now int64, limit int) {
		s, err := schedule.Parse(schedule.Spec{Period: time.Duration(period)})
		if err != nil {
			return
		}
		from, to := laterOf(time.UnixMicro(anchor), time.UnixMicro(settled)), time.UnixMicro(now)
		for _, m := range []schedule.Misfire{skip, once, all} {
			out := s.Due(time.UnixMicro(anchor), time.UnixMicro(settled), to, schedule.Policy{Misfire: m, Limit: limit})
			for i, f := range out.Fires {
				if !f.After(from) || f.After(to) || i > 0 && f.Sub(out.Fires[i-1]) != s.Spec().Period {
					t.Fatalf("%v: fires %v in (%v, %v]", s, out.Fires, from, to)
				}
			}
			if !out.Next.IsZero() && !out.Next.After(to) {
				t.Fatalf("%v: at %v next is %v", s, to, out.Next)
			}
		}
	})
}
