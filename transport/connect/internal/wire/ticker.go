package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// Ticker converts t for the wire; nil stays nil.
func Ticker(t *queue.Ticker) *pb.Ticker {
	if t == nil {
		return nil
	}
	return &pb.Ticker{
		Ticker: t.Name, Namespace: t.Namespace, Period: Duration(t.Period), Cron: t.Cron, Timezone: t.Timezone,
		Queue: t.Queue, Payload: t.Payload, Misfire: misfires.numberOfWord(t.Misfire), MisfireLimit: int64(t.MisfireLimit),
		Overlap: overlaps.numberOfWord(t.Overlap), Paused: t.Paused, Timestamp: Time(t.Timestamp), NextAt: Time(t.NextAt),
		Anchor: Time(t.Anchor), Version: t.Version, CreatedAt: Time(t.CreatedAt), UpdatedAt: Time(t.UpdatedAt), Fault: t.Fault,
	}
}

// Ticker reads t from the wire; nil stays nil.
func (r *Reader) Ticker(t *pb.Ticker) *queue.Ticker {
	if t == nil {
		return nil
	}
	return &queue.Ticker{
		Name: t.GetTicker(), Namespace: t.GetNamespace(), Period: r.Duration("period", t.GetPeriod()), Cron: t.GetCron(),
		Timezone: t.GetTimezone(), Queue: t.GetQueue(), Payload: readPayload(t.GetPayload()),
		Misfire: misfires.wordOfNumber(t.GetMisfire()), MisfireLimit: r.Int("misfire_limit", t.GetMisfireLimit()),
		Overlap: overlaps.wordOfNumber(t.GetOverlap()), Paused: t.GetPaused(), Timestamp: r.Time("timestamp", t.GetTimestamp()),
		NextAt: r.Time("next_at", t.GetNextAt()), Anchor: r.Time("anchor", t.GetAnchor()), Version: t.GetVersion(),
		CreatedAt: r.Time("created_at", t.GetCreatedAt()), UpdatedAt: r.Time("updated_at", t.GetUpdatedAt()),
		Fault: t.GetFault(),
	}
}

// TickerMeta converts m for the wire.
func TickerMeta(m queue.TickerMeta) *pb.TickerMeta {
	return &pb.TickerMeta{
		Ticker: m.Name, Period: optionalDuration(m.Period), Cron: m.Cron, Timezone: m.Timezone, Queue: m.Queue,
		Payload: m.Payload, Misfire: misfires.optionalNumber(m.Misfire), MisfireLimit: optionalInt(m.MisfireLimit),
		Overlap: overlaps.optionalNumber(m.Overlap), Paused: m.Paused, IfVersion: m.IfVersion,
	}
}

// TickerMeta reads m from the wire.
func (r *Reader) TickerMeta(m *pb.TickerMeta) queue.TickerMeta {
	if m == nil {
		r.recordFault("meta", "must be set, got a request without it; send it")
		return queue.TickerMeta{}
	}
	return queue.TickerMeta{
		Name: m.GetTicker(), Period: r.optionalDuration("period", m.GetPeriod()), Cron: m.Cron, Timezone: m.Timezone,
		Queue: m.Queue, Payload: readPayload(m.GetPayload()), Misfire: misfires.optionalWord(m.Misfire),
		MisfireLimit: r.optionalInt("misfire_limit", m.MisfireLimit), Overlap: overlaps.optionalWord(m.Overlap), Paused: m.Paused,
		IfVersion: m.GetIfVersion(),
	}
}

// Tick converts t for the wire.
func Tick(t queue.Tick) *pb.Tick {
	return &pb.Tick{
		Id: t.ID, Namespace: t.Namespace, Ticker: t.Ticker, At: Time(t.At), FiredAt: Time(t.FiredAt), TaskId: t.TaskID,
		Skipped: t.Skipped, Manual: t.Manual, Payload: t.Payload, Queue: t.Queue, Period: Duration(t.Period), Cron: t.Cron,
	}
}

// Tick reads t from the wire.
func (r *Reader) Tick(t *pb.Tick) queue.Tick {
	return queue.Tick{
		ID: t.GetId(), Namespace: t.GetNamespace(), Ticker: t.GetTicker(), At: r.Time("at", t.GetAt()),
		FiredAt: r.Time("fired_at", t.GetFiredAt()), TaskID: t.GetTaskId(), Skipped: t.GetSkipped(), Manual: t.GetManual(),
		Payload: readPayload(t.GetPayload()), Queue: t.GetQueue(), Period: r.Duration("period", t.GetPeriod()), Cron: t.GetCron(),
	}
}

// Times converts ts for the wire.
func Times(ts []time.Time) []*timestamppb.Timestamp { return Each(ts, timestamppb.New) }

// Times reads ts from the wire.
func (r *Reader) Times(ts []*timestamppb.Timestamp) []time.Time {
	return Each(ts, func(t *timestamppb.Timestamp) time.Time { return r.Time("times", t) })
}
