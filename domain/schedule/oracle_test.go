package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

// The oracle models a reader of a wall clock, which it checks every minute of ten
// years against the contract. It shares nothing with the package: it reads
// expressions itself, without sets of bits, searches or arithmetic on clock
// changes. From package time it uses only the local time of an instant.

// reading is a local time: days since 1970-01-01 and minute of the day.
type reading struct{ day, minute uint16 }

func (r reading) before(o reading) bool {
	return r.day < o.day || r.day == o.day && r.minute < o.minute
}

func (r reading) following() reading {
	if r.minute == 24*60-1 {
		return reading{r.day + 1, 0}
	}
	return reading{r.day, r.minute + 1}
}

// timeline lists the minutes of ten years in the local time of one place.
type timeline struct {
	start   time.Time // of minute 0
	clock   []reading
	again   []bool              // the clock had shown this or a later time before
	skipped map[int32][]reading // local times that the clock skipped just before a minute
	days    []int32             // first minutes of the days, by local date
	plain   []bool              // for each entry of days: all its minutes occur in order, once
}

func (tl *timeline) dayEnd(d int) int32 {
	if d+1 < len(tl.days) {
		return tl.days[d+1]
	}
	return int32(len(tl.clock))
}

// watch builds the timeline from the start of one year to the end of another, in
// UTC. Offsets in these years are whole minutes.
func watch(zone string, firstYear, lastYear int) (*timeline, error) {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, err
	}
	tl := &timeline{start: time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC), skipped: map[int32][]reading{}}
	end := time.Date(lastYear+1, 1, 1, 0, 0, 0, 0, time.UTC)
	minutes := int(end.Sub(tl.start) / time.Minute)
	tl.clock, tl.again = make([]reading, minutes), make([]bool, minutes)
	t := tl.start.In(loc)
	var seen reading // the latest time that the clock has shown
	for i := range tl.clock {
		_, offset := t.Zone()
		shown := (t.Unix() + int64(offset)) / 60
		r := reading{uint16(shown / (24 * 60)), uint16(shown % (24 * 60))}
		tl.clock[i] = r
		if i == 0 || tl.clock[i-1].day != r.day {
			tl.days = append(tl.days, int32(i))
		}
		if i > 0 && !seen.before(r) {
			tl.again[i] = true
		} else {
			for missing := seen.following(); i > 0 && missing != r; missing = missing.following() {
				tl.skipped[int32(i)] = append(tl.skipped[int32(i)], missing)
			}
			seen = r
		}
		t = t.Add(time.Minute)
	}
	for d, from := range tl.days {
		to := tl.dayEnd(d)
		plain := to-from == 24*60 && tl.clock[from].minute == 0
		for i := from; i < to; i++ {
			plain = plain && !tl.again[i] && tl.skipped[i] == nil
		}
		tl.plain = append(tl.plain, plain)
	}
	return tl, nil
}

// oracle holds for each day and for each minute of a day whether it matches.
type oracle struct {
	days     []bool // by day since 1970-01-01
	minutes  [24 * 60]bool
	realTime bool
}

func newOracle(expr string) *oracle {
	f := strings.Fields(expr)
	o := &oracle{realTime: strings.Contains(f[1], "*")}
	var is [5][60]bool
	for i, field := range f {
		for v := range is[i] {
			is[i][v] = says(field, v)
		}
	}
	sunday := is[4][0] || is[4][7] && !strings.Contains(f[4], "*")
	for m := range o.minutes {
		o.minutes[m] = is[0][m%60] && is[1][m/60]
	}
	for d := range 30000 { // to 2052
		date := time.Date(1970, 1, 1+d, 0, 0, 0, 0, time.UTC)
		dom, dow := is[2][date.Day()], is[4][date.Weekday()]
		if date.Weekday() == time.Sunday {
			dow = sunday
		}
		match := dom && dow
		if !strings.Contains(f[2], "*") && !strings.Contains(f[4], "*") {
			match = dom || dow
		}
		o.days = append(o.days, match && is[3][date.Month()])
	}
	return o
}

// says reads "1-30/7,45" the slow way and reports whether it contains v. A field
// of this corpus has stars, numbers, ranges and steps; names are numbers already.
func says(list string, v int) bool {
	for element := range strings.SplitSeq(list, ",") {
		values, step, hasStep := strings.Cut(element, "/")
		lo, hi, isRange := strings.Cut(values, "-")
		every := 1
		if hasStep {
			every, _ = strconv.Atoi(step)
		}
		from, _ := strconv.Atoi(lo)
		to := from
		if isRange {
			to, _ = strconv.Atoi(hi)
		}
		if values == "*" {
			// Days and months start at 1, and so do their steps. The oracle gets
			// only values that exist.
			from, to = 0, 1000
			if hasStep && starIsFromOne(list) {
				from = 1
			}
		}
		if v >= from && v <= to && (v-from)%every == 0 {
			return true
		}
	}
	return false
}

