package queue

import (
	"context"
	"time"
)

// Store is the driven port: persistence. It is a seam between pgqueue's own modules, outside semver.
//
// Every method is one atomic step, safe for concurrent use by any number of processes, bounded by ctx, and repeats
// transient faults itself where that is safe. Input arrives normalised and checked by the domain. Time is the store's
// own clock, the database's. Namespaces are part of every key; an id of another namespace is KindNotFound.
// Slices and tasks that a Store returns belong to the caller. A Store reads nothing of its arguments once a call has returned.
// A row that another transaction has locked is tried again until ctx ends, and then answered with Locked; see WithoutWait.
// queuetest.TestStore holds every implementation to this.
type Store interface {
	TaskStore
	TaskAdmin
	QueueStore
	TickerStore
	EventStore
	Maintainer
	// Ping reports whether the store can work now: reachable, writable, its schema one that this program works with.
	Ping(ctx context.Context) error
}

// TaskStore is the hot path. All of it is batch first: one is a batch of one.
type TaskStore interface {
	// CreateTasks creates tasks and answers each in order. With Atomic the first error rolls back all and is returned;
	// otherwise tasks at fault (unknown queue, key reused) are answered with their error and the others are created.
	CreateTasks(ctx context.Context, c Create) ([]Created, error)
	// RetainTasks serves several requests for the same queues at once and answers each in order. Within a queue tasks
	// leave by priority, then in the order in which they became ready; over several queues none starves another.
	// Once it has read MaxRetainBytes it begins no further request: then it answers only the first ones, at least one,
	// each with tasks. The caller asks again for the others. CreateAndRetain does the same.
	RetainTasks(ctx context.Context, r Retain) ([][]*Task, error)
	// CreateAndRetain is a CreateTasks and a RetainTasks behind it in one commit: where callers wait, a create
	// starts their tasks. The retain is one like any other, so it may take other tasks than those created, or none.
	// It is left out when nothing became ready, and when it cannot be done: then its requests are answered by nothing and
	// the creation stands. An error is of the creation, and means that nothing was retained either, unless it is
	// KindIndeterminate.
	CreateAndRetain(ctx context.Context, c Create, r Retain) ([]Created, [][]*Task, error)
	// HeartbeatTasks extends leases and answers each in order.
	HeartbeatTasks(ctx context.Context, namespace string, beats []Heartbeat) ([]Beat, error)
	// ReleaseTasks ends leases and answers each in order.
	ReleaseTasks(ctx context.Context, namespace string, releases []Release) ([]Released, error)
}

// Create is a batch of tasks of one namespace.
type Create struct {
	Namespace string
	Tasks     []NewTask
	// Atomic: all or nothing.
	Atomic bool
	// Unlimited: the tasks come beyond max_waiting too, as those of tickers.
	Unlimited bool
}

// Created answers one task of a Create.
type Created struct {
	// Task is the new one, or the one that was there under the key. The tasks of a call that were there come with their
	// content (payload, headers, result, progress) up to MaxPageBytes, the first in any case.
	Task *Task
	Err  error
	// Superseded is the task that ended cancelled because this one has replaced it; 0 = none. WasStatus is its status before.
	Superseded int64
	WasStatus  Status
}

// Retain is a batch of requests for tasks of the same queues.
type Retain struct {
	Namespace string
	// Queues sorted; empty = any queue of the namespace.
	Queues   []string
	Requests []RetainShare
	// WakeIn is a hint of the store, where it is set: a queue may give tasks after a time, because a limit of time lets them start
	// then.
	WakeIn func(queue string, in time.Duration)
}

// ReportLater calls WakeIn.
func (r Retain) ReportLater(queue string, in time.Duration) {
	if r.WakeIn != nil {
		r.WakeIn(queue, in)
	}
}

// EndsBefore reports whether a Store call that has read so many bytes leaves request i, and those behind it, to the next call.
func (r Retain) EndsBefore(i, bytes int) bool { return i > 0 && bytes >= MaxRetainBytes }

// RetainShare is one request of a Retain.
type RetainShare struct {
	Worker string
	Limit  int
	Lease  time.Duration // 0 = the queue's
	// MaxBytes bounds the tasks by Task.Bytes while they are read; 0 = no bound. The first one always fits.
	MaxBytes int
	// RequestID makes the share repeatable; a Retain with one has no share of another request. Arguments distinguish repeats.
	RequestID, Arguments string
}

// TakesBytes says whether a share that has so many tasks of so many bytes takes one more task of size bytes.
func (s RetainShare) TakesBytes(tasks, bytes, size int) bool {
	return s.MaxBytes == 0 || tasks == 0 || bytes+size <= s.MaxBytes
}

