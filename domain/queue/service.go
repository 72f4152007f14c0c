package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Service has all operations of a caller, in one namespace. The manager implements it in process, restclient and connectclient over the
// wire, and telemetry decorates it. queuetest.TestService checks that they behave the same. Code that needs one role declares that role.
//
// All methods are safe for concurrent use, check their input against the limits (KindInvalid names the field), honour
// ctx, and answer with *Error. A method that changes something has committed it when it returns nil.
type Service interface {
	Scoped
	Producer
	Consumer
	Tasks
	Queues
	Groups
	QueueStatuses
	Explanations
	FailureGroups
	Tickers
	TickerRuns
	Events
	Workers
}

// Scoped knows its namespace and gives the same service for another.
type Scoped interface {
	// Namespace returns the namespace of the service.
	Namespace() string
	// In is the same service bound to namespace. It costs nothing and shares everything. KindInvalid for a bad name and
	// for the system's own namespace.
	In(namespace string) (Service, error)
	// ListNamespaces lists every namespace that has a queue or a ticker, and the system's own, sorted.
	ListNamespaces(ctx context.Context) ([]string, error)
}

// Producer puts tasks in.
type Producer interface {
	// CreateTask creates one task in queue. When a task of the queue has meta.Key, it returns that task with Replayed set, or
	// KindKeyReused when the payloads differ; meta.KeyRule changes that. KindNotFound for an unknown queue. After KindIndeterminate it is
	// safe to repeat the call with its key, and only then. Creates of many goroutines may share one commit; each returns after it.
	CreateTask(ctx context.Context, queue string, meta TaskMeta) (*Task, error)
	// CreateTasks creates up to MaxBatch tasks, all or none, and returns them in the order given. The error's Field
	// names the task at fault, as "tasks[3].payload".
	CreateTasks(ctx context.Context, tasks []NewTask) ([]*Task, error)
}

// Consumer works tasks.
type Consumer interface {
	// RetainTasks takes up to r.Limit available tasks under leases. An empty list stands for no task and is not an error. With r.Wait, at
	// most MaxWait, it blocks until there is a task, the time is over, or ctx ends. No task has two valid leases at once.
	RetainTasks(ctx context.Context, r RetainRequest) ([]*Task, error)
	// HeartbeatTasks extends leases and returns an answer for each, in order. The error is nil when at least one heartbeat succeeded. When
	// all were refused, it returns the answers and an error.
	HeartbeatTasks(ctx context.Context, beats []Heartbeat) ([]Beat, error)
	// ReleaseTasks ends leases and returns an answer for each, in order. The error is nil when at least one release succeeded. When all
	// were refused, it returns the answers and an error. After KindIndeterminate the caller repeats it: a release that repeats an
	// accepted one changes nothing and gets the same answer.
	ReleaseTasks(ctx context.Context, releases []Release) ([]Released, error)
}

// Tasks looks at tasks and operates on them.
//
// CancelTasks, RetryTasks and DeleteTasks work in steps. They stop when all is done, after s.Within, on an error, or at the end of ctx.
// Bulk counts the tasks that moved, also beside an error.
type Tasks interface {
	// GetTask returns a task with its errors, or KindNotFound.
	GetTask(ctx context.Context, id int64) (*Task, error)
	// ListTasks returns a page, newest first unless q says otherwise.
	ListTasks(ctx context.Context, q TaskQuery) (TaskPage, error)
	// CancelTasks cancels waiting tasks, and requests the cancellation of retained ones.
	CancelTasks(ctx context.Context, s Selection) (Bulk, error)
	// RetryTasks sets finished tasks to new with 0 attempts, the oldest first.
	RetryTasks(ctx context.Context, s Selection) (Bulk, error)
	// DeleteTasks deletes tasks that are not under a lease.
	DeleteTasks(ctx context.Context, s Selection) (Bulk, error)
	// AwaitTask returns the task as soon as it is finished, or as it is after wait, at most MaxWait. KindNotFound for an unknown task.
	AwaitTask(ctx context.Context, id int64, wait time.Duration) (*Task, error)
}

