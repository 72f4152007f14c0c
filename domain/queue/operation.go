package queue

import "strings"

// Op identifies an operation: one method of [Service] or of [Store]. The methods of the same name share one Op, so a call
// has one name on its way from a client to the database. The zero Op is not an operation.
type Op uint8

// The operations of a Service, in the order of its role interfaces.
const (
	OpListNamespaces Op = iota + 1
	OpCreateTask
	OpCreateTasks
	OpRetainTasks
	OpHeartbeatTasks
	OpReleaseTasks
	OpGetTask
	OpListTasks
	OpCancelTasks
	OpRetryTasks
	OpDeleteTasks
	OpAwaitTask
	OpCreateQueue
	OpRegisterQueue
	OpGetQueue
	OpListQueues
	OpUpdateQueue
	OpDeleteQueue
	OpCleanQueue
	OpCleanQueueWithin
	OpListGroups
	OpUpdateGroup
	OpUnblockGroup
	OpQueueStats
	OpQueueHistory
	OpListQueueStatuses
	OpExplainTask
	OpExplainQueue
	OpListFailures
	OpCreateTicker
	OpRegisterTicker
	OpGetTicker
	OpListTickers
	OpUpdateTicker
	OpDeleteTicker
	OpPreviewTicker
	OpUpcomingTicks
	OpRunTicker
	OpListTicks
	OpRunTickerLoop
	OpListEvents
	OpSubscribeEvents
	OpLastEvent
	OpListWorkers

	// The operations of access.Admin.

	OpCreateToken
	OpListTokens
	OpRotateToken
	OpRevokeToken
	OpWhoAmI
	OpCan
	OpListAudit

	// The operations on sessions of the dashboard.

	OpCreateCode
	OpOpenSession
	OpListSessions
	OpEndSession
	OpSignOut

	// The operations that only a Store has.

	OpCreateAndRetain
	OpGetTasks
	OpReadFacts
	OpEndedTasks
	OpTakeTicks
	OpSettleTicks
	OpMaintain
	OpPing
	OpDiagnose
	OpListCells

	// The calls that only the in-process manager has, for users of the predecessor.

	OpNextTask
	OpReleaseTask
	OpNextTicker
	OpRun

	opCount
)

// Effect says how a call and its repeat change the store.
type Effect uint8

// The effects.
const (
	// EffectNone reads only.
	EffectNone Effect = iota
	// EffectLease changes leases only. After a lost answer the leases lapse by themselves, so the caller repeats the call.
	EffectLease
	// EffectIdempotent changes the store, and a repeat of an accepted call changes nothing more.
	EffectIdempotent
	// EffectRepeats changes the store, and a repeat changes it again.
	EffectRepeats
)

// Cost bounds the work of one call.
type Cost uint8

// The costs.
const (
	// CostRow reads or writes a fixed number of rows by their keys.
	CostRow Cost = iota
	// CostBatch reads or writes at most MaxBatch tasks.
	CostBatch
	// CostPage reads one page: at most MaxPage rows and MaxPageBytes.
	CostPage
	// CostAll reads one row for each queue, worker or namespace.
	CostAll
	// CostSteps works in bounded steps until no work is left or the caller's time is over.
	CostSteps
	// CostWait may wait for tasks, at most MaxWait.
	CostWait
	// CostStream lasts until the caller ends it.
	CostStream
)

// Action is the right that a caller needs for an operation.
type Action string

// The actions. An operation without an action is not for callers.
const (
	ActionTaskCreate    Action = "task.create"
	ActionTaskResult    Action = "task.result"
	ActionTaskWork      Action = "task.work"
	ActionTaskRead      Action = "task.read"
	ActionTaskOperate   Action = "task.operate"
	ActionQueueRead     Action = "queue.read"
	ActionQueueManage   Action = "queue.manage"
	ActionTickerRead    Action = "ticker.read"
	ActionTickerListen  Action = "ticker.listen"
	ActionTickerRun     Action = "ticker.run"
	ActionTickerManage  Action = "ticker.manage"
	ActionEventRead     Action = "event.read"
	ActionWorkerRead    Action = "worker.read"
	ActionNamespaceList Action = "namespace.list"
	ActionSystemRead    Action = "system.read"

	// The actions that belong to no operation of a Service.

	// ActionTaskPayload shows the content of tasks: payload, result, headers, progress and error texts.
	ActionTaskPayload Action = "task.payload"
	// ActionQueuePause changes nothing of a queue or a ticker but Paused.
	ActionQueuePause Action = "queue.pause"
	// ActionAccessSelf shows a caller its own identity and rights.
	ActionAccessSelf Action = "access.self"
	// ActionAccessManage creates, lists and revokes tokens.
	ActionAccessManage Action = "access.manage"
	// ActionAuditRead reads the audit.
	ActionAuditRead Action = "audit.read"
)

