package queue

import (
	"errors"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

// Schedule is the parsed schedule of t, or an error of KindInvalid that names the field at fault. The time zone of a period
// has no effect, so none that this host does not know is in its way.
func (t *Ticker) Schedule() (schedule.Schedule, error) {
	spec := schedule.Spec{Period: t.Period, Cron: t.Cron, Timezone: t.Timezone}
	if t.Cron == "" {
		spec.Timezone = ""
	}
	return parseSchedule(spec)
}

// SameSchedule reports whether t and other fire by the same rule.
func (t *Ticker) SameSchedule(other *Ticker) bool {
	return t.Period == other.Period && t.Cron == other.Cron && t.Timezone == other.Timezone
}

// checkTimezone checks a zone that a caller gives, beside whatever schedule.
func checkTimezone(name string) error {
	_, err := parseSchedule(schedule.Spec{Period: schedule.MinPeriod, Timezone: name})
	return err
}

func parseSchedule(spec schedule.Spec) (schedule.Schedule, error) {
	s, err := schedule.Parse(spec)
	if e, ok := errors.AsType[*schedule.Error](err); ok {
		return s, Invalid(e.Field, e.Msg)
	}
	return s, err
}
