package wire

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// Releases converts rs for the wire.
func Releases(rs []queue.Release) []*pb.Release {
	// All messages in one allocation.
	out, room := make([]*pb.Release, len(rs)), make([]pb.Release, len(rs))
	for i, r := range rs {
		m := &room[i]
		m.Id, m.Token, m.Outcome, m.Result, m.Quiet = r.ID, r.Token, outcomes.numberOfWord(r.Outcome), r.Result, r.Quiet
		m.Delay, m.Scope = Duration(r.Delay), scopes.numberOfWord(r.Scope)
		m.ErrorKind, m.Fingerprint = r.ErrorKind, r.Fingerprint
		out[i] = m
	}
	return out
}

// Releases reads rs from the wire.
func (r *Reader) Releases(rs []*pb.Release) []queue.Release {
	out := make([]queue.Release, len(rs))
	for i, m := range rs {
		r.readElement("releases", i, func() {
			out[i] = queue.Release{
				ID: m.GetId(), Token: m.GetToken(), Outcome: outcomes.wordOfNumber(m.GetOutcome()), Result: readPayload(m.GetResult()),
				Delay: r.Duration("delay", m.GetDelay()), Quiet: m.GetQuiet(), Scope: scopes.wordOfNumber(m.GetScope()),
				ErrorKind: m.GetErrorKind(), Fingerprint: m.GetFingerprint(),
			}
		})
	}
	return out
}

// Released converts rs, the results of asked, for the wire. It returns nil if all releases are quiet and succeeded.
// After budget bytes the tasks come without payload and result: their leases have ended, so the answer must not fail
// by its size.
func Released(asked []queue.Release, rs []queue.Released, budget int) []*pb.Released {
	var out []*pb.Released
	for i, r := range rs {
		if asked[i].Quiet && r.Err == nil {
			continue
		}

		// Most calls release quietly without a fault: they need no list at all.
		if out == nil {
			out = make([]*pb.Released, len(rs))
			for j := range out {
				out[j] = &pb.Released{}
			}
		}

		out[i].Error = Detail(r.Err)
		if r.Task == nil || asked[i].Quiet {
			continue
		}

		task := r.Task
		if budget -= task.Bytes(); budget < 0 {
			// From here on each task is too much: the answer stays within the size that a client accepts.
			task = task.WithoutContent()
		}

		out[i].Task = Task(task)
	}

	return out
}

// Released reads rs, the results of n releases, from the wire.
func (r *Reader) Released(rs []*pb.Released, n int) []queue.Released {
	if len(rs) == 0 {
		return make([]queue.Released, n)
	}
	out := make([]queue.Released, len(rs))
	for i, m := range rs {
		out[i] = queue.Released{Task: r.Task(m.GetTask()), Err: Err(m.GetError())}
	}
	return out
}

// RetainMessage is a message that asks for tasks.
type RetainMessage interface {
	GetWorker() string
	GetQueue() []string
	GetLimit() int64
	GetWait() *durationpb.Duration
	GetLease() *durationpb.Duration
	GetMaxBytes() int64
	GetMaxTaskBytes() int64
}

// Retain reads m from the wire. The request id is not part of it, because only one of the messages has it.
func (r *Reader) Retain(m RetainMessage) queue.RetainRequest {
	return queue.RetainRequest{
		Worker: m.GetWorker(), Queues: m.GetQueue(), Limit: r.Int("limit", m.GetLimit()), Wait: r.Duration("wait", m.GetWait()),
		Lease: r.Duration("lease", m.GetLease()), MaxBytes: r.Int("max_bytes", m.GetMaxBytes()),
		MaxTaskBytes: r.Int("max_task_bytes", m.GetMaxTaskBytes()),
	}
}

// Heartbeats converts hs for the wire.
func Heartbeats(hs []queue.Heartbeat) []*pb.Heartbeat {
	return Each(hs, func(h queue.Heartbeat) *pb.Heartbeat {
		return &pb.Heartbeat{Id: h.ID, Token: h.Token, Lease: Duration(h.Lease), Progress: h.Progress}
	})
}

// Heartbeats reads hs from the wire.
func (r *Reader) Heartbeats(hs []*pb.Heartbeat) []queue.Heartbeat {
	out := make([]queue.Heartbeat, len(hs))
	for i, m := range hs {
		r.readElement("beats", i, func() {
			out[i] = queue.Heartbeat{
				ID: m.GetId(), Token: m.GetToken(), Lease: r.Duration("lease", m.GetLease()), Progress: readPayload(m.GetProgress()),
			}
		})
	}
	return out
}

// Beats converts bs for the wire.
func Beats(bs []queue.Beat) []*pb.Beat {
	return Each(bs, func(b queue.Beat) *pb.Beat {
		if b.Err != nil {
			return &pb.Beat{Error: Detail(b.Err)}
		}
		return &pb.Beat{Lease: leaseMessage(b.Lease), CancelRequested: b.CancelRequested}
	})
}

// Beats reads bs from the wire.
func (r *Reader) Beats(bs []*pb.Beat) []queue.Beat {
	out := make([]queue.Beat, len(bs))
	for i, m := range bs {
		out[i] = queue.Beat{CancelRequested: m.GetCancelRequested(), Err: Err(m.GetError())}
		if l := m.GetLease(); l != nil {
			out[i].Lease = r.readLease(l)
		}
	}
	return out
}

// Workers converts ws for the wire.
func Workers(ws []queue.Worker) []*pb.Worker {
	return Each(ws, func(w queue.Worker) *pb.Worker {
		return &pb.Worker{Worker: w.Name, Held: w.Held, Since: Time(w.Since), Queues: w.Queues, QueueCount: int64(w.QueueCount), ExpiresAt: Time(w.ExpiresAt)}
	})
}

// Workers reads ws from the wire.
func (r *Reader) Workers(ws []*pb.Worker) []queue.Worker {
	return Each(ws, func(w *pb.Worker) queue.Worker {
		return queue.Worker{
			Name: w.GetWorker(), Held: w.GetHeld(), Since: r.Time("since", w.GetSince()), Queues: w.GetQueues(),
			QueueCount: max(int(w.GetQueueCount()), len(w.GetQueues())), ExpiresAt: r.Time("expires_at", w.GetExpiresAt()),
		}
	})
}

// Fit returns how many tasks from the front of ts fit into a message of budget bytes, at least one.
func Fit(ts []*queue.Task, budget int) int {
	for i, t := range ts {
		if budget -= t.Bytes(); budget < 0 && i > 0 {
			return i
		}
	}
	return len(ts)
}
