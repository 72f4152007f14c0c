package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Group is a group of tasks of a queue.
type Group struct {
	Queue       string    `json:"queue" doc:"The queue's name" example:"mail"`
	Group       string    `json:"group" doc:"The group of its tasks" example:"tenant-7"`
	Weight      int       `json:"weight,omitempty" doc:"Its share of a fair queue, as a multiple of that of others; absent = 1" example:"4"`
	Concurrency int       `json:"concurrency,omitempty" doc:"The most tasks retained at once; absent = as the queue says" example:"5"`
	RateLimit   int       `json:"rate_limit,omitempty" doc:"The most starts in rate_period; absent = as the queue says" example:"100"`
	RatePeriod  int64     `json:"rate_period,omitempty" doc:"The period of rate_limit, nanoseconds" example:"1000000000"`
	RateBurst   int       `json:"rate_burst,omitempty" doc:"The most starts at once" example:"10"`
	PausedUntil time.Time `json:"paused_until,omitzero" doc:"No task of the group starts before" example:"2026-01-02T15:04:05Z"`
	Waiting     int64     `json:"waiting" doc:"Tasks that wait for the group, counted up to 1000" example:"12"`
	Retained    int64     `json:"retained" doc:"Tasks that keep a place of the group" example:"2"`
	Next        time.Time `json:"next,omitzero" doc:"When the next task may start; absent = at once, or when a place is free" example:"2026-01-02T15:04:05Z"`
	Blocked     int64     `json:"blocked,omitempty" doc:"The failed task that holds up the group" example:"1"`
}

// GroupOf converts g for the wire.
func GroupOf(g *queue.Group) Group {
	return Group{
		Queue: g.Queue, Group: g.Name, Weight: g.Weight, Concurrency: g.Concurrency, RateLimit: g.RateLimit, RatePeriod: int64(g.RatePeriod),
		RateBurst: g.RateBurst, PausedUntil: g.PausedUntil, Waiting: g.Waiting, Retained: g.Retained, Next: g.Next, Blocked: g.Blocked,
	}
}

// Domain returns the group as a value of the domain.
func (g Group) Domain() *queue.Group {
	return &queue.Group{
		Queue: g.Queue, Name: g.Group, Waiting: g.Waiting, Retained: g.Retained, Next: g.Next, Blocked: g.Blocked,
		GroupPolicy: queue.GroupPolicy{
			Weight: g.Weight, Concurrency: g.Concurrency, RateLimit: g.RateLimit, RatePeriod: time.Duration(g.RatePeriod),
			RateBurst: g.RateBurst, PausedUntil: g.PausedUntil,
		},
	}
}

// GroupMeta holds the settings of a group in a request. An absent or null setting stays unchanged.
type GroupMeta struct {
	Weight      *int      `json:"weight,omitempty" doc:"Its share of a fair queue, as a multiple of that of others, 1 to 1000" example:"4"`
	Concurrency *int      `json:"concurrency,omitempty" doc:"The most tasks retained at once, at most 256; 0 = as the queue says" example:"5"`
	RateLimit   *int      `json:"rate_limit,omitempty" doc:"The most starts in rate_period; 0 = as the queue says" example:"100"`
	RatePeriod  *Duration `json:"rate_period,omitempty" doc:"The period of rate_limit, 1s to 24h" example:"1s"`
	RateBurst   *int      `json:"rate_burst,omitempty" doc:"The most starts at once; 0 = those of a tenth of a second, at least 1" example:"10"`
	PausedUntil *Time     `json:"paused_until,omitempty" doc:"No task of the group starts before; a past time resumes it" example:"2026-01-02T15:04:05Z"`
}

// GroupMetaOf converts m for the wire.
func GroupMetaOf(m queue.GroupMeta) GroupMeta {
	out := GroupMeta{
		Weight: m.Weight, Concurrency: m.Concurrency, RateLimit: m.RateLimit, RatePeriod: durationOf(m.RatePeriod), RateBurst: m.RateBurst,
	}
	if m.PausedUntil != nil {
		// The wire has no zero time; any past time ends a pause.
		until := *m.PausedUntil
		if until.IsZero() {
			until = time.Unix(0, 0)
		}
		out.PausedUntil = TimeOf(until)
	}
	return out
}

// Domain returns the settings as a value of the domain.
func (m GroupMeta) Domain() (queue.GroupMeta, error) {
	out := queue.GroupMeta{Weight: m.Weight, Concurrency: m.Concurrency, RateLimit: m.RateLimit, RateBurst: m.RateBurst}
	if m.PausedUntil != nil {
		until, err := m.PausedUntil.In("paused_until")
		if err != nil {
			return out, err
		}
		out.PausedUntil = &until
	}
	return out, durations(durationField{"rate_period", m.RatePeriod, &out.RatePeriod})
}
