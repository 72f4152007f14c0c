package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Queue is a queue in an answer. The first five fields are the predecessor's.
type Queue struct {
	Queue         string `json:"queue" doc:"The queue's name" example:"mail"`
	TTL           int64  `json:"ttl,omitempty" doc:"A task not finished this long after it became due expires; nanoseconds, absent = never" example:"3600000000000"`
	Retries       int    `json:"retries" doc:"Retries after the first attempt; 0 = one attempt only" example:"3"`
	RetryDelay    int64  `json:"retry_delay" doc:"The base of the backoff, nanoseconds" example:"120000000000"`
	Namespace     string `json:"namespace" doc:"The tenant" example:"default"`
	Backoff       string `json:"backoff" enum:"exponential,linear,constant" doc:"How the delay grows from one retry to the next" example:"exponential"`
	RetryMaxDelay int64  `json:"retry_max_delay,omitempty" doc:"The cap of the backoff, nanoseconds; absent = none" example:"86400000000000"`
	Lease         int64  `json:"lease" doc:"How long a retained task is held without a heartbeat, nanoseconds" example:"300000000000"`
	Concurrency   int    `json:"concurrency" doc:"The most tasks retained at once over all workers; 0 = no limit" example:"0"`
	Retention     int64  `json:"retention,omitempty" doc:"How long finished tasks stay, nanoseconds; absent = the ttl if set, else 7 days" example:"604800000000000"`
	Paused        bool   `json:"paused" doc:"Nothing is retained while true" example:"false"`
	Events        bool   `json:"events" doc:"Whether events of the tasks are kept in the feed" example:"true"`
	Flow
	FailurePolicy
	PausedUntil   time.Time `json:"paused_until,omitzero" doc:"Nothing is retained before: a worker reported that the other side asked for it" example:"2026-01-02T15:04:05Z"`
	GroupPolicies int       `json:"group_policies" doc:"The number of groups with settings of their own" example:"0"`
	Version       int64     `json:"version" doc:"Grows by one with every update; also the ETag" example:"1"`
	CreatedAt     time.Time `json:"created_at,omitzero" doc:"When it was created" example:"2026-01-02T15:04:05Z"`
	UpdatedAt     time.Time `json:"updated_at,omitzero" doc:"When it was last updated" example:"2026-01-02T15:04:05Z"`
}

// QueueOf converts q for the wire.
func QueueOf(q *queue.Queue) Queue {
	return Queue{
		Queue: q.Name, TTL: int64(q.TTL), Retries: q.Retries, RetryDelay: int64(q.RetryDelay), Namespace: q.Namespace,
		Backoff: string(q.Backoff), RetryMaxDelay: int64(q.RetryMaxDelay), Lease: int64(q.Lease),
		Concurrency: q.Concurrency, Retention: int64(q.Retention), Paused: q.Paused, Events: q.Events,
		Flow: flowOf(q.Flow), FailurePolicy: FailurePolicy(q.FailurePolicy), PausedUntil: q.PausedUntil, GroupPolicies: q.GroupPolicies,
		Version: q.Version, CreatedAt: q.CreatedAt.UTC(), UpdatedAt: q.UpdatedAt.UTC(),
	}
}

// Domain returns the queue that q describes.
func (q Queue) Domain() *queue.Queue {
	return &queue.Queue{
		Namespace: q.Namespace, Name: q.Queue, TTL: time.Duration(q.TTL), Retries: q.Retries,
		RetryDelay: time.Duration(q.RetryDelay), Backoff: queue.Backoff(q.Backoff),
		RetryMaxDelay: time.Duration(q.RetryMaxDelay), Lease: time.Duration(q.Lease), Concurrency: q.Concurrency,
		Retention: time.Duration(q.Retention), Paused: q.Paused, Events: q.Events, Version: q.Version,
		Flow: q.Flow.domain(), FailurePolicy: queue.FailurePolicy(q.FailurePolicy), PausedUntil: q.PausedUntil, GroupPolicies: q.GroupPolicies,
		CreatedAt: q.CreatedAt, UpdatedAt: q.UpdatedAt,
	}
}

