package queue

import (
	"errors"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

// Schedule is the parsed schedule of t, or an error of KindInvalid that names the field at fault.
func (t *Ticker) Schedule() (schedule.Schedule, error) {
	s, err := schedule.Parse(schedule.Spec{Period: t.Period, Cron: t.Cron, Timezone: t.Timezone})
	if e, ok := errors.AsType[*schedule.Error](err); ok {
		return s, Invalid(e.Field, e.Msg)
	}
	return s, err
}