// Queues manages queues. A call with an IfVersion that is not the present version of the queue is KindPrecondition.
type Queues interface {
	// CreateQueue creates a queue, or returns KindAlreadyExists.
	CreateQueue(ctx context.Context, meta QueueMeta) (*Queue, error)
	// RegisterQueue creates a queue, or updates the queue of that name.
	RegisterQueue(ctx context.Context, meta QueueMeta) (*Queue, error)
	// GetQueue returns a queue, or KindNotFound.
	GetQueue(ctx context.Context, name string) (*Queue, error)
	// ListQueues returns a page in the order of names.
	ListQueues(ctx context.Context, p Page) (QueuePage, error)
	// UpdateQueue changes the fields that meta sets.
	UpdateQueue(ctx context.Context, name string, meta QueueMeta) (*Queue, error)
	// DeleteQueue deletes a queue and its tasks, and returns the queue as it was. Its name is free at once. KindConflict when the queue
	// has unfinished tasks and IfEmpty is given.
	DeleteQueue(ctx context.Context, name string, conditions ...DeleteCondition) (*Queue, error)
	// CleanQueue deletes the finished tasks of a queue before the end of their retention. It returns the number of deleted tasks, also
	// beside an error.
	CleanQueue(ctx context.Context, name string, conditions ...IfVersion) (int64, error)
	// CleanQueueWithin is a step of CleanQueue: it stops after about within, and reports whether there may be more.
	CleanQueueWithin(ctx context.Context, name string, within time.Duration, conditions ...IfVersion) (Cleaned, error)
}

// Groups looks at the groups of tasks of a queue, and limits or pauses one of them.
type Groups interface {
	// ListGroups returns a page of the groups of a queue that have settings of their own, a task that waits for them, or a task
	// that keeps a place. KindNotFound for an unknown queue.
	ListGroups(ctx context.Context, name string, q GroupQuery) (GroupPage, error)
	// UpdateGroup changes the settings of a group that meta sets. The group need not have tasks.
	UpdateGroup(ctx context.Context, name, group string, meta GroupMeta) (*Group, error)
	// UnblockGroup continues a group of a FIFO queue that stopped at a failed task (group_on_failure: block).
	UnblockGroup(ctx context.Context, name, group string) (*Group, error)
}

// QueueStatuses returns the counts of queues without scanning tasks.
type QueueStatuses interface {
	// QueueStats returns the counts of a queue, or KindNotFound.
	QueueStats(ctx context.Context, name string) (*QueueStats, error)
	// QueueHistory returns what happened in a queue by minutes of the last day, or by hours of the last 30 days, the oldest
	// point first. KindNotFound for an unknown queue.
	QueueHistory(ctx context.Context, name string, q HistoryQuery) (*QueueHistory, error)
	// ListQueueStatuses returns the stats of every queue of the namespace in the order of names.
	ListQueueStatuses(ctx context.Context) ([]*QueueStats, error)
}

// Explanations says why work does not proceed, in words and codes, and until when. It scans no tasks.
type Explanations interface {
	// ExplainTask returns the reasons why a task is not running, or KindNotFound.
	ExplainTask(ctx context.Context, id int64) (*Explanation, error)
	// ExplainQueue returns the reasons why no task of a queue is retained, or KindNotFound.
	ExplainQueue(ctx context.Context, name string) (*Explanation, error)
}

// FailureGroups groups failed tasks by their errors.
type FailureGroups interface {
	// ListFailures returns the newest MaxFailures failed tasks of a queue that q selects in groups of equal fingerprints, those
	// with the most tasks first, or KindNotFound.
	ListFailures(ctx context.Context, name string, q FailureQuery) (*Failures, error)
}

// Tickers manages tickers. A call with an IfVersion that is not the present version of the ticker is KindPrecondition.
type Tickers interface {
	// CreateTicker creates a ticker, or returns KindAlreadyExists; KindNotFound for an unknown queue.
	CreateTicker(ctx context.Context, meta TickerMeta) (*Ticker, error)
	// RegisterTicker creates a ticker, or updates the ticker of that name.
	RegisterTicker(ctx context.Context, meta TickerMeta) (*Ticker, error)
	// GetTicker returns a ticker, or KindNotFound.
	GetTicker(ctx context.Context, name string) (*Ticker, error)
	// ListTickers returns a page in the order of names.
	ListTickers(ctx context.Context, p Page) (TickerPage, error)
	// UpdateTicker changes the fields that meta sets.
	UpdateTicker(ctx context.Context, name string, meta TickerMeta) (*Ticker, error)
	// DeleteTicker deletes a ticker, and returns it as it was.
	DeleteTicker(ctx context.Context, name string, conditions ...IfVersion) (*Ticker, error)
}

