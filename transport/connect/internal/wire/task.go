package wire

import (
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// box holds a task for the wire together with the messages that nearly every task has. This makes one allocation of
// seven.
type box struct {
	task                      pb.Task
	lease                     pb.Lease
	created, started, expires timestamppb.Timestamp
	duration                  durationpb.Duration
}

// boxes is the number of tasks per allocation. A larger number saves little and costs more for the larger allocation.
const boxes = 32

// Task converts t for the wire; nil stays nil.
func Task(t *queue.Task) *pb.Task {
	if t == nil {
		return nil
	}
	return new(box).fillTask(t)
}

// Tasks converts ts for the wire; nil stays nil.
func Tasks(ts []*queue.Task) []*pb.Task {
	if ts == nil {
		return nil
	}
	out := make([]*pb.Task, len(ts))
	var room []box
	for i, t := range ts {
		if len(room) == 0 {
			room = make([]box, min(len(ts)-i, boxes))
		}
		out[i], room = room[0].fillTask(t), room[1:]
	}
	return out
}

// fillTask fills b with t.
func (b *box) fillTask(t *queue.Task) *pb.Task {
	m := &b.task
	m.Id, m.Namespace, m.Queue, m.Payload, m.Result = t.ID, t.Namespace, t.Queue, t.Payload, t.Result
	m.Status, m.Worker, m.Priority = statuses.numberOfWord(t.Status), t.Worker, int32(t.Priority)
	m.CreatedAt, m.DelayedAt, m.StartedAt = timestampIn(&b.created, t.CreatedAt), Time(t.DelayedAt), timestampIn(&b.started, t.StartedAt)
	m.FinishedAt, m.DiesAt = Time(t.FinishedAt), Time(t.DiesAt)
	m.Retries, m.Attempt, m.Key, m.Headers = int64(t.Retries), int64(t.Attempt), t.Key, t.Headers
	m.Errors = Each(t.Errors, func(e queue.AttemptError) *pb.AttemptError {
		return &pb.AttemptError{
			Attempt: int64(e.Attempt), At: Time(e.At), Worker: e.Worker, Error: e.Error, ErrorKind: e.Kind, Fingerprint: e.Fingerprint,
		}
	})
	m.CancelRequested, m.Progress, m.Replayed, m.Group = t.CancelRequested, t.Progress, t.Replayed, t.Group
	if l := t.Lease; l != nil {
		m.Lease = &b.lease
		m.Lease.Token, m.Lease.ExpiresAt, m.Lease.InOrder = l.Token, timestampIn(&b.expires, l.ExpiresAt), l.InOrder
		if l.Duration != 0 {
			m.Lease.Duration = &b.duration
			b.duration.Seconds, b.duration.Nanos = int64(l.Duration/time.Second), int32(l.Duration%time.Second)
		}
	}

	return m
}

// timestampIn writes t into m for the wire; the zero time becomes absent.
func timestampIn(m *timestamppb.Timestamp, t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	m.Seconds, m.Nanos = t.Unix(), int32(t.Nanosecond()) //nolint:gosec // below a second
	return m
}

func leaseMessage(l queue.Lease) *pb.Lease {
	return &pb.Lease{Token: l.Token, ExpiresAt: Time(l.ExpiresAt), Duration: Duration(l.Duration), InOrder: l.InOrder}
}

// Task reads t from the wire; nil stays nil.
func (r *Reader) Task(t *pb.Task) *queue.Task {
	if t == nil {
		return nil
	}

	// One allocation holds both.
	held := struct {
		task  queue.Task
		lease queue.Lease
	}{}
	held.task = queue.Task{
		ID: t.GetId(), Namespace: t.GetNamespace(), Queue: t.GetQueue(), Payload: t.GetPayload(),
		Result: readPayload(t.GetResult()), Status: statuses.wordOfNumber(t.GetStatus()), Worker: t.GetWorker(),
		Priority:  r.readInt16("priority", t.GetPriority()),
		CreatedAt: r.Time("created_at", t.GetCreatedAt()), DelayedAt: r.Time("delayed_at", t.GetDelayedAt()),
		StartedAt: r.Time("started_at", t.GetStartedAt()), FinishedAt: r.Time("finished_at", t.GetFinishedAt()),
		DiesAt:  r.Time("dies_at", t.GetDiesAt()),
		Retries: r.Int("retries", t.GetRetries()), Attempt: r.Int("attempt", t.GetAttempt()),
		Key: t.GetKey(), Group: t.GetGroup(), Headers: t.GetHeaders(),
		Errors: Each(t.GetErrors(), func(e *pb.AttemptError) queue.AttemptError {
			return queue.AttemptError{
				Attempt: r.Int("attempt", e.GetAttempt()), At: r.Time("at", e.GetAt()), Worker: e.GetWorker(),
				Error: readPayload(e.GetError()), Kind: e.GetErrorKind(), Fingerprint: e.GetFingerprint(),
			}
		}),
		CancelRequested: t.GetCancelRequested(), Progress: readPayload(t.GetProgress()), Replayed: t.GetReplayed(),
	}

	if l := t.GetLease(); l != nil {
		held.lease = r.readLease(l)
		held.task.Lease = &held.lease
	}

	return &held.task
}

// Tasks reads ts from the wire. The result is never nil.
func (r *Reader) Tasks(ts []*pb.Task) []*queue.Task {
	out := make([]*queue.Task, len(ts))
	for i, t := range ts {
		out[i] = r.Task(t)
	}
	return out
}

func (r *Reader) readLease(l *pb.Lease) queue.Lease {
	return queue.Lease{
		Token: l.GetToken(), ExpiresAt: r.Time("expires_at", l.GetExpiresAt()), Duration: r.Duration("lease", l.GetDuration()),
		InOrder: l.GetInOrder(),
	}
}

// readPayload returns b, or nil for no bytes, because a JSON value is never empty.
func readPayload(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	return b
}

// NewTask converts t for the wire.
func NewTask(t queue.NewTask) *pb.NewTask {
	return &pb.NewTask{
		Queue: t.Queue, Payload: t.Payload, DelayedAt: Time(t.DelayedAt), Delay: Duration(t.Delay),
		Priority: int32(t.Priority), Key: t.Key, Group: t.Group, Headers: t.Headers,
		OnConflict: conflicts.numberOfWord(t.OnConflict), UniqueUntil: uniqueEnds.numberOfWord(t.UniqueUntil),
		Debounce: Duration(t.Debounce), DebounceMax: Duration(t.DebounceMax),
	}
}

// NewTask reads t from the wire.
func (r *Reader) NewTask(t *pb.NewTask) queue.NewTask {
	return queue.NewTask{Queue: t.GetQueue(), TaskMeta: queue.TaskMeta{
		Payload: readPayload(t.GetPayload()), DelayedAt: r.Time("delayed_at", t.GetDelayedAt()),
		Delay: r.Duration("delay", t.GetDelay()), Priority: r.readInt16("priority", t.GetPriority()),
		Key: t.GetKey(), Group: t.GetGroup(), Headers: t.GetHeaders(),
		KeyRule: queue.KeyRule{
			OnConflict: conflicts.wordOfNumber(t.GetOnConflict()), UniqueUntil: uniqueEnds.wordOfNumber(t.GetUniqueUntil()),
			Debounce: r.Duration("debounce", t.GetDebounce()), DebounceMax: r.Duration("debounce_max", t.GetDebounceMax()),
		},
	}}
}

// NewTasks reads ts from the wire.
func (r *Reader) NewTasks(ts []*pb.NewTask) []queue.NewTask {
	out := make([]queue.NewTask, len(ts))
	for i, t := range ts {
		r.readElement("tasks", i, func() { out[i] = r.NewTask(t) })
	}
	return out
}

// TaskFilter converts f for the wire; nil stays nil.
func TaskFilter(f *queue.TaskFilter) *pb.TaskFilter {
	if f == nil {
		return nil
	}
	return &pb.TaskFilter{
		Queue: optionalText(f.Queue), Status: statuses.numbersOfWords(f.Statuses), Worker: optionalText(f.Worker),
		CreatedAfter: Time(f.CreatedAfter), CreatedBefore: Time(f.CreatedBefore),
		FinishedAfter: Time(f.FinishedAfter), FinishedBefore: Time(f.FinishedBefore), Key: optionalText(f.Key), Text: optionalText(f.Text),
	}
}

// optionalText returns a pointer to s, or nil for an empty s, because the wire distinguishes empty from absent.
func optionalText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// TaskFilter reads f from the wire; nil stays nil. A present but empty field is a fault: read as absent, it would
// select every task.
func (r *Reader) TaskFilter(f *pb.TaskFilter) *queue.TaskFilter {
	if f == nil {
		return nil
	}
	r.RequireKnown("filter", f)
	if f.Queue != nil && strings.TrimSpace(f.GetQueue()) == "" {
		r.recordFault("queue", "must not be empty; leave it out when it is not meant")
	}
	if f.Worker != nil && f.GetWorker() == "" {
		r.recordFault("worker", "must not be empty; leave it out when it is not meant")
	}
	if f.Key != nil && f.GetKey() == "" {
		r.recordFault("key", "must not be empty; leave it out when it is not meant")
	}
	if f.Text != nil && f.GetText() == "" {
		r.recordFault("text", "must not be empty; leave it out when it is not meant")
	}
	return &queue.TaskFilter{
		Queue: f.GetQueue(), Statuses: statuses.wordsOfNumbers(f.GetStatus()), Worker: f.GetWorker(),
		CreatedAfter:   r.readFilterTime("created_after", f.GetCreatedAfter()),
		CreatedBefore:  r.readFilterTime("created_before", f.GetCreatedBefore()),
		FinishedAfter:  r.readFilterTime("finished_after", f.GetFinishedAfter()),
		FinishedBefore: r.readFilterTime("finished_before", f.GetFinishedBefore()),
		Key:            f.GetKey(), Text: f.GetText(),
	}
}

// Page converts p for the wire.
func Page(p queue.Page) *pb.Page {
	return &pb.Page{Offset: int64(p.Offset), Limit: int64(p.Limit), Cursor: p.Cursor}
}

// Page reads p from the wire.
func (r *Reader) Page(p *pb.Page) queue.Page {
	return queue.Page{
		Offset: r.Int("offset", p.GetOffset()), Limit: r.Int("limit", p.GetLimit()), Cursor: p.GetCursor(),
	}
}

// Selection converts s for the wire.
func Selection(s queue.Selection) *pb.Selection {
	return &pb.Selection{Ids: s.IDs, Filter: TaskFilter(s.Filter), DryRun: s.DryRun, Cursor: s.Cursor, Within: Duration(s.Within), Limit: int64(s.Limit)}
}

// Selection reads s from the wire.
func (r *Reader) Selection(s *pb.Selection) queue.Selection {
	r.RequireKnown("selection", s)
	return queue.Selection{
		IDs: s.GetIds(), Filter: r.TaskFilter(s.GetFilter()), DryRun: s.GetDryRun(), Cursor: s.GetCursor(),
		Within: r.Duration("within", s.GetWithin()), Limit: r.Int("limit", s.GetLimit()),
	}
}

// Bulk converts b for the wire.
func Bulk(b queue.Bulk) *pb.Bulk {
	out := &pb.Bulk{Matched: b.Matched, Moved: b.Moved, Next: b.Next}
	if len(b.Errs) > 0 {
		out.Errors = make(map[int64]*pb.ErrorDetail, len(b.Errs))
		for id, err := range b.Errs {
			out.Errors[id] = Detail(err)
		}
	}
	return out
}

// ReadBulk reads b from the wire.
func ReadBulk(b *pb.Bulk) queue.Bulk {
	out := queue.Bulk{Matched: b.GetMatched(), Moved: b.GetMoved(), Next: b.GetNext()}
	if len(b.GetErrors()) > 0 {
		out.Errs = make(map[int64]error, len(b.GetErrors()))
		for id, d := range b.GetErrors() {
			out.Errs[id] = Err(d)
		}
	}
	return out
}
