package schedule

import (
	"slices"
	"time"
)

// Misfire decides about nominal times that passed before the ticker was checked.
type Misfire string

// The policies. The empty one means MisfireOnce.
const (
	// MisfireSkip drops missed times. The latest due time still fires when its
	// age is at most SkipGrace, or the period if that is shorter: a tick seen one
	// poll late was not missed.
	MisfireSkip Misfire = "skip"
	// MisfireOnce makes one fire of all due times: the latest, at any age.
	MisfireOnce Misfire = "once"
	// MisfireAll fires every due time, oldest first. Beyond the limit it keeps
	// the newest times and drops older ones, because the recent past matters
	// most after a long outage.
	MisfireAll Misfire = "all"
)

// Limits of a misfire policy.
const (
	// SkipGrace is the longest delay of a tick that still fires under
	// MisfireSkip. It is the distance of two neighbouring cron fires: a schedule
	// of every minute can be that late before its next tick is due.
	SkipGrace = time.Minute
	// DefaultMisfireLimit is the default for the most fires that MisfireAll makes at once.
	DefaultMisfireLimit = 100
	// MaxMisfireLimit is the largest limit: one batch of tasks.
	MaxMisfireLimit = 10_000
)

// Policy is a misfire policy with its limit.
type Policy struct {
	Misfire Misfire // empty is MisfireOnce
	Limit   int     // of MisfireAll: 1 to MaxMisfireLimit; 0 is DefaultMisfireLimit
}

// Validate returns an [*Error] for an unknown policy or a limit out of range.
func (p Policy) Validate() error {
	switch p.Misfire {
	case "", MisfireSkip, MisfireOnce, MisfireAll:
	default:
		return invalidSpec(FieldMisfire, "must be skip, once or all, got %.64q", p.Misfire)
	}

	if p.Limit < 0 || p.Limit > MaxMisfireLimit {
		return invalidSpec(FieldMisfireLimit, "must be a number from 1 to %d, or 0 for %d, got %d", MaxMisfireLimit, DefaultMisfireLimit, p.Limit)
	}
	return nil
}

// Outcome is the decision of [Schedule.Due].
type Outcome struct {
	Fires   []time.Time // the nominal times that fire now, oldest first
	Next    time.Time   // the first nominal time that is not due yet; zero when there is none
	Dropped bool        // some due times have no fire of their own
}

// Due decides about the nominal times that are after settled and not after now:
// which of them fire now, and which time is next. After it, all times up to now
// are settled: each has fired or was dropped.
//
// settled is the instant up to which all times are decided already: the nominal
// time of the last tick, or the time at which a paused ticker was resumed, or
// zero for a ticker that never ticked. A caller that stores only the next
// nominal time passes any instant just before it, such as next - 1µs.
//
// A now before settled (a clock that went back) gives no fires and the next time
// after settled, so nothing fires twice. Equal arguments give equal results. Due
// takes a policy that Validate refuses as MisfireOnce, and a limit out of range
// as the nearest one in it. It computes at most Limit fires, and its cost does
// not depend on the age of settled.
func (s Schedule) Due(anchor, settled, now time.Time, p Policy) Outcome {
	var out Outcome
	out.Next, _ = s.Next(anchor, laterOf(settled, now))
	latest, due := s.previousNominal(anchor, settled, now)
	if !due {
		return out
	}

	switch p.Misfire {
	case MisfireSkip:
		if now.Sub(latest) <= s.misfireGrace() {
			out.Fires = []time.Time{latest}
		}
	case MisfireAll:
		out.Fires = s.newestNominals(anchor, settled, latest, p.catchUpLimit())
	default:
		out.Fires = []time.Time{latest}
	}

	// Fires ends with latest if it holds anything, so a fire of the first due
	// time means that none after it was left out.
	first, _ := s.Next(anchor, settled)
	out.Dropped = len(out.Fires) == 0 || !out.Fires[0].Equal(first)
	return out
}

// newestNominals returns up to limit nominal times after settled; the last one is latest.
func (s Schedule) newestNominals(anchor, settled, latest time.Time, limit int) []time.Time {
	fires := []time.Time{latest}
	for len(fires) < limit {
		t, ok := s.previousNominal(anchor, settled, fires[len(fires)-1].Add(-time.Nanosecond))
		if !ok {
			break
		}
		fires = append(fires, t)
	}
	slices.Reverse(fires)
	return fires
}

// misfireGrace returns the age up to which a due time fires under MisfireSkip.
func (s Schedule) misfireGrace() time.Duration {
	if s.period != 0 {
		return min(SkipGrace, s.spec.Period)
	}
	return SkipGrace
}

// catchUpLimit returns the limit within its bounds, with its default applied.
func (p Policy) catchUpLimit() int {
	if p.Limit == 0 {
		return DefaultMisfireLimit
	}
	return min(max(p.Limit, 1), MaxMisfireLimit)
}
