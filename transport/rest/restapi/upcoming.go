package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Upcoming are the next fires of all tickers.
type Upcoming struct {
	Until time.Time      `json:"until" doc:"The end of the time" example:"2026-01-03T15:04:05Z"`
	More  bool           `json:"more,omitempty" doc:"The limit left out fires before until" example:"true"`
	Body  []UpcomingTick `json:"body" doc:"The fires in the order of their times"`
}

// UpcomingTick is a fire of a ticker that is still to come.
type UpcomingTick struct {
	Ticker string    `json:"ticker" doc:"The ticker's name" example:"hourly"`
	Queue  string    `json:"queue,omitempty" doc:"The queue in which it becomes a task; absent for tickers with listeners alone" example:"mail"`
	At     time.Time `json:"at" doc:"The nominal time" example:"2026-01-02T16:00:00Z"`
}

// UpcomingOf converts u for the wire.
func UpcomingOf(u *queue.Upcoming) Upcoming {
	return Upcoming{Until: u.Until.UTC(), More: u.More, Body: Each(u.Ticks, func(t queue.UpcomingTick) UpcomingTick {
		return UpcomingTick{Ticker: t.Ticker, Queue: t.Queue, At: t.At.UTC()}
	})}
}

// Domain returns the fires that u describes.
func (u Upcoming) Domain() *queue.Upcoming {
	return &queue.Upcoming{Until: u.Until, More: u.More, Ticks: Each(u.Body, func(t UpcomingTick) queue.UpcomingTick {
		return queue.UpcomingTick{Ticker: t.Ticker, Queue: t.Queue, At: t.At}
	})}
}