// QueueMeta holds the settings of a queue in a request. An absent or null setting gets its default, or stays
// unchanged.
type QueueMeta struct {
	Queue         string    `json:"queue,omitempty" doc:"The queue's name; needed to create" example:"mail"`
	TTL           *Duration `json:"ttl,omitempty" doc:"A task not finished this long after it became due expires; 0 = never" example:"1h"`
	Retries       *int      `json:"retries,omitempty" doc:"Retries after the first attempt, 0 to 1000; 0 = one attempt only" example:"3"`
	RetryDelay    *Duration `json:"retry_delay,omitempty" doc:"The base of the backoff" example:"2m"`
	Backoff       *string   `json:"backoff,omitempty" enum:"exponential,linear,constant" doc:"How the delay grows from one retry to the next" example:"exponential"`
	RetryMaxDelay *Duration `json:"retry_max_delay,omitempty" doc:"The cap of the backoff; 0 = none" example:"24h"`
	Lease         *Duration `json:"lease,omitempty" doc:"How long a retained task is held without a heartbeat" example:"5m"`
	Concurrency   *int      `json:"concurrency,omitempty" doc:"The most tasks retained at once over all workers; 0 = no limit" example:"10"`
	Retention     *Duration `json:"retention,omitempty" doc:"How long finished tasks stay; 0 = the ttl if set, else 7 days" example:"7d"`
	Paused        *bool     `json:"paused,omitempty" doc:"Nothing is retained while true" example:"false"`
	Events        *bool     `json:"events,omitempty" doc:"Whether events of the tasks are kept in the feed" example:"true"`
	FlowMeta
	FailurePolicyMeta
}

// QueueMetaOf converts m for the wire; the version travels as If-Match.
func QueueMetaOf(m queue.QueueMeta) QueueMeta {
	return QueueMeta{
		Queue: m.Name, TTL: durationOf(m.TTL), Retries: m.Retries, RetryDelay: durationOf(m.RetryDelay),
		Backoff: (*string)(m.Backoff), RetryMaxDelay: durationOf(m.RetryMaxDelay), Lease: durationOf(m.Lease),
		Concurrency: m.Concurrency, Retention: durationOf(m.Retention), Paused: m.Paused, Events: m.Events,
		FlowMeta: flowMetaOf(m.FlowMeta), FailurePolicyMeta: FailurePolicyMeta(m.FailurePolicyMeta),
	}
}

// Domain returns the settings as a value of the domain.
func (m QueueMeta) Domain() (queue.QueueMeta, error) {
	out := queue.QueueMeta{
		Name: m.Queue, Retries: m.Retries, Backoff: (*queue.Backoff)(m.Backoff), Concurrency: m.Concurrency,
		Paused: m.Paused, Events: m.Events, FailurePolicyMeta: queue.FailurePolicyMeta(m.FailurePolicyMeta),
	}
	var err error
	if out.FlowMeta, err = m.FlowMeta.domain(); err != nil {
		return out, err
	}
	return out, durations(
		durationField{"ttl", m.TTL, &out.TTL},
		durationField{"retry_delay", m.RetryDelay, &out.RetryDelay},
		durationField{"retry_max_delay", m.RetryMaxDelay, &out.RetryMaxDelay},
		durationField{"lease", m.Lease, &out.Lease},
		durationField{"retention", m.Retention, &out.Retention},
	)
}

