package schedule

import (
	"strings"
	"time"
)

// period is a whole number of microseconds; zero means that a schedule has no
// period. Microseconds in an int64 hold every instant from year 1 to 9999. A
// time.Duration ends after 292 years, so its subtractions could saturate.
type period int64

// parsePeriod converts d, which must be a whole number of microseconds from MinPeriod to MaxPeriod.
func parsePeriod(d time.Duration) (period, error) {
	if d < MinPeriod || d > MaxPeriod {
		return 0, invalidSpec(FieldPeriod, "must be a duration from %s to 10 years (%s), got %.64s",
			shortDuration(MinPeriod), shortDuration(MaxPeriod), shortDuration(d))
	}
	if d%time.Microsecond != 0 {
		return 0, invalidSpec(FieldPeriod, "must be a whole number of microseconds, got %.64s; round it", shortDuration(d))
	}
	return period(d / time.Microsecond), nil
}

// nextInstant returns the first anchor + k·p, k ≥ 1, that is after the instant after.
func (p period) nextInstant(anchor, after time.Time) time.Time {
	// UnixMicro rounds down. A nominal time is whole microseconds, so it is after
	// an instant exactly when it is after that instant rounded down.
	base, at := anchor.UnixMicro(), after.UnixMicro()
	k := int64(1)
	if at >= base {
		k = (at-base)/int64(p) + 1
	}
	return time.UnixMicro(base + k*int64(p)).UTC()
}

// previousInstant returns the last anchor + k·p, k ≥ 1, that is not after at.
func (p period) previousInstant(anchor, at time.Time) (time.Time, bool) {
	base := anchor.UnixMicro()
	k := (at.UnixMicro() - base) / int64(p)
	if k < 1 {
		return time.Time{}, false
	}
	return time.UnixMicro(base + k*int64(p)).UTC(), true
}

// shortDuration writes 1h30m where time.Duration writes 1h30m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
