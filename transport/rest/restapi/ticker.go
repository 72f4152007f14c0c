package restapi

import (
	"encoding/json"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Ticker is a ticker in an answer. The first five fields are the predecessor's.
type Ticker struct {
	Ticker       string          `json:"ticker" doc:"The ticker's name" example:"hourly"`
	Interval     int64           `json:"interval,omitempty" doc:"The period once more" example:"3600000000000"`
	Payload      json.RawMessage `json:"payload,omitempty" doc:"The payload of each tick, any JSON" example:"{}"`
	Namespace    string          `json:"namespace" doc:"The tenant" example:"default"`
	Timestamp    time.Time       `json:"timestamp,omitzero" doc:"The nominal time of the last tick; absent before the first" example:"2026-01-02T15:00:00Z"`
	Period       int64           `json:"period,omitempty" doc:"The fixed interval, nanoseconds; absent with a cron expression" example:"3600000000000"`
	Cron         string          `json:"cron,omitempty" doc:"The cron expression" example:"0 * * * *"`
	Timezone     string          `json:"timezone,omitempty" doc:"The IANA name of the time zone; absent = UTC" example:"Europe/Berlin"`
	Queue        string          `json:"queue,omitempty" doc:"Where each tick becomes a task; absent = ticks go to listeners" example:"mail"`
	Misfire      string          `json:"misfire" enum:"skip,once,all" doc:"How to handle the ticks that fell into a downtime" example:"once"`
	MisfireLimit int             `json:"misfire_limit" doc:"The most ticks made up with misfire all" example:"100"`
	Overlap      string          `json:"overlap" enum:"allow,skip" doc:"How to handle a tick while the last tick's task is unfinished" example:"allow"`
	Paused       bool            `json:"paused" doc:"It does not fire while true" example:"false"`
	NextAt       time.Time       `json:"next_at,omitzero" doc:"The nominal time of the next tick; absent while paused" example:"2026-01-02T16:00:00Z"`
	Fault        string          `json:"fault,omitempty" doc:"Why it did not fire, or made no task, when it was last due; absent when all is well" example:"timezone: \"Mars/Olympus\" is not in the time zone database of this host"`
	Anchor       time.Time       `json:"anchor,omitzero" doc:"Where the period counts from" example:"2026-01-02T15:00:00Z"`
	Version      int64           `json:"version" doc:"Grows by one with every update; also the ETag" example:"1"`
	CreatedAt    time.Time       `json:"created_at,omitzero" doc:"When it was created" example:"2026-01-02T15:04:05Z"`
	UpdatedAt    time.Time       `json:"updated_at,omitzero" doc:"When it was last updated" example:"2026-01-02T15:04:05Z"`
}

// TickerOf converts t for the wire.
func TickerOf(t *queue.Ticker) Ticker {
	return Ticker{
		Ticker: t.Name, Interval: int64(t.Period), Payload: t.Payload, Namespace: t.Namespace, Timestamp: t.Timestamp,
		Period: int64(t.Period), Cron: t.Cron, Timezone: t.Timezone, Queue: t.Queue, Misfire: string(t.Misfire),
		MisfireLimit: t.MisfireLimit, Overlap: string(t.Overlap), Paused: t.Paused, NextAt: t.NextAt, Fault: t.Fault, Anchor: t.Anchor,
		Version: t.Version, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
	}
}

// Domain returns the ticker that t describes.
func (t Ticker) Domain() *queue.Ticker {
	return &queue.Ticker{
		Namespace: t.Namespace, Name: t.Ticker, Period: time.Duration(t.Period), Cron: t.Cron, Timezone: t.Timezone,
		Queue: t.Queue, Payload: t.Payload, Misfire: queue.Misfire(t.Misfire), MisfireLimit: t.MisfireLimit,
		Overlap: queue.Overlap(t.Overlap), Paused: t.Paused, Timestamp: t.Timestamp, NextAt: t.NextAt, Fault: t.Fault, Anchor: t.Anchor,
		Version: t.Version, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
	}
}

// TickerMeta holds the settings of a ticker in a request. An absent or null setting gets its default, or stays
// unchanged.
type TickerMeta struct {
	Ticker       string          `json:"ticker,omitempty" doc:"The ticker's name; needed to create" example:"hourly"`
	Period       *Duration       `json:"period,omitempty" doc:"A fixed interval; takes a cron expression away" example:"1h"`
	Interval     *Duration       `json:"interval,omitempty" doc:"Another word for period" example:"1h"`
	Cron         *string         `json:"cron,omitempty" doc:"A 5-field cron expression, or @hourly and the like; takes a period away" example:"0 * * * *"`
	Timezone     *string         `json:"timezone,omitempty" doc:"An IANA name; default UTC" example:"Europe/Berlin"`
	Queue        *string         `json:"queue,omitempty" doc:"Where each tick becomes a task; empty = ticks go to listeners" example:"mail"`
	Payload      json.RawMessage `json:"payload,omitempty" doc:"The payload of each tick, any JSON" example:"{}"`
	Misfire      *string         `json:"misfire,omitempty" enum:"skip,once,all" doc:"How to handle the ticks that fell into a downtime" example:"once"`
	MisfireLimit *int            `json:"misfire_limit,omitempty" doc:"The most ticks made up with misfire all" example:"100"`
	Overlap      *string         `json:"overlap,omitempty" enum:"allow,skip" doc:"How to handle a tick while the last tick's task is unfinished" example:"allow"`
	Paused       *bool           `json:"paused,omitempty" doc:"It does not fire while true" example:"false"`
}

// TickerMetaOf converts m for the wire; the version travels as If-Match.
func TickerMetaOf(m queue.TickerMeta) TickerMeta {
	return TickerMeta{
		Ticker: m.Name, Period: durationOf(m.Period), Cron: m.Cron, Timezone: m.Timezone, Queue: m.Queue,
		Payload: m.Payload, Misfire: (*string)(m.Misfire), MisfireLimit: m.MisfireLimit,
		Overlap: (*string)(m.Overlap), Paused: m.Paused,
	}
}

// DropNulls makes null absent.
func (m *TickerMeta) DropNulls() { dropNullValue(&m.Payload) }

// Domain returns the settings as a value of the domain.
func (m TickerMeta) Domain() (queue.TickerMeta, error) {
	out := queue.TickerMeta{
		Name: m.Ticker, Cron: m.Cron, Timezone: m.Timezone, Queue: m.Queue, Payload: m.Payload,
		Misfire: (*queue.Misfire)(m.Misfire), MisfireLimit: m.MisfireLimit, Overlap: (*queue.Overlap)(m.Overlap),
		Paused: m.Paused,
	}
	var interval *time.Duration
	if err := durations(durationField{"period", m.Period, &out.Period}, durationField{"interval", m.Interval, &interval}); err != nil {
		return out, err
	}

	switch {
	case out.Period == nil:
		out.Period = interval
	case interval != nil && *interval != *out.Period:
		return out, queue.Invalid("interval", "must be the same as period, its other name; give one of them")
	}

	return out, nil
}

// Tick is one firing of a ticker. It is also the data of an SSE event "ticker". The first five fields are the
// predecessor's.
type Tick struct {
	Ticker    string          `json:"ticker" doc:"The ticker's name" example:"hourly"`
	Interval  int64           `json:"interval,omitempty" doc:"The ticker's period, nanoseconds" example:"3600000000000"`
	Payload   json.RawMessage `json:"payload,omitempty" doc:"The ticker's payload" example:"{}"`
	Namespace string          `json:"namespace" doc:"The tenant" example:"default"`
	Timestamp time.Time       `json:"timestamp,omitzero" doc:"The nominal time" example:"2026-01-02T15:00:00Z"`
	ID        int64           `json:"id" doc:"The tick's id" example:"9"`
	FiredAt   time.Time       `json:"fired_at,omitzero" doc:"When it fired by the database's clock" example:"2026-01-02T15:00:00.01Z"`
	Task      int64           `json:"task,omitempty" doc:"The id of the task it became" example:"17"`
	Queue     string          `json:"queue,omitempty" doc:"The queue of that task" example:"mail"`
	Skipped   bool            `json:"skipped,omitempty" doc:"The overlap policy kept it from becoming a task" example:"false"`
	Manual    bool            `json:"manual,omitempty" doc:"It was fired by hand" example:"false"`
	Cron      string          `json:"cron,omitempty" doc:"The ticker's cron expression" example:"0 * * * *"`
}

// TickOf converts t for the wire.
func TickOf(t queue.Tick) Tick {
	return Tick{
		Ticker: t.Ticker, Interval: int64(t.Period), Payload: t.Payload, Namespace: t.Namespace, Timestamp: t.At, ID: t.ID,
		FiredAt: t.FiredAt, Task: t.TaskID, Queue: t.Queue, Skipped: t.Skipped, Manual: t.Manual, Cron: t.Cron,
	}
}

// Domain returns the tick that t describes.
func (t Tick) Domain() queue.Tick {
	return queue.Tick{
		ID: t.ID, Namespace: t.Namespace, Ticker: t.Ticker, At: t.Timestamp, FiredAt: t.FiredAt, TaskID: t.Task,
		Skipped: t.Skipped, Manual: t.Manual, Payload: t.Payload, Queue: t.Queue, Period: time.Duration(t.Interval), Cron: t.Cron,
	}
}