// starIsFromOne reports whether forOracle has marked the field: its values start
// at 1. A field does not know its own position.
func starIsFromOne(list string) bool { return strings.HasPrefix(list, ",") }

// forOracle rewrites an expression for the oracle: a leading comma marks the
// third and fourth field, and numbers replace names.
func forOracle(expr string) string {
	f := strings.Fields(expr)
	f[2], f[3] = ","+f[2], ","+f[3]
	for name, n := range map[string]string{"JAN": "1", "FEB": "2", "MAR": "3", "APR": "4", "OCT": "10", "NOV": "11", "DEC": "12"} {
		f[3] = strings.ReplaceAll(f[3], name, n)
	}
	for name, n := range map[string]string{"SUN": "0", "MON": "1", "TUE": "2", "WED": "3", "THU": "4", "FRI": "5", "SAT": "6"} {
		f[4] = strings.ReplaceAll(f[4], name, n)
	}
	return strings.Join(f, " ")
}

func (o *oracle) match(r reading) bool { return o.minutes[r.minute] && o.days[r.day] }

// fires returns the indexes of the minutes at which the expression fires.
func (o *oracle) fires(tl *timeline) []int32 {
	var ofDay []int32
	for m, match := range o.minutes {
		if match {
			ofDay = append(ofDay, int32(m))
		}
	}
	var fires []int32
	for d, from := range tl.days {
		match := o.days[tl.clock[from].day]
		switch {
		case tl.plain[d] && !match:
		case tl.plain[d]:
			// All minutes of this day occur in order, once.
			for _, m := range ofDay {
				fires = append(fires, from+m)
			}
		default:
			for i := from; i < tl.dayEnd(d); i++ {
				if o.match(tl.clock[i]) && (o.realTime || !tl.again[i]) ||
					!o.realTime && slices.ContainsFunc(tl.skipped[i], o.match) {
					fires = append(fires, i)
				}
			}
		}
	}
	return fires
}

var corpus = []string{
	// dense, real time
	"* * * * *", "*/5 * * * *", "*/30 * * * *", "7-59/10 * * * *", "0 * * * *", "30 * * * *", "15,45 * * * *",
	"0 */2 * * *", "30 */3 * * *", "59 */23 * * *", "*/59 * * * *", "0 5,*/7 * * *", "17 * 29 2 *", "*/45 * * * 0",
	// fixed
	"*/15 2 * * *", "*/20 1,2,3 * * *", "* 0 * * *", "* 2 * 3,10,11 *", "*/10 0-4 1-7 * SUN",
	"0 0 * * *", "30 0 * * *", "59 23 * * *", "30 23 * * *", "0 1 * * *", "30 1 * * *", "0 2 * * *", "15 2 * * *",
	"30 2 * * *", "45 2 * * *", "0 3 * * *", "30 3 * * *", "0 12 * * *", "1,2,3,58,59 0,1,2,3,23 * * *",
	"0,30 0-23 * * *", "0-59 2 * * *", "0-59/7 0-23/5 * * *", "10,20,30 2 * * *",
	// days
	"0 2 * * SUN", "30 2 * * 7", "30 2 * * SAT,SUN", "0 9 * * MON-FRI", "0 0 1 * *", "0 0 31 * *", "30 2 29 3 *",
	"0 0 29 2 *", "0 0 29 FEB */2", "30 1 25-31 OCT *", "30 2 8-14 MAR *", "0 0 13 * FRI", "0 12 1,15 * WED",
	"30 2 */2 * *", "30 2 */2 * MON", "30 2 2-30/2 * MON", "0 0 1-31 * MON", "0 0 * */5 *", "0 0 1 1 *",
	"0 4 8 JAN,APR *", "0 22 * * 1-5", "23 0-20/2 * * *", "5 4 * * 0", "0 0,12 1 */2 *", "0 0 30 2 MON", "0 12 30 12 *",
	"30 2 31 12 *", "0 0 15 * */3", "59 1 * 3,4,10,11 0,6",
}

var oracleZones = []struct {
	zone        string
	first, last int // years
}{
	// These zones have both changes in each of ten years.
	{"America/New_York", 2010, 2019},
	{"Europe/Berlin", 2020, 2029},
	{"Australia/Lord_Howe", 2010, 2019}, // half an hour
	{"America/Asuncion", 2010, 2019},    // at midnight
	{"America/Sao_Paulo", 2008, 2017},   // at midnight
	{"Pacific/Auckland", 2010, 2019},
	// These zones have unusual changes.
	{"Europe/Berlin", 2043, 2046},     // by rule, beyond the table; 2044 is a leap year
	{"Pacific/Apia", 2009, 2013},      // a skipped day
	{"Africa/Cairo", 2009, 2015},      // four changes in a year, at midnight
	{"Africa/Casablanca", 2016, 2020}, // four changes in a year, and a new standard
	{"America/Caracas", 2015, 2017},   // half an hour, for good
	{"Antarctica/Troll", 2018, 2020},  // two hours
}

