package schedule

import (
	"time"
)

// Limits of a schedule.
const (
	// MinPeriod is the shortest period. A tick costs a transaction, and shorter
	// periods would load the database with little else.
	MinPeriod = 100 * time.Millisecond
	// MaxPeriod is the longest period, 10 years of 365 days.
	MaxPeriod = 10 * 365 * 24 * time.Hour
	// MaxCronBytes is the largest size of a cron expression in bytes.
	MaxCronBytes = 256
	// MaxTimezoneBytes is the largest size of a time zone's name in bytes. The
	// longest name in the IANA database has 32.
	MaxTimezoneBytes = 64
	// MaxPreview is the largest number of fires that [Schedule.Preview] returns.
	MaxPreview = 1000
)

// Schedules fire in the years 1 to 9999, those that RFC 3339 can write.
var (
	minTime = time.Date(1, time.January, 1, 0, 0, 0, 0, time.UTC)
	maxTime = time.Date(9999, time.December, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// Spec is a schedule in the form of its user. Exactly one of Period and Cron is set.
type Spec struct {
	// Period is the time between two fires: MinPeriod to MaxPeriod, a whole
	// number of microseconds.
	Period time.Duration
	// Cron is an expression of five fields or an @-name, at most MaxCronBytes
	// bytes of ASCII; see the package comment.
	Cron string
	// Timezone is the IANA name of the zone in which Cron is read; empty is UTC.
	// Parse checks it with a Period too, where it has no effect.
	Timezone string
}

// Schedule is a checked [Spec]. It is immutable: copy it and share it between
// goroutines freely. The zero Schedule never fires.
type Schedule struct {
	spec   Spec
	period period
	cron   cron
}

// Parse checks a spec. Its errors are of type [*Error] and name the field.
//
// Parse reads the zone from the host's database, which costs some tens of
// microseconds. A process with many tickers parses once per change of a ticker,
// and not once per tick.
func Parse(spec Spec) (Schedule, error) {
	loc, err := loadTimeZone(spec.Timezone)
	if err != nil {
		return Schedule{}, err
	}
	spec.Timezone = loc.String()

	switch {
	case spec.Period != 0 && spec.Cron != "":
		return Schedule{}, invalidSpec(FieldCron, "must not come with a period; leave one out")
	case spec.Period == 0 && spec.Cron == "":
		return Schedule{}, invalidSpec(FieldPeriod, "must be a period or a cron expression, got none")
	case spec.Cron == "":
		p, err := parsePeriod(spec.Period)
		if err != nil {
			return Schedule{}, err
		}
		return Schedule{spec: spec, period: p}, nil
	default:
		e, err := parseExpression(spec.Cron)
		if err != nil {
			return Schedule{}, err
		}
		return Schedule{spec: spec, cron: cron{expr: e, zone: zone{loc}}}, nil
	}
}

// Spec returns the parsed spec, with Timezone filled in.
func (s Schedule) Spec() Spec { return s.spec }

// Location returns the zone in which a cron expression is read; UTC for the zero
// Schedule. Use it to show fires as local times.
func (s Schedule) Location() *time.Location {
	if s.cron.zone.loc != nil {
		return s.cron.zone.loc
	}
	return time.UTC
}

// String describes the schedule for readers: "every 1m30s" or
// "30 2 * * * (Europe/Berlin)". Parse does not read this form.
func (s Schedule) String() string {
	switch {
	case s.spec.Period != 0:
		return "every " + shortDuration(s.spec.Period)
	case s.spec.Cron != "":
		return s.spec.Cron + " (" + s.spec.Timezone + ")"
	default:
		return "never"
	}
}

// Next returns the first nominal time that is strictly after both the instant
// after and the anchor. ok is false without such a time before the year 10000,
// for the zero Schedule, and for a cron expression that does not fire for 50
// years.
//
// A zero after stands for "from the anchor on". A zero anchor does not bound a
// cron expression, and stands for the year 1 with a period.
func (s Schedule) Next(anchor, after time.Time) (time.Time, bool) {
	anchor, after = clampToMinTime(anchor), clampToMinTime(after)
	if anchor.After(maxTime) || after.After(maxTime) {
		return time.Time{}, false
	}

	var t time.Time
	ok := false
	switch {
	case s.period != 0:
		t, ok = s.period.nextInstant(anchor, after), true
	case s.cron.zone.loc != nil:
		var sec int64
		if sec, ok = s.cron.nextInstant(laterOf(anchor, after).Unix()); ok {
			t = time.Unix(sec, 0).UTC()
		}
	}

	if !ok || t.After(maxTime) {
		return time.Time{}, false
	}
	return t, true
}

// previousNominal returns the latest nominal time that is at or before at, and strictly
// after both the anchor and floor. floor keeps the search short when the
// schedule is sparse.
func (s Schedule) previousNominal(anchor, floor, at time.Time) (time.Time, bool) {
	anchor, floor = clampToMinTime(anchor), clampToMinTime(floor)
	if at.After(maxTime) {
		at = maxTime
	}
	if !at.After(laterOf(anchor, floor)) {
		return time.Time{}, false
	}

	switch {
	case s.period != 0:
		t, ok := s.period.previousInstant(anchor, at)
		return t, ok && t.After(floor)
	case s.cron.zone.loc != nil:
		sec, ok := s.cron.previousInstant(at.Unix(), laterOf(anchor, floor).Unix())
		return time.Unix(sec, 0).UTC(), ok
	default:
		return time.Time{}, false
	}
}

// Preview returns the next n nominal times after the instant after, oldest
// first. It returns fewer when the schedule ends, at most MaxPreview, and none
// when n is not positive.
func (s Schedule) Preview(anchor, after time.Time, n int) []time.Time {
	n = min(n, MaxPreview)
	if n <= 0 {
		return nil
	}

	fires := make([]time.Time, 0, n)
	for len(fires) < n {
		t, ok := s.Next(anchor, after)
		if !ok {
			break
		}
		fires = append(fires, t)
		after = t
	}
	return fires
}

// clampToMinTime returns t, or minTime when t is before it.
func clampToMinTime(t time.Time) time.Time {
	if t.Before(minTime) {
		return minTime
	}
	return t
}

// laterOf returns the later of two instants.
func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
