package wire

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// Queue converts q for the wire; nil stays nil.
func Queue(q *queue.Queue) *pb.Queue {
	if q == nil {
		return nil
	}
	return &pb.Queue{
		Queue: q.Name, Namespace: q.Namespace, Ttl: Duration(q.TTL), Retries: int64(q.Retries),
		RetryDelay: Duration(q.RetryDelay), Backoff: backoffs.numberOfWord(q.Backoff), RetryMaxDelay: Duration(q.RetryMaxDelay),
		Lease: Duration(q.Lease), Concurrency: int64(q.Concurrency), Retention: Duration(q.Retention), Paused: q.Paused,
		Events: q.Events, Version: q.Version, CreatedAt: Time(q.CreatedAt), UpdatedAt: Time(q.UpdatedAt),
		Flow: flow(q.Flow), FailurePolicy: failurePolicy(q.FailurePolicy), PausedUntil: Time(q.PausedUntil), GroupPolicies: int64(q.GroupPolicies),
	}
}

// Queue reads q from the wire; nil stays nil.
func (r *Reader) Queue(q *pb.Queue) *queue.Queue {
	if q == nil {
		return nil
	}
	return &queue.Queue{
		Name: q.GetQueue(), Namespace: q.GetNamespace(), TTL: r.Duration("ttl", q.GetTtl()),
		Retries: r.Int("retries", q.GetRetries()), RetryDelay: r.Duration("retry_delay", q.GetRetryDelay()),
		Backoff: backoffs.wordOfNumber(q.GetBackoff()), RetryMaxDelay: r.Duration("retry_max_delay", q.GetRetryMaxDelay()),
		Lease: r.Duration("lease", q.GetLease()), Concurrency: r.Int("concurrency", q.GetConcurrency()),
		Retention: r.Duration("retention", q.GetRetention()), Paused: q.GetPaused(), Events: q.GetEvents(),
		Version: q.GetVersion(), CreatedAt: r.Time("created_at", q.GetCreatedAt()),
		UpdatedAt: r.Time("updated_at", q.GetUpdatedAt()), Flow: r.readFlow(q.GetFlow()), FailurePolicy: r.readFailurePolicy(q.GetFailurePolicy()),
		PausedUntil: r.Time("paused_until", q.GetPausedUntil()), GroupPolicies: r.Int("group_policies", q.GetGroupPolicies()),
	}
}

// QueueMeta converts m for the wire.
func QueueMeta(m queue.QueueMeta) *pb.QueueMeta {
	return &pb.QueueMeta{
		Queue: m.Name, Ttl: optionalDuration(m.TTL), Retries: optionalInt(m.Retries), RetryDelay: optionalDuration(m.RetryDelay),
		Backoff: backoffs.optionalNumber(m.Backoff), RetryMaxDelay: optionalDuration(m.RetryMaxDelay), Lease: optionalDuration(m.Lease),
		Concurrency: optionalInt(m.Concurrency), Retention: optionalDuration(m.Retention), Paused: m.Paused, Events: m.Events,
		IfVersion: m.IfVersion, Flow: flowMeta(m.FlowMeta), FailurePolicy: failurePolicyMeta(m.FailurePolicyMeta),
	}
}

// QueueMeta reads m from the wire.
func (r *Reader) QueueMeta(m *pb.QueueMeta) queue.QueueMeta {
	if m == nil {
		r.recordFault("meta", "must be set, got a request without it; send it")
		return queue.QueueMeta{}
	}
	return queue.QueueMeta{
		Name: m.GetQueue(), TTL: r.optionalDuration("ttl", m.GetTtl()), Retries: r.optionalInt("retries", m.Retries),
		RetryDelay: r.optionalDuration("retry_delay", m.GetRetryDelay()), Backoff: backoffs.optionalWord(m.Backoff),
		RetryMaxDelay: r.optionalDuration("retry_max_delay", m.GetRetryMaxDelay()), Lease: r.optionalDuration("lease", m.GetLease()),
		Concurrency: r.optionalInt("concurrency", m.Concurrency), Retention: r.optionalDuration("retention", m.GetRetention()),
		Paused: m.Paused, Events: m.Events, IfVersion: m.GetIfVersion(), FlowMeta: r.readFlowMeta(m.GetFlow()), FailurePolicyMeta: r.readFailurePolicyMeta(m.GetFailurePolicy()),
	}
}

// QueueStats converts s for the wire; nil stays nil.
func QueueStats(s *queue.QueueStats) *pb.QueueStats {
	if s == nil {
		return nil
	}
	out := &pb.QueueStats{
		Namespace: s.Namespace, Queue: s.Queue, Ready: s.Ready, Delayed: s.Delayed, GroupWaiting: s.GroupWaiting,
		OldestReadyAge: Duration(s.OldestReadyAge), CreatedPerSecond: s.CreatedPerSecond,
		FinishedPerSecond: s.FinishedPerSecond, Paused: s.Paused, Concurrency: int32(s.Concurrency), //nolint:gosec // at most queue.MaxConcurrency
		PausedUntil: Time(s.PausedUntil), StartsPerSecond: s.StartsPerSecond,
	}
	for _, status := range queue.Statuses() {
		out.Counts = append(out.Counts, &pb.StatusCount{Status: statuses.numberOfWord(status), Count: s.Counts[status]})
	}
	return out
}

// QueueStats reads s from the wire; nil stays nil.
func (r *Reader) QueueStats(s *pb.QueueStats) *queue.QueueStats {
	if s == nil {
		return nil
	}
	out := &queue.QueueStats{
		Namespace: s.GetNamespace(), Queue: s.GetQueue(), Counts: make(map[queue.Status]int64, len(s.GetCounts())),
		Ready: s.GetReady(), Delayed: s.GetDelayed(), GroupWaiting: s.GetGroupWaiting(), OldestReadyAge: r.Duration("oldest_ready_age", s.GetOldestReadyAge()),
		CreatedPerSecond: s.GetCreatedPerSecond(), FinishedPerSecond: s.GetFinishedPerSecond(), Paused: s.GetPaused(), Concurrency: int(s.GetConcurrency()),
		PausedUntil: r.Time("paused_until", s.GetPausedUntil()), StartsPerSecond: s.GetStartsPerSecond(),
	}
	for _, c := range s.GetCounts() {
		out.Counts[statuses.wordOfNumber(c.GetStatus())] = c.GetCount()
	}
	return out
}
