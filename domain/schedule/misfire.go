package schedule

import (
	"slices"
	"time"
)

// Misfire says what becomes of nominal times that passed while nobody looked.
type Misfire string

// The policies. The empty one is MisfireOnce.
const (
	// MisfireSkip drops what was missed. The latest due time still fires when it
	// is no older than SkipGrace, or than the period if that is shorter: a tick
	// seen a poll late was not missed.
	MisfireSkip Misfire = "skip"
	// MisfireOnce makes one fire of all due times: the latest, however old.
	MisfireOnce Misfire = "once"
	// MisfireAll fires every due time, oldest first. Where there are more than
	// the limit, the newest are kept and the older ones dropped: after a long
	// outage the recent past is what still matters.
	MisfireAll Misfire = "all"
)

// Limits of a misfire policy.
const (
	// SkipGrace is how late a tick may be seen under MisfireSkip and still fire.
	// It is the distance of two neighbouring cron fires, and so the most that a
	// schedule of every minute can be late without the next tick being due.
	SkipGrace = time.Minute
	// DefaultMisfireLimit is the most fires MisfireAll makes at once by default.
	DefaultMisfireLimit = 100
	// MaxMisfireLimit is the largest limit: one batch of tasks.
	MaxMisfireLimit = 10_000
)

// Policy is a misfire policy with its limit.
type Policy struct {
	Misfire Misfire // empty is MisfireOnce
	Limit   int     // of MisfireAll: 1 to MaxMisfireLimit; 0 is DefaultMisfireLimit
}

// Validate gives an [*Error] for an unknown policy or a limit out of range.
func (p Policy) Validate() error {
	switch p.Misfire {
	case "", MisfireSkip, MisfireOnce, MisfireAll:
	default:
		name := string(p.Misfire)
		if len(name) > 32 {
			name = name[:32]
		}
		return errorf(FieldMisfire, "%q is unknown, allowed are skip, once, all", name)
	}
	if p.Limit < 0 || p.Limit > MaxMisfireLimit {
		return errorf(FieldMisfireLimit, "%d is out of range, allowed are 1 to %d, or 0 for %d", p.Limit, MaxMisfireLimit, DefaultMisfireLimit)
	}
	return nil
}

// Outcome is what [Schedule.Due] decides.
type Outcome struct {
	Fires   []time.Time // the nominal times that fire now, oldest first
	Next    time.Time   // the first nominal time that is not due yet; zero is never
	Dropped bool        // some due times make no fire of their own
}

// Due decides about the nominal times that are after settled and not after now:
// which of them fire now, and what comes next. After it, everything up to now is
// settled, whether it fired or was dropped.
//
// settled is the instant up to which everything has been decided already: the
// last tick's nominal time, or the moment a paused ticker was resumed, or zero
// for a ticker that never ticked. A caller that stores only the next nominal
// time passes any instant just before it, such as next - 1µs.
//
// A now before settled (a clock that went back) gives no fires and the next time
// after settled, so nothing fires twice. With equal arguments the result is
// equal. A policy that Validate refuses counts as MisfireOnce, a limit out of
// range as the nearest in it. At most Limit fires are computed, and the cost does
// not depend on how long ago settled is.
func (s Schedule) Due(anchor, settled, now time.Time, p Policy) Outcome {
	var out Outcome
	out.Next, _ = s.Next(anchor, later(settled, now))
	latest, due := s.prev(anchor, settled, now)
	if !due {
		return out
	}
	switch p.Misfire {
	case MisfireSkip:
		if now.Sub(latest) <= s.grace() {
			out.Fires = []time.Time{latest}
		}
	case MisfireAll:
		out.Fires = s.newest(anchor, settled, latest, p.limit())
	default:
		out.Fires = []time.Time{latest}
	}
	first, _ := s.Next(anchor, settled)
	// Fires ends with latest if it holds anything, so a fire of the first due
	// time means that none after it was left out.
	out.Dropped = len(out.Fires) == 0 || !out.Fires[0].Equal(first)
	return out
}

// newest gives up to limit nominal times after settled that end with latest.
func (s Schedule) newest(anchor, settled, latest time.Time, limit int) []time.Time {
	fires := []time.Time{latest}
	for len(fires) < limit {
		t, ok := s.prev(anchor, settled, fires[len(fires)-1].Add(-time.Nanosecond))
		if !ok {
			break
		}
		fires = append(fires, t)
	}
	slices.Reverse(fires)
	return fires
}

func (s Schedule) grace() time.Duration {
	if s.period != 0 {
		return min(SkipGrace, s.spec.Period)
	}
	return SkipGrace
}

func (p Policy) limit() int {
	if p.Limit == 0 {
		return DefaultMisfireLimit
	}
	return min(max(p.Limit, 1), MaxMisfireLimit)
}