// TaskAdmin looks at tasks and operates on them.
type TaskAdmin interface {
	// GetTasks returns the tasks of ids that are there, in no order; with their errors when withErrors.
	GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*Task, error)
	// EndedTasks returns those of ids that are finished, or not there. It reads no payloads: the await of
	// many tasks asks it again and again.
	EndedTasks(ctx context.Context, namespace string, ids []int64) ([]int64, error)
	// ReadFacts returns what the store knows of a queue, and of t, a task of it; nil = of the queue alone. It reads a bounded
	// number of rows. KindNotFound for an unknown queue.
	ReadFacts(ctx context.Context, namespace, name string, t *Task) (StoreFacts, error)
	// ListFailures groups the newest failed tasks of a queue that q selects by a FailureGrouper. KindNotFound for an unknown
	// queue. It may look at MaxFailuresExamined tasks alone.
	ListFailures(ctx context.Context, namespace, name string, q FailureQuery) (*Failures, error)
	// ListTasks reads no more than a page holds: its limit, or MaxPageBytes.
	ListTasks(ctx context.Context, namespace string, q TaskQuery) (TaskPage, error)
	// CancelTasks, RetryTasks and DeleteTasks work off a selection behind its cursor in bounded steps, each atomic, until
	// nothing is left or s.Within is over; at least one step. The answer beside an error counts the steps before it.
	// RetryTasks takes the oldest first, so that what it makes new keeps its order.
	CancelTasks(ctx context.Context, namespace string, s Selection) (Bulk, error)
	RetryTasks(ctx context.Context, namespace string, s Selection) (Bulk, error)
	DeleteTasks(ctx context.Context, namespace string, s Selection) (Bulk, error)
	// ListWorkers fails with KindTooLarge when it has read more than MaxListBytes.
	ListWorkers(ctx context.Context, namespace string) ([]Worker, error)
}

// QueueStore keeps queues.
type QueueStore interface {
	// CreateQueue stores q as it is and returns it with its times; KindAlreadyExists when the name is taken.
	CreateQueue(ctx context.Context, q Queue) (*Queue, error)
	GetQueue(ctx context.Context, namespace, name string) (*Queue, error)
	ListQueues(ctx context.Context, namespace string, p Page) (QueuePage, error)
	// UpdateQueue applies meta to the present queue by Queue.With, atomically.
	UpdateQueue(ctx context.Context, namespace, name string, meta QueueMeta) (*Queue, error)
	// DeleteQueue makes the queue and its tasks invisible at once; the tasks' rows leave in batches (ChorePrune). Each call
	// that takes IfVersion checks it by CheckVersion in the transaction of the change. With IfEmpty it checks by CheckEmpty, and
	// excludes the creates and retries that would add a task meanwhile: they come before, or find no queue.
	DeleteQueue(ctx context.Context, namespace, name string, only ...DeleteCondition) (*Queue, error)
	// CleanQueue deletes finished tasks in bounded steps until none is left or within (0 = no limit) is over.
	CleanQueue(ctx context.Context, namespace, name string, within time.Duration, only ...IfVersion) (Cleaned, error)
	// ListGroups returns a page of the groups of a queue that have a policy, a task that waits for them, or a task that keeps a
	// place; q is normalized.
	ListGroups(ctx context.Context, namespace, name string, q GroupQuery) (GroupPage, error)
	// UpdateGroup applies meta to the policy of a group by GroupPolicy.With, atomically.
	UpdateGroup(ctx context.Context, namespace, name, group string, meta GroupMeta) (*Group, error)
	// UnblockGroup frees the places of finished tasks, so that a group that is blocked goes on. It returns the group.
	UnblockGroup(ctx context.Context, namespace, name, group string) (*Group, error)
	// QueueStats of one queue, or of every queue of the namespace when name is "", in the order of names.
	QueueStats(ctx context.Context, namespace, name string) ([]*QueueStats, error)
	// QueueHistory returns the points of a queue that q, after Normalize, selects. ChoreFold writes them, once a minute.
	QueueHistory(ctx context.Context, namespace, name string, q HistoryQuery) (*QueueHistory, error)
	ListNamespaces(ctx context.Context) ([]string, error)
}

// TickerStore keeps tickers and their ticks.
type TickerStore interface {
	CreateTicker(ctx context.Context, t Ticker) (*Ticker, error)
	GetTicker(ctx context.Context, namespace, name string) (*Ticker, error)
	ListTickers(ctx context.Context, namespace string, p Page) (TickerPage, error)
	// UpdateTicker applies meta to the present ticker by Ticker.With, atomically; a change of the schedule moves the
	// anchor to now and the next nominal time with it, after what was due by the old one has fired, where that can be done;
	// any other change leaves both.
	UpdateTicker(ctx context.Context, namespace, name string, meta TickerMeta, maxPayloadBytes int) (*Ticker, error)
	DeleteTicker(ctx context.Context, namespace, name string, only ...IfVersion) (*Ticker, error)
	RunTicker(ctx context.Context, namespace, name string, only ...IfVersion) (*Tick, error)
	ListTicks(ctx context.Context, namespace, name string, limit int) ([]Tick, error)
	// TakeTicks fires due tickers that have no queue and hands their ticks, at most MaxTakenTicks, to the caller for hold;
	// one that is not settled by then is handed out again. A ticker that cannot fire is passed over. It also says in how long
	// the next is due (0 = not known).
	TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]Tick, time.Duration, error)
	// SettleTicks ends the hold of taken ticks: delivered for good, or given back at once.
	SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error
}