// TickerRuns previews, fires, lists and receives ticks.
type TickerRuns interface {
	// PreviewTicker returns the next n nominal times.
	PreviewTicker(ctx context.Context, name string, n int) ([]time.Time, error)
	// UpcomingTicks returns the next fires of all tickers of the namespace that are not paused, in the order of their times.
	UpcomingTicks(ctx context.Context, q UpcomingQuery) (*Upcoming, error)
	// RunTicker fires a ticker now, beside its schedule. An IfVersion acts as in Tickers.
	RunTicker(ctx context.Context, name string, conditions ...IfVersion) (*Tick, error)
	// ListTicks returns the last ticks of a ticker, newest first: at most limit, and at most MaxPageBytes.
	ListTicks(ctx context.Context, name string, limit int) ([]Tick, error)
	// RunTickerLoop calls handle with each tick of the namespace's tickers that have no queue, one call at a time, until
	// ctx ends or the connection is lost for good. A tick goes to exactly one loop. When handle returns an error, or its
	// process dies first, the tick goes to the next loop. It returns ctx's error, or that of the lost connection.
	RunTickerLoop(ctx context.Context, handle func(context.Context, Tick) error) error
}

// Events follows the feed of task events.
type Events interface {
	// ListEvents returns what is in the feed behind f.After, at most limit events; without f.After from the oldest kept.
	// KindCursorExpired when f.After is older than what is kept.
	ListEvents(ctx context.Context, f EventFilter, limit int) (EventPage, error)
	// SubscribeEvents calls handle with each event behind f.After (from now on when empty) as it happens, in the feed's
	// order, without gaps, until ctx ends or handle returns an error, which it returns. KindSlowReader when handle does
	// not keep up; KindCursorExpired as above.
	SubscribeEvents(ctx context.Context, f EventFilter, handle func(Event) error) error
}

// Workers lists the workers.
type Workers interface {
	// ListWorkers returns the workers that hold tasks of the namespace now, in the order of names. KindTooLarge above MaxListBytes.
	ListWorkers(ctx context.Context) ([]Worker, error)
}

// ServiceAs finds an optional interface of s behind its decorators; Unwrap returns the next one.
func ServiceAs[T any](s Service) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		u, ok := s.(interface{ Unwrap() Service })
		if !ok {
			break
		}
		s = u.Unwrap()
	}
	var zero T
	return zero, false
}

// FeedEnd is an optional interface of a Service: the end of its feed. A server sends its cursor to a new subscriber. The subscriber can
// then resume without a gap, also before it has seen an event.
type FeedEnd interface {
	// LastEvent returns the cursor of the present end of the feed; later events are behind it.
	LastEvent(ctx context.Context) (string, error)
}

// StatsAge is the maximum age of an answer of SharedStats.
const StatsAge = time.Second

// StatsFeed is an optional interface of a Service: counts for viewers that look again and again, as streams do.
type StatsFeed interface {
	// SharedStats is ListQueueStatuses with an answer that all calls of this process share. Nothing is read without a call. The caller
	// must not change the answer.
	SharedStats(ctx context.Context) ([]*QueueStats, error)
}

// Marshal is the payload or result that v stands for: nil gives nil, json.RawMessage and []byte are taken as JSON, an
// error becomes {"error": text}, anything else is marshalled.
func Marshal(v any) (json.RawMessage, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return v, nil
	case []byte:
		return v, nil
	case error:
		return ErrorJSON(v.Error()), nil
	}

	b, err := json.Marshal(v)
	if err != nil {
		return nil, &Error{Kind: KindInvalid, Field: "payload", Msg: fmt.Sprintf("must be a value that JSON can hold, got %T; change its type", v), Err: err}
	}

	return b, nil
}
