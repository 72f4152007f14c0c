package wire

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

func failurePolicy(p queue.FailurePolicy) *pb.FailurePolicy {
	return &pb.FailurePolicy{NonRetryable: p.NonRetryable, MaxLeaseLosses: int64(p.MaxLeaseLosses), DeadLetter: p.DeadLetter}
}

func (r *Reader) readFailurePolicy(p *pb.FailurePolicy) queue.FailurePolicy {
	return queue.FailurePolicy{NonRetryable: p.GetNonRetryable(), MaxLeaseLosses: r.Int("max_lease_losses", p.GetMaxLeaseLosses()), DeadLetter: p.GetDeadLetter()}
}

func failurePolicyMeta(m queue.FailurePolicyMeta) *pb.FailurePolicyMeta {
	out := &pb.FailurePolicyMeta{MaxLeaseLosses: optionalInt(m.MaxLeaseLosses), DeadLetter: m.DeadLetter}
	if m.NonRetryable != nil {
		out.NonRetryable = &pb.ErrorKinds{Kinds: *m.NonRetryable}
	}
	return out
}

func (r *Reader) readFailurePolicyMeta(m *pb.FailurePolicyMeta) queue.FailurePolicyMeta {
	if m == nil {
		return queue.FailurePolicyMeta{}
	}
	out := queue.FailurePolicyMeta{MaxLeaseLosses: r.optionalInt("max_lease_losses", m.MaxLeaseLosses), DeadLetter: m.DeadLetter}
	if list := m.GetNonRetryable(); list != nil {
		out.NonRetryable = new(list.GetKinds())
	}
	return out
}