// TestAgreesWithTheOracle compares every fire near a clock change and near the
// turn of a year, and a sample of the others (all of them where an expression
// has few). From each it searches forwards with Next, and backwards with Due.
func TestAgreesWithTheOracle(t *testing.T) {
	zones, exprs := oracleZones, corpus
	if testing.Short() {
		zones = zones[:0:0]
		for _, z := range oracleZones {
			z.last = min(z.last, z.first+1)
			zones = append(zones, z)
		}
	}
	start := time.Now()
	oracles := map[string]*oracle{}
	for _, expr := range exprs {
		oracles[expr] = newOracle(forOracle(expr))
	}
	var compared atomic.Int64
	var group sync.WaitGroup
	room := make(chan struct{}, runtime.GOMAXPROCS(0)) // a timeline is 30 MB
	for _, z := range zones {
		group.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			tl, err := watch(z.zone, z.first, z.last)
			if err != nil {
				t.Error(err)
				return
			}
			near := tl.nearChanges()
			for _, expr := range exprs {
				s, err := schedule.Parse(schedule.Spec{Cron: expr, Timezone: z.zone})
				if err != nil {
					t.Errorf("%s: %v", expr, err)
					continue
				}
				n, err := compare(s, tl, near, oracles[expr].fires(tl))
				compared.Add(n)
				if err != nil {
					t.Errorf("%v: %v", s, err)
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d expressions, %d stretches of zones, %d fires compared in %v", len(exprs), len(zones), compared.Load(), time.Since(start).Round(time.Millisecond))
}

// nearChanges marks the minutes within 26 hours of a jump of the clock and of
// the turn of a year.
func (tl *timeline) nearChanges() []bool {
	const margin = 26 * 60
	near := make([]bool, len(tl.clock))
	mark := func(i int) {
		for j := max(i-margin, 0); j < min(i+margin, len(near)); j++ {
			near[j] = true
		}
	}
	for i := 1; i < len(tl.clock); i++ {
		if tl.clock[i] != tl.clock[i-1].following() {
			mark(i)
		}
	}
	for t := tl.start; ; t = t.AddDate(1, 0, 0) {
		i := int(t.Sub(tl.start) / time.Minute)
		if mark(i); i > len(near) {
			return near
		}
	}
}

func compare(s schedule.Schedule, tl *timeline, near []bool, want []int32) (int64, error) {
	instant := func(i int32) time.Time { return tl.start.Add(time.Duration(i) * time.Minute) }
	// The oracle knows nothing about the time before its first minute, so the
	// comparison starts after the first day.
	for len(want) > 0 && want[0] < 24*60 {
		want = want[1:]
	}
	stride := max(1, len(want)/2000)
	rng := rand.New(rand.NewPCG(1, 2))
	var n int64
	for i := 0; i+1 < len(want); i++ {
		if !near[want[i]] && (stride > 1 && rng.IntN(stride) != 0) {
			continue
		}
		n++
		from, to := instant(want[i]), instant(want[i+1])
		if got, ok := s.Next(time.Time{}, from); !ok || !got.Equal(to) {
			return n, fmt.Errorf("after %v comes %v, %v, the oracle says %v", wall(s, from), wall(s, got), ok, wall(s, to))
		}
		// From anywhere in between, Next returns the same fire.
		if n%2 == 0 {
			continue
		}
		if got, _ := s.Next(time.Time{}, from.Add(time.Duration(rng.Int64N(int64(to.Sub(from)))))); !got.Equal(to) {
			return n, fmt.Errorf("between %v and %v, next is %v", wall(s, from), wall(s, to), wall(s, got))
		}
		if n%8 == 1 {
			if err := compareBack(s, instant, want, i+1); err != nil {
				return n, err
			}
		}
	}
	if len(want) > 0 && len(want) < 100 {
		if got := between(s, instant(24*60), instant(int32(len(tl.clock)))); len(got) != len(want) {
			return n, fmt.Errorf("%d fires, the oracle has %d", len(got), len(want))
		}
	}
	return n, nil
}

// compareBack compares the five fires that end with want[i] with those of Due.
func compareBack(s schedule.Schedule, instant func(int32) time.Time, want []int32, i int) error {
	now := instant(want[i])
	if i+1 < len(want) {
		now = instant(want[i+1]).Add(-time.Nanosecond)
	}
	out := s.Due(time.Time{}, now.AddDate(-20, 0, 0), now, schedule.Policy{Misfire: schedule.MisfireAll, Limit: 5})
	for back := range min(5, i+1) {
		if len(out.Fires) <= back {
			return fmt.Errorf("at %v only %d fires", wall(s, now), len(out.Fires))
		}
		if got, w := out.Fires[len(out.Fires)-1-back], instant(want[i-back]); !got.Equal(w) {
			return fmt.Errorf("%d before %v is %v, the oracle says %v", back, wall(s, now), wall(s, got), wall(s, w))
		}
	}
	return nil
}

func wall(s schedule.Schedule, t time.Time) string { return t.In(s.Location()).Format(time.RFC3339) }
