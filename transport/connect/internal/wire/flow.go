package wire

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

func flow(f queue.Flow) *pb.Flow {
	return &pb.Flow{
		Fair: f.Fair, Rate: rate(f.RateLimit, f.RatePeriod, f.RateBurst), GroupConcurrency: int64(f.GroupConcurrency),
		GroupRate: rate(f.GroupRateLimit, f.GroupRatePeriod, f.GroupRateBurst), Order: orders.numberOfWord(f.Order),
		FifoBatch: int64(f.FIFOBatch), GroupOnFailure: groupFailures.numberOfWord(f.GroupOnFailure), MaxWaiting: int64(f.MaxWaiting),
	}
}

func rate(limit int, period time.Duration, burst int) *pb.Rate {
	return &pb.Rate{Limit: int64(limit), Period: Duration(period), Burst: int64(burst)}
}

func (r *Reader) readFlow(f *pb.Flow) queue.Flow {
	return queue.Flow{
		Fair: f.GetFair(), RateLimit: r.Int("rate_limit", f.GetRate().GetLimit()), RatePeriod: r.Duration("rate_period", f.GetRate().GetPeriod()),
		RateBurst: r.Int("rate_burst", f.GetRate().GetBurst()), GroupConcurrency: r.Int("group_concurrency", f.GetGroupConcurrency()),
		GroupRateLimit:  r.Int("group_rate_limit", f.GetGroupRate().GetLimit()),
		GroupRatePeriod: r.Duration("group_rate_period", f.GetGroupRate().GetPeriod()),
		GroupRateBurst:  r.Int("group_rate_burst", f.GetGroupRate().GetBurst()), Order: orders.wordOfNumber(f.GetOrder()),
		FIFOBatch: r.Int("fifo_batch", f.GetFifoBatch()), GroupOnFailure: groupFailures.wordOfNumber(f.GetGroupOnFailure()),
		MaxWaiting: r.Int("max_waiting", f.GetMaxWaiting()),
	}
}

func flowMeta(m queue.FlowMeta) *pb.FlowMeta {
	return &pb.FlowMeta{
		Fair: m.Fair, Rate: rateMeta(m.RateLimit, m.RatePeriod, m.RateBurst), GroupConcurrency: optionalInt(m.GroupConcurrency),
		GroupRate: rateMeta(m.GroupRateLimit, m.GroupRatePeriod, m.GroupRateBurst), Order: orders.optionalNumber(m.Order),
		FifoBatch: optionalInt(m.FIFOBatch), GroupOnFailure: groupFailures.optionalNumber(m.GroupOnFailure), MaxWaiting: optionalInt(m.MaxWaiting),
	}
}

func rateMeta(limit *int, period *time.Duration, burst *int) *pb.RateMeta {
	if limit == nil && period == nil && burst == nil {
		return nil
	}
	return &pb.RateMeta{Limit: optionalInt(limit), Period: optionalDuration(period), Burst: optionalInt(burst)}
}

func (r *Reader) readFlowMeta(m *pb.FlowMeta) queue.FlowMeta {
	if m == nil {
		return queue.FlowMeta{}
	}
	out := queue.FlowMeta{
		Fair: m.Fair, GroupConcurrency: r.optionalInt("group_concurrency", m.GroupConcurrency), Order: orders.optionalWord(m.Order),
		FIFOBatch: r.optionalInt("fifo_batch", m.FifoBatch), GroupOnFailure: groupFailures.optionalWord(m.GroupOnFailure),
		MaxWaiting: r.optionalInt("max_waiting", m.MaxWaiting),
	}
	out.RateLimit, out.RatePeriod, out.RateBurst = r.readRateMeta("", m.GetRate())
	out.GroupRateLimit, out.GroupRatePeriod, out.GroupRateBurst = r.readRateMeta("group_", m.GetGroupRate())
	return out
}

func (r *Reader) readRateMeta(prefix string, m *pb.RateMeta) (limit *int, period *time.Duration, burst *int) {
	if m == nil {
		return nil, nil, nil
	}
	return r.optionalInt(prefix+"rate_limit", m.Limit), r.optionalDuration(prefix+"rate_period", m.GetPeriod()), r.optionalInt(prefix+"rate_burst", m.Burst)
}

// Group converts g for the wire; nil stays nil.
func Group(g *queue.Group) *pb.Group {
	if g == nil {
		return nil
	}
	return &pb.Group{
		Queue: g.Queue, Group: g.Name, Weight: int64(g.Weight), Concurrency: int64(g.Concurrency), Rate: rate(g.RateLimit, g.RatePeriod, g.RateBurst),
		PausedUntil: Time(g.PausedUntil), Waiting: g.Waiting, Retained: g.Retained, Next: Time(g.Next), Blocked: g.Blocked,
	}
}

// Group reads g from the wire; nil stays nil.
func (r *Reader) Group(g *pb.Group) *queue.Group {
	if g == nil {
		return nil
	}
	return &queue.Group{
		Queue: g.GetQueue(), Name: g.GetGroup(), Waiting: g.GetWaiting(), Retained: g.GetRetained(), Next: r.Time("next", g.GetNext()),
		Blocked: g.GetBlocked(),
		GroupPolicy: queue.GroupPolicy{
			Weight: r.Int("weight", g.GetWeight()), Concurrency: r.Int("concurrency", g.GetConcurrency()),
			RateLimit: r.Int("rate_limit", g.GetRate().GetLimit()), RatePeriod: r.Duration("rate_period", g.GetRate().GetPeriod()),
			RateBurst: r.Int("rate_burst", g.GetRate().GetBurst()), PausedUntil: r.Time("paused_until", g.GetPausedUntil()),
		},
	}
}

// GroupMeta converts m for the wire.
func GroupMeta(m queue.GroupMeta) *pb.GroupMeta {
	out := &pb.GroupMeta{
		Weight: optionalInt(m.Weight), Concurrency: optionalInt(m.Concurrency), Rate: rateMeta(m.RateLimit, m.RatePeriod, m.RateBurst),
	}
	if m.PausedUntil != nil {
		// The wire has no zero time; any past time ends a pause.
		until := *m.PausedUntil
		if until.IsZero() {
			until = time.Unix(0, 0)
		}
		out.PausedUntil = Time(until)
	}
	return out
}

// GroupMeta reads m from the wire.
func (r *Reader) GroupMeta(m *pb.GroupMeta) queue.GroupMeta {
	if m == nil {
		r.recordFault("meta", "must be set, got a request without it; send it")
		return queue.GroupMeta{}
	}
	out := queue.GroupMeta{Weight: r.optionalInt("weight", m.Weight), Concurrency: r.optionalInt("concurrency", m.Concurrency)}
	out.RateLimit, out.RatePeriod, out.RateBurst = r.readRateMeta("", m.GetRate())
	if m.GetPausedUntil() != nil {
		out.PausedUntil = new(r.Time("paused_until", m.GetPausedUntil()))
	}
	return out
}