// Operation is one row of the table of operations. Transports, telemetry, the command line and access control look up
// here how a call is named, repeated and bounded.
type Operation struct {
	// Method is the Go method, as "CreateTask". Every other name follows from it: see [Op.String] and [Op.Label].
	Method string
	// Role is the interface that declares the method, as "Producer"; "" for calls that only the manager has.
	Role string
	// Summary says in one line what the operation does.
	Summary string
	Effect  Effect
	Cost    Cost
	Action  Action
}

// operations is the table of operations.
var operations = [opCount]Operation{
	OpListNamespaces: {"ListNamespaces", "Scoped", "List the namespaces", EffectNone, CostAll, ActionNamespaceList},

	OpCreateTask:  {"CreateTask", "Producer", "Create a task", EffectRepeats, CostRow, ActionTaskCreate},
	OpCreateTasks: {"CreateTasks", "Producer", "Create many tasks, all or none", EffectRepeats, CostBatch, ActionTaskCreate},

	OpRetainTasks:    {"RetainTasks", "Consumer", "Retain available tasks under a lease", EffectLease, CostWait, ActionTaskWork},
	OpHeartbeatTasks: {"HeartbeatTasks", "Consumer", "Extend leases, each answered by itself", EffectLease, CostBatch, ActionTaskWork},
	OpReleaseTasks:   {"ReleaseTasks", "Consumer", "Release tasks, each answered by itself", EffectIdempotent, CostBatch, ActionTaskWork},

	OpGetTask:     {"GetTask", "Tasks", "Get a task with its errors", EffectNone, CostRow, ActionTaskRead},
	OpListTasks:   {"ListTasks", "Tasks", "List tasks, newest first", EffectNone, CostPage, ActionTaskRead},
	OpCancelTasks: {"CancelTasks", "Tasks", "Cancel tasks by ids or filter", EffectIdempotent, CostSteps, ActionTaskOperate},
	OpRetryTasks:  {"RetryTasks", "Tasks", "Retry finished tasks by ids or filter", EffectRepeats, CostSteps, ActionTaskOperate},
	OpDeleteTasks: {"DeleteTasks", "Tasks", "Delete tasks by ids or filter", EffectIdempotent, CostSteps, ActionTaskOperate},
	OpAwaitTask:   {"AwaitTask", "Tasks", "Await the end of a task", EffectNone, CostWait, ActionTaskResult},

	OpCreateQueue:      {"CreateQueue", "Queues", "Create a queue", EffectRepeats, CostRow, ActionQueueManage},
	OpRegisterQueue:    {"RegisterQueue", "Queues", "Create or update a queue", EffectIdempotent, CostRow, ActionQueueManage},
	OpGetQueue:         {"GetQueue", "Queues", "Get a queue", EffectNone, CostRow, ActionQueueRead},
	OpListQueues:       {"ListQueues", "Queues", "List the queues", EffectNone, CostPage, ActionQueueRead},
	OpUpdateQueue:      {"UpdateQueue", "Queues", "Change the named fields of a queue", EffectRepeats, CostRow, ActionQueueManage},
	OpDeleteQueue:      {"DeleteQueue", "Queues", "Delete a queue and its tasks", EffectRepeats, CostRow, ActionQueueManage},
	OpCleanQueue:       {"CleanQueue", "Queues", "Delete the finished tasks of a queue now", EffectRepeats, CostSteps, ActionTaskOperate},
	OpCleanQueueWithin: {"CleanQueueWithin", "Queues", "Delete finished tasks of a queue for a time", EffectRepeats, CostSteps, ActionTaskOperate},

	OpListGroups:   {"ListGroups", "Groups", "List the groups of a queue that are limited or wait", EffectNone, CostPage, ActionQueueRead},
	OpUpdateGroup:  {"UpdateGroup", "Groups", "Change the named settings of a group", EffectIdempotent, CostRow, ActionQueueManage},
	OpUnblockGroup: {"UnblockGroup", "Groups", "Let a blocked group go on", EffectIdempotent, CostRow, ActionTaskOperate},

	OpQueueStats:        {"QueueStats", "QueueStatuses", "Show the counts of a queue", EffectNone, CostRow, ActionQueueRead},
	OpQueueHistory:      {"QueueHistory", "QueueStatuses", "Show the history of a queue, by minutes or hours", EffectNone, CostPage, ActionQueueRead},
	OpListQueueStatuses: {"ListQueueStatuses", "QueueStatuses", "Show the counts of every queue", EffectNone, CostAll, ActionQueueRead},

	OpExplainTask:  {"ExplainTask", "Explanations", "Show why a task does not run, and until when", EffectNone, CostRow, ActionTaskRead},
	OpExplainQueue: {"ExplainQueue", "Explanations", "Show why no task of a queue is retained, and until when", EffectNone, CostRow, ActionQueueRead},
	OpListFailures: {"ListFailures", "FailureGroups", "Group the newest failed tasks of a queue by their errors", EffectNone, CostBatch, ActionTaskRead},

	OpCreateTicker:   {"CreateTicker", "Tickers", "Create a ticker", EffectRepeats, CostRow, ActionTickerManage},
	OpRegisterTicker: {"RegisterTicker", "Tickers", "Create or update a ticker", EffectIdempotent, CostRow, ActionTickerManage},
	OpGetTicker:      {"GetTicker", "Tickers", "Get a ticker", EffectNone, CostRow, ActionTickerRead},
	OpListTickers:    {"ListTickers", "Tickers", "List the tickers", EffectNone, CostPage, ActionTickerRead},
	OpUpdateTicker:   {"UpdateTicker", "Tickers", "Change the named fields of a ticker", EffectRepeats, CostRow, ActionTickerManage},
	OpDeleteTicker:   {"DeleteTicker", "Tickers", "Delete a ticker", EffectRepeats, CostRow, ActionTickerManage},

	OpPreviewTicker: {"PreviewTicker", "TickerRuns", "List the next times of a ticker", EffectNone, CostRow, ActionTickerRead},
	OpUpcomingTicks: {"UpcomingTicks", "TickerRuns", "Show the next fires of all tickers", EffectNone, CostAll, ActionTickerRead},
	OpRunTicker:     {"RunTicker", "TickerRuns", "Fire a ticker now, beside its schedule", EffectRepeats, CostRow, ActionTickerRun},
	OpListTicks:     {"ListTicks", "TickerRuns", "List the last ticks of a ticker, newest first", EffectNone, CostPage, ActionTickerRead},
	OpRunTickerLoop: {"RunTickerLoop", "TickerRuns", "Receive the ticks of tickers without a queue", EffectLease, CostStream, ActionTickerListen},

	OpListEvents:      {"ListEvents", "Events", "List a page of task events", EffectNone, CostPage, ActionEventRead},
	OpSubscribeEvents: {"SubscribeEvents", "Events", "Follow the events of tasks", EffectNone, CostStream, ActionEventRead},
	OpLastEvent:       {"LastEvent", "FeedEnd", "Get the cursor of the end of the feed", EffectNone, CostRow, ActionEventRead},
	OpListWorkers:     {"ListWorkers", "Workers", "List the workers that hold tasks", EffectNone, CostAll, ActionWorkerRead},

	OpCreateToken: {"CreateToken", "Admin", "Create a token, and show its secret once", EffectRepeats, CostRow, ActionAccessManage},
	OpListTokens:  {"ListTokens", "Admin", "List the tokens, newest first", EffectNone, CostAll, ActionAccessManage},
	OpRotateToken: {"RotateToken", "Admin", "Replace a token by a new one with the same grants", EffectRepeats, CostRow, ActionAccessManage},
	OpRevokeToken: {"RevokeToken", "Admin", "Revoke a token at once", EffectIdempotent, CostRow, ActionAccessManage},
	OpWhoAmI:      {"WhoAmI", "Admin", "Show the principal of the caller and its grants", EffectNone, CostRow, ActionAccessSelf},
	OpListAudit:   {"ListAudit", "Admin", "List a page of the audit, newest first", EffectNone, CostPage, ActionAuditRead},
	OpCan:         {"Can", "Admin", "Show whether the caller has a right", EffectNone, CostRow, ActionAccessSelf},

	OpCreateCode:   {"CreateCode", "SessionAdmin", "Create a code that opens one session of the dashboard", EffectRepeats, CostRow, ActionAccessSelf},
	OpOpenSession:  {"OpenSession", "Sessions", "Sign in: open a session by a code or a token", EffectRepeats, CostRow, ActionAccessSelf},
	OpListSessions: {"ListSessions", "SessionAdmin", "List the live sessions, newest first", EffectNone, CostAll, ActionAccessManage},
	OpEndSession:   {"EndSession", "SessionAdmin", "End a session at once", EffectIdempotent, CostRow, ActionAccessManage},
	OpSignOut:      {"SignOut", "Sessions", "Sign out: end the session of the caller", EffectIdempotent, CostRow, ActionAccessSelf},

	OpCreateAndRetain: {"CreateAndRetain", "TaskStore", "Create tasks and retain tasks in one commit", EffectRepeats, CostBatch, ""},
	OpGetTasks:        {"GetTasks", "TaskAdmin", "Get tasks by ids", EffectNone, CostBatch, ""},
	OpReadFacts:       {"ReadFacts", "TaskAdmin", "Read the facts that explain a wait", EffectNone, CostRow, ""},
	OpEndedTasks:      {"EndedTasks", "TaskAdmin", "List the finished tasks among ids", EffectNone, CostBatch, ""},
	OpTakeTicks:       {"TakeTicks", "TickerStore", "Fire due tickers without a queue", EffectLease, CostBatch, ""},
	OpSettleTicks:     {"SettleTicks", "TickerStore", "Settle or give back ticks", EffectIdempotent, CostBatch, ""},
	OpMaintain:        {"Maintain", "Maintainer", "Do one step of background work", EffectIdempotent, CostBatch, ""},
	OpPing:            {"Ping", "Store", "Check that the store can work", EffectNone, CostRow, ActionSystemRead},
	OpDiagnose:        {"Diagnose", "Diagnoser", "Examine the store", EffectNone, CostAll, ActionSystemRead},
	OpListCells:       {"ListCells", "CellLister", "List the cells of the store", EffectNone, CostAll, ActionSystemRead},

	OpNextTask:    {"NextTask", "", "Retain one task", EffectLease, CostRow, ActionTaskWork},
	OpReleaseTask: {"ReleaseTask", "", "Release one task", EffectIdempotent, CostRow, ActionTaskWork},
	OpNextTicker:  {"NextTicker", "", "Receive one tick", EffectLease, CostWait, ActionTickerListen},
	OpRun:         {"Run", "", "Run background work and workers", EffectNone, CostStream, ""},
}

