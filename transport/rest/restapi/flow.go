package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Flow is how a queue shares, limits and orders its tasks, in an answer.
type Flow struct {
	Fair             bool   `json:"fair" doc:"Whether the groups of its tasks share the queue equally" example:"false"`
	RateLimit        int    `json:"rate_limit" doc:"The most starts in rate_period over all workers; 0 = no limit" example:"0"`
	RatePeriod       int64  `json:"rate_period" doc:"The period of rate_limit, nanoseconds" example:"1000000000"`
	RateBurst        int    `json:"rate_burst" doc:"The most starts at once; 0 = those of a tenth of a second, at least 1" example:"0"`
	GroupConcurrency int    `json:"group_concurrency" doc:"The most tasks of one group retained at once; 0 = no limit" example:"0"`
	GroupRateLimit   int    `json:"group_rate_limit" doc:"The most starts of one group in group_rate_period; 0 = no limit" example:"0"`
	GroupRatePeriod  int64  `json:"group_rate_period" doc:"The period of group_rate_limit, nanoseconds" example:"1000000000"`
	GroupRateBurst   int    `json:"group_rate_burst" doc:"The most starts of one group at once; 0 as for rate_burst" example:"0"`
	Order            string `json:"order" enum:"none,fifo" doc:"fifo: the tasks of a group run one after the other" example:"none"`
	FIFOBatch        int    `json:"fifo_batch" doc:"The most tasks of one group in one retain of a fifo queue" example:"1"`
	GroupOnFailure   string `json:"group_on_failure" enum:"skip,block" doc:"How a group of a fifo queue goes on after a task that failed for good" example:"skip"`
	MaxWaiting       int    `json:"max_waiting" doc:"Creates are refused from so many waiting tasks on; 0 = no limit" example:"0"`
}

// flowOf converts f for the wire.
func flowOf(f queue.Flow) Flow {
	return Flow{
		Fair: f.Fair, RateLimit: f.RateLimit, RatePeriod: int64(f.RatePeriod), RateBurst: f.RateBurst, GroupConcurrency: f.GroupConcurrency,
		GroupRateLimit: f.GroupRateLimit, GroupRatePeriod: int64(f.GroupRatePeriod), GroupRateBurst: f.GroupRateBurst, Order: string(f.Order),
		FIFOBatch: f.FIFOBatch, GroupOnFailure: string(f.GroupOnFailure), MaxWaiting: f.MaxWaiting,
	}
}

// domain returns the flow as a value of the domain.
func (f Flow) domain() queue.Flow {
	return queue.Flow{
		Fair: f.Fair, RateLimit: f.RateLimit, RatePeriod: time.Duration(f.RatePeriod), RateBurst: f.RateBurst,
		GroupConcurrency: f.GroupConcurrency, GroupRateLimit: f.GroupRateLimit, GroupRatePeriod: time.Duration(f.GroupRatePeriod),
		GroupRateBurst: f.GroupRateBurst, Order: queue.Order(f.Order), FIFOBatch: f.FIFOBatch,
		GroupOnFailure: queue.GroupOnFailure(f.GroupOnFailure), MaxWaiting: f.MaxWaiting,
	}
}

// FlowMeta holds the flow of a queue in a request; absent settings as in QueueMeta.
type FlowMeta struct {
	Fair             *bool     `json:"fair,omitempty" doc:"Let the groups of its tasks share the queue equally" example:"true"`
	RateLimit        *int      `json:"rate_limit,omitempty" doc:"The most starts in rate_period over all workers, at most 1000000; 0 = no limit" example:"10"`
	RatePeriod       *Duration `json:"rate_period,omitempty" doc:"The period of rate_limit, 1s to 24h" example:"1s"`
	RateBurst        *int      `json:"rate_burst,omitempty" doc:"The most starts at once; 0 = those of a tenth of a second, at least 1" example:"10"`
	GroupConcurrency *int      `json:"group_concurrency,omitempty" doc:"The most tasks of one group retained at once, at most 256; 0 = no limit" example:"2"`
	GroupRateLimit   *int      `json:"group_rate_limit,omitempty" doc:"The most starts of one group in group_rate_period, at most 1000000; 0 = no limit" example:"10"`
	GroupRatePeriod  *Duration `json:"group_rate_period,omitempty" doc:"The period of group_rate_limit, 1s to 24h" example:"1s"`
	GroupRateBurst   *int      `json:"group_rate_burst,omitempty" doc:"The most starts of one group at once; 0 as for rate_burst" example:"10"`
	Order            *string   `json:"order,omitempty" enum:"none,fifo" doc:"fifo: the tasks of a group run one after the other" example:"fifo"`
	FIFOBatch        *int      `json:"fifo_batch,omitempty" doc:"The most tasks of one group in one retain of a fifo queue, 1 to 32" example:"10"`
	GroupOnFailure   *string   `json:"group_on_failure,omitempty" enum:"skip,block" doc:"How a group of a fifo queue goes on after a task that failed for good" example:"block"`
	MaxWaiting       *int      `json:"max_waiting,omitempty" doc:"Refuse creates from so many waiting tasks on; 0 = no limit" example:"100000"`
}

// flowMetaOf converts m for the wire.
func flowMetaOf(m queue.FlowMeta) FlowMeta {
	return FlowMeta{
		Fair: m.Fair, RateLimit: m.RateLimit, RatePeriod: durationOf(m.RatePeriod), RateBurst: m.RateBurst, GroupConcurrency: m.GroupConcurrency,
		GroupRateLimit: m.GroupRateLimit, GroupRatePeriod: durationOf(m.GroupRatePeriod), GroupRateBurst: m.GroupRateBurst,
		Order: (*string)(m.Order), FIFOBatch: m.FIFOBatch, GroupOnFailure: (*string)(m.GroupOnFailure), MaxWaiting: m.MaxWaiting,
	}
}

// domain returns the settings as a value of the domain.
func (m FlowMeta) domain() (queue.FlowMeta, error) {
	out := queue.FlowMeta{
		Fair: m.Fair, RateLimit: m.RateLimit, RateBurst: m.RateBurst, GroupConcurrency: m.GroupConcurrency, GroupRateLimit: m.GroupRateLimit,
		GroupRateBurst: m.GroupRateBurst, Order: (*queue.Order)(m.Order), FIFOBatch: m.FIFOBatch,
		GroupOnFailure: (*queue.GroupOnFailure)(m.GroupOnFailure), MaxWaiting: m.MaxWaiting,
	}
	return out, durations(
		durationField{"rate_period", m.RatePeriod, &out.RatePeriod},
		durationField{"group_rate_period", m.GroupRatePeriod, &out.GroupRatePeriod},
	)
}
