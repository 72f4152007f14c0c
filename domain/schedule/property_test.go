package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

var propertyZones = []string{
	"", "America/New_York", "Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe", "America/Sao_Paulo", "America/Asuncion",
	"Africa/Cairo", "Africa/Casablanca", "Pacific/Apia", "Pacific/Kwajalein", "Pacific/Chatham", "Asia/Kathmandu", "Africa/Monrovia",
	"Antarctica/Troll", "Asia/Pyongyang", "Asia/Gaza", "America/Nuuk",
}

// randomSpec returns an expression of any shape, or a period.
func randomSpec(rng *rand.Rand) schedule.Spec {
	if rng.IntN(5) == 0 {
		d := schedule.MinPeriod + time.Duration(rng.Int64N(int64(1)<<(10+rng.IntN(45))))
		return schedule.Spec{Period: d.Truncate(time.Microsecond)}
	}
	field := func(lo, hi int) string {
		a := lo + rng.IntN(hi-lo+1)
		b := a + rng.IntN(hi-a+1)
		switch rng.IntN(8) {
		case 0, 1, 2:
			return "*"
		case 3:
			return fmt.Sprintf("*/%d", 1+rng.IntN(hi-lo))
		case 4:
			return fmt.Sprintf("%d-%d", a, b)
		case 5:
			return fmt.Sprintf("%d-%d/%d", a, b, 1+rng.IntN(hi-lo))
		case 6:
			return fmt.Sprintf("%d,%d", a, b)
		default:
			return strconv.Itoa(a)
		}
	}
	return schedule.Spec{
		Cron:     fmt.Sprint(field(0, 59), " ", field(0, 23), " ", field(1, 31), " ", field(1, 12), " ", field(0, 6)),
		Timezone: propertyZones[rng.IntN(len(propertyZones))],
	}
}

// checkNext checks the properties of Next and Due that hold for every schedule.
// Anchors and afters are in or near the years in which zones change.
func checkNext(s schedule.Schedule, anchor, after time.Time, rng *rand.Rand) error {
	next, ok := s.Next(anchor, after)
	if !ok {
		if after.Year() < 9900 && anchor.Year() < 9900 {
			return fmt.Errorf("never fires after %v", after)
		}
		return nil
	}
	if again, _ := s.Next(anchor, after); !again.Equal(next) {
		return fmt.Errorf("asked twice it says %v and %v", next, again)
	}
	if !next.After(after) || !next.After(anchor) {
		return fmt.Errorf("%v is not after %v and the anchor %v", next, after, anchor)
	}
	if next.Location() != time.UTC || next.Nanosecond()%1000 != 0 {
		return fmt.Errorf("%v is not UTC in whole microseconds", next)
	}
	// Next returns the same time from anywhere between after and next: it leaves nothing out.
	between := after.Add(time.Duration(rng.Int64N(int64(max(1, min(next.Sub(after), 1<<62))))))
	if got, _ := s.Next(anchor, between); !got.Equal(next) {
		return fmt.Errorf("after %v comes %v, but after %v comes %v", after, next, between, got)
	}
	if got, _ := s.Next(anchor, next.Add(-time.Nanosecond)); !got.Equal(next) {
		return fmt.Errorf("just before %v comes %v", next, got)
	}
	second, ok := s.Next(anchor, next)
	if ok && !second.After(next) {
		return fmt.Errorf("after %v comes %v", next, second)
	}
	// Due agrees with Next: MisfireAll fires the times that Next counts up to now.
	count := rng.IntN(20)
	want := s.Preview(anchor, after, count+1)
	if len(want) < count+1 {
		return nil
	}
	now := want[count].Add(-time.Nanosecond)
	due := want[:count]
	out := s.Due(anchor, after, now, schedule.Policy{Misfire: schedule.MisfireAll})
	if !slices.EqualFunc(out.Fires, due, time.Time.Equal) || out.Dropped || !out.Next.Equal(want[count]) {
		return fmt.Errorf("from %v to %v Next counts %v then %v, Due says %+v", after, now, due, want[count], out)
	}
	out = s.Due(anchor, after, now, schedule.Policy{Misfire: schedule.MisfireOnce})
	if len(out.Fires) != min(count, 1) || count > 0 && !out.Fires[0].Equal(due[count-1]) || out.Dropped != (count > 1) {
		return fmt.Errorf("from %v to %v once of %v is %+v", after, now, due, out)
	}
	out = s.Due(anchor, after, now, schedule.Policy{Misfire: schedule.MisfireSkip})
	if len(out.Fires) > 1 || len(out.Fires) == 1 && !out.Fires[0].Equal(due[count-1]) || count == 0 && out.Dropped {
		return fmt.Errorf("from %v to %v skip of %v is %+v", after, now, due, out)
	}
	return nil
}

func TestPropertiesOfRandomSchedules(t *testing.T) {
	rounds := 20_000
	if testing.Short() {
		rounds = 2_000
	}
	rng := rand.New(rand.NewPCG(2026, 11))
	first := time.Date(1880, 1, 1, 0, 0, 0, 0, time.UTC)
	accepted := 0
	for range rounds {
		spec := randomSpec(rng)
		s, err := schedule.Parse(spec)
		if err != nil {
			continue // such as 31 February
		}
		accepted++
		instant := func() time.Time {
			return first.Add(time.Duration(rng.Int64N(220*365*24*3600)) * time.Second).Add(time.Duration(rng.Int64N(1e9)))
		}
		anchor, after := instant(), instant()
		if spec.Period == 0 && rng.IntN(2) == 0 {
			anchor = time.Time{}
		}
		if err := checkNext(s, anchor, laterOf(anchor, after), rng); err != nil {
			t.Fatalf("%+v: %v", spec, err)
		}
		if err := checkNext(s, anchor, after, rng); err != nil && after.After(anchor) {
			t.Fatalf("%+v: %v", spec, err)
		}
	}
	if accepted < rounds*8/10 {
		t.Errorf("only %d of %d random specs are accepted", accepted, rounds)
	}
}

// TestFixedTimesFireOncePerLocalDay counts, in every zone of the list, the days
// of 60 years and the fires of a fixed local time. The counts are equal, except
// for the day at each edge and for a skipped date: its fire may share the
// instant of the next date's.
func TestFixedTimesFireOncePerLocalDay(t *testing.T) {
	for _, zone := range propertyZones {
		for _, expr := range []string{"0 0 * * *", "30 0 * * *", "30 1 * * *", "15 2 * * *", "59 23 * * *"} {
			s := cronIn(t, expr, zone)
			from, to := at(t, "1968-01-01T15:00:00Z"), at(t, "2028-01-01T15:00:00Z")
			if testing.Short() {
				from = at(t, "2010-01-01T15:00:00Z")
			}
			days := int(to.Sub(from) / (24 * time.Hour))
			_, a := from.In(s.Location()).Zone()
			_, b := to.In(s.Location()).Zone()
			slack := 1 + max(a-b, b-a)/(12*60*60)
			if got := len(between(s, from, to)); got < days-slack || got > days+slack {
				t.Errorf("%v: %d fires in %d days", s, got, days)
			}
		}
	}
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