// opNames are the names that follow from Operation.Method, split once because calls look them up.
var opNames = func() (names [opCount]struct{ spaced, label string }) {
	for op := Op(1); op < opCount; op++ {
		words := splitWords(operations[op].Method)
		names[op].spaced = strings.Join(words, " ")
		names[op].label = strings.Join(words, "_")
	}
	return names
}()

// splitWords splits a Go name at its capitals into words in lower case: "CreateTask" into "create" and "task".
func splitWords(name string) []string {
	var words []string
	for start, end := 0, 1; end <= len(name); end++ {
		if end == len(name) || name[end] < 'a' {
			words = append(words, strings.ToLower(name[start:end]))
			start = end
		}
	}
	return words
}

// Ops lists every operation in the order of the table.
func Ops() []Op {
	all := make([]Op, 0, opCount-1)
	for op := Op(1); op < opCount; op++ {
		all = append(all, op)
	}
	return all
}

// ServiceOps lists the operations of a [Service] and of [FeedEnd].
func ServiceOps() []Op {
	return Ops()[:OpListWorkers]
}

// AdminOps lists the operations on tokens and rights.
func AdminOps() []Op {
	return Ops()[OpListWorkers:OpListAudit]
}

// SessionOps lists the operations on sessions of the dashboard.
func SessionOps() []Op {
	return Ops()[OpListAudit:OpSignOut]
}

// Operation returns the row of op in the table of operations.
func (op Op) Operation() Operation { return operations[op] }

// String returns the name of op in errors and logs, as "create task".
func (op Op) String() string { return opNames[op].spaced }

// Label returns the name of op in metrics and spans, as "create_task".
func (op Op) Label() string { return opNames[op].label }

// Reads reports whether op changes nothing, so that a call with an unknown result may be repeated.
func (op Op) Reads() bool { return operations[op].Effect == EffectNone }

// Unanswered returns the kind of error for a call that the store did not answer in time. A call that only reads or leases
// is KindUnavailable and can be repeated. Any other call is KindIndeterminate, because it may have changed the store.
func (op Op) Unanswered() Kind {
	switch operations[op].Effect {
	case EffectNone, EffectLease:
		return KindUnavailable
	case EffectIdempotent, EffectRepeats:
	}
	return KindIndeterminate
}