// QueueStats holds the statistics of a queue.
type QueueStats struct {
	Namespace         string           `json:"namespace" doc:"The tenant" example:"default"`
	Queue             string           `json:"queue" doc:"The queue's name" example:"mail"`
	Counts            map[string]int64 `json:"counts" doc:"The number of tasks by status; every status is there" example:"{\"new\":3,\"retained\":1}"`
	Ready             int64            `json:"ready" doc:"Waiting tasks that could be retained now" example:"2"`
	Delayed           int64            `json:"delayed" doc:"Waiting tasks that are due later" example:"1"`
	GroupWaiting      int64            `json:"group_waiting" doc:"Waiting tasks that a limit of their group holds up" example:"0"`
	OldestReadyAge    int64            `json:"oldest_ready_age" doc:"How long the task that is ready the longest has been so, nanoseconds; 0 when none is" example:"1500000000"`
	CreatedPerSecond  float64          `json:"created_per_second" doc:"Over the last minute" example:"12.5"`
	FinishedPerSecond float64          `json:"finished_per_second" doc:"Over the last minute" example:"12.1"`
	Paused            bool             `json:"paused" doc:"Whether the queue is paused" example:"false"`
	Concurrency       int              `json:"concurrency" doc:"The most tasks that may be retained at once; 0 = no limit" example:"20"`
	PausedUntil       time.Time        `json:"paused_until,omitzero" doc:"The end of a pause that ends by itself" example:"2026-01-02T15:04:05Z"`
	StartsPerSecond   float64          `json:"starts_per_second" doc:"The most tasks that may start by the rate limit; 0 = no limit" example:"0"`
}

// Scale is the number of slots that queues have work for.
type Scale struct {
	Slots    float64 `json:"slots" doc:"The slots of workers that the tasks in hand use, and those that work off the ready tasks within the time" example:"12.3"`
	Ready    int64   `json:"ready" doc:"Waiting tasks that could be retained now" example:"40"`
	Retained int64   `json:"retained" doc:"Tasks in hand" example:"8"`
	Active   bool    `json:"active" doc:"Whether the queues have work for a slot" example:"true"`
}

// ScaleOf converts s for the wire.
func ScaleOf(s queue.Scale) Scale {
	return Scale{Slots: s.Slots, Ready: s.Ready, Retained: s.Retained, Active: s.Slots > 0}
}

// StatsChange is an event of the stream of statistics.
type StatsChange struct {
	Body    []QueueStats `json:"body" doc:"The queues that are new or have other numbers; all of them in the first event"`
	Deleted []string     `json:"deleted,omitempty" doc:"The queues that are gone" example:"[\"old\"]"`
}

// QueueStatsOf converts s for the wire.
func QueueStatsOf(s *queue.QueueStats) QueueStats {
	counts := make(map[string]int64, len(s.Counts))
	for k, n := range s.Counts {
		counts[string(k)] = n
	}
	return QueueStats{
		Namespace: s.Namespace, Queue: s.Queue, Counts: counts, Ready: s.Ready, Delayed: s.Delayed, GroupWaiting: s.GroupWaiting,
		OldestReadyAge: int64(s.OldestReadyAge), CreatedPerSecond: s.CreatedPerSecond,
		FinishedPerSecond: s.FinishedPerSecond, Paused: s.Paused, Concurrency: s.Concurrency,
		PausedUntil: s.PausedUntil, StartsPerSecond: s.StartsPerSecond,
	}
}

// Domain returns the statistics as a value of the domain.
func (s QueueStats) Domain() *queue.QueueStats {
	counts := make(map[queue.Status]int64, len(s.Counts))
	for k, n := range s.Counts {
		counts[queue.Status(k)] = n
	}
	return &queue.QueueStats{
		Namespace: s.Namespace, Queue: s.Queue, Counts: counts, Ready: s.Ready, Delayed: s.Delayed, GroupWaiting: s.GroupWaiting,
		OldestReadyAge: time.Duration(s.OldestReadyAge), CreatedPerSecond: s.CreatedPerSecond,
		FinishedPerSecond: s.FinishedPerSecond, Paused: s.Paused, Concurrency: s.Concurrency,
		PausedUntil: s.PausedUntil, StartsPerSecond: s.StartsPerSecond,
	}
}

// Count is the answer of operations that only count.
type Count struct {
	Count int64 `json:"count" doc:"How many were deleted" example:"42"`
	More  bool  `json:"more,omitempty" doc:"There may be more to delete: repeat the call" example:"true"`
}

func durationOf(d *time.Duration) *Duration {
	if d == nil {
		return nil
	}
	return DurationOf(*d)
}

// durationField is one duration of a request with its destination.
type durationField struct {
	name string
	in   *Duration
	out  **time.Duration
}

func durations(fields ...durationField) (err error) {
	for _, f := range fields {
		if *f.out, err = f.in.In(f.name); err != nil {
			return err
		}
	}
	return nil
}