// EventStore is the feed.
type EventStore interface {
	// ListEvents returns at most limit events behind f.After, oldest first, in an order in which resuming from any
	// event's cursor leaves no gap, even when transactions commit out of order. f.After "" = from the oldest kept.
	ListEvents(ctx context.Context, namespace string, f EventFilter, limit int) (EventPage, error)
	// LastEvent returns the cursor of the present end of the namespace's feed; later events are behind it.
	LastEvent(ctx context.Context, namespace string) (string, error)
}

// Chore is a kind of background work. There is no leader: any process may do any chore at any time.
type Chore string

// The chores.
const (
	ChorePromote Chore = "promote" // delayed tasks that are due become ready
	ChoreRescue  Chore = "rescue"  // tasks of expired leases are taken back
	ChoreExpire  Chore = "expire"  // tasks past their ttl end
	ChorePrune   Chore = "prune"   // rows past their retention and of deleted queues are deleted
	ChoreFold    Chore = "fold"    // kept counts are summed up
	ChoreTick    Chore = "tick"    // due tickers with a queue fire
)

// Chores lists every chore.
func Chores() []Chore {
	return []Chore{ChorePromote, ChoreRescue, ChoreExpire, ChorePrune, ChoreFold, ChoreTick}
}

// Maintainer does background work in small steps.
type Maintainer interface {
	// Maintain does one bounded step of chore. Rows that another process works on are skipped.
	Maintain(ctx context.Context, chore Chore) (Maintained, error)
}

// Maintained answers one step of a chore.
type Maintained struct {
	// Moved is how many tasks, ticks or rows the step dealt with.
	Moved int
	// More says that there is more to do right now.
	More bool
	// NextIn is in how long there will be more; 0 = not known.
	NextIn time.Duration
	// Lag is by how much the oldest thing dealt with was late.
	Lag time.Duration
	// Woken are the queues in which tasks became ready.
	Woken []Wake
	// Moves counts, for rescue, by what became of the tasks.
	Moves map[Status]int
	// Tallies count, for rescue, expire and tick, the moved tasks by queue; a tick counts its new tasks.
	Tallies Tallies
	// Quarantined count, for rescue, those of the tallies that lost leases alone have ended.
	Quarantined Tallies
	// Ticks are those that a tick step fired.
	Ticks []Tick
	// Faults are what the step passed over, each named; the rest of the step was done.
	Faults []Fault
}

// Wake is a hint that a queue may have tasks that can be retained. Queue "" means any of the namespace, Namespace ""
// any at all.
type Wake struct {
	Namespace string
	Queue     string
}

// Listener is an optional interface: wake-ups for tasks that other processes made ready. Find it with StoreAs.
type Listener interface {
	// Listen calls wake with each hint until ctx ends; then it returns ctx's error. It reconnects by itself and calls
	// wake(Wake{}) after a reconnect. It is a hint only: polling must find everything without it.
	Listen(ctx context.Context, wake func(Wake)) error
}

// StatsLister is an optional interface: the counts of every queue of every namespace in one step, ordered by namespace
// and name. Find it with StoreAs; without it ask QueueStats of each namespace. It scans no tasks: monitoring calls it.
type StatsLister interface {
	AllQueueStats(ctx context.Context) ([]*QueueStats, error)
}

// Diagnoser is an optional interface: the examination of a store for an operator.
type Diagnoser interface {
	Diagnose(ctx context.Context) ([]Finding, error)
}

// Level grades a Finding.
type Level string

// The levels.
const (
	LevelOK   Level = "ok"
	LevelWarn Level = "warn"
	LevelFail Level = "fail"
)

// Finding is one line of a diagnosis.
type Finding struct {
	// Name is stable, as "fsync" or "listen".
	Name  string
	Level Level
	// Value found, for people.
	Value string
	// Advice says what to do; "" when all is well.
	Advice string
}

// Unwrapper is implemented by decorators of a Store.
type Unwrapper interface{ Unwrap() Store }

// StoreAs finds an optional interface of s behind its decorators.
func StoreAs[T any](s Store) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		u, ok := s.(Unwrapper)
		if !ok {
			break
		}
		s = u.Unwrap()
	}
	var zero T
	return zero, false
}
