package restapi

import (
	"net/http"
	"net/url"
	"strings"
)

// DefaultPrefix is the prefix of the routes without another configuration.
const DefaultPrefix = "/api"

// Headers and media types of the interface.
const (
	HeaderNamespace   = "Pgqueue-Namespace"
	HeaderKey         = "Idempotency-Key"
	HeaderReplayed    = "Idempotency-Replayed"
	HeaderLastEventID = "Last-Event-ID"
	HeaderRequestID   = "X-Request-Id"

	MediaJSON = "application/json"
	// MediaExactJSON is JSON in which a payload, result or progress of null is a value and not absent. The client of
	// this project sends it.
	MediaExactJSON   = "application/json; null=exact"
	MediaNDJSON      = "application/x-ndjson"
	MediaProblem     = "application/problem+json"
	MediaEventStream = "text/event-stream"
)

// Route is one row of the interface.
type Route struct {
	// ID is stable, such as "create-task". It is the operationId in OpenAPI.
	ID     string
	Method string
	// Path after the prefix, with {names} for variable parts.
	Path    string
	Tag     string
	Summary string
}

// URL returns the path with its {names} replaced by args in order.
func (r Route) URL(args ...string) string {
	if len(args) == 0 {
		return r.Path
	}
	var b strings.Builder
	rest := r.Path
	for _, a := range args {
		before, after, ok := strings.Cut(rest, "{")
		if !ok {
			break
		}
		b.WriteString(before)
		b.WriteString(url.PathEscape(a))
		_, rest, _ = strings.Cut(after, "}")
	}
	return b.String() + rest
}

// The routes.
var (
	ListNamespaces = Route{"list-namespaces", http.MethodGet, "/namespace", "namespace", "List the namespaces"}

	ListQueues    = Route{"list-queues", http.MethodGet, "/queue", "queue", "List the queues"}
	CreateQueue   = Route{"create-queue", http.MethodPost, "/queue", "queue", "Create a queue"}
	GetQueue      = Route{"get-queue", http.MethodGet, "/queue/{name}", "queue", "Get a queue"}
	UpdateQueue   = Route{"update-queue", http.MethodPatch, "/queue/{name}", "queue", "Change the fields of a queue that the body has"}
	DeleteQueue   = Route{"delete-queue", http.MethodDelete, "/queue/{name}", "queue", "Delete a queue and its tasks"}
	PauseQueue    = Route{"pause-queue", http.MethodPost, "/queue/{name}/pause", "queue", "Pause a queue: nothing is retained from it"}
	ResumeQueue   = Route{"resume-queue", http.MethodPost, "/queue/{name}/resume", "queue", "Resume a paused queue"}
	CleanQueue    = Route{"clean-queue", http.MethodPost, "/queue/{name}/clean", "queue", "Delete the finished tasks of a queue now"}
	GetQueueStats = Route{"get-queue-stats", http.MethodGet, "/queue/{name}/stats", "queue", "Get the statistics of a queue"}
	ListStats     = Route{"list-queue-stats", http.MethodGet, "/stats", "queue", "Get the statistics of every queue"}

	ListTasks      = Route{"list-tasks", http.MethodGet, "/task", "task", "List tasks, newest first"}
	CreateTask     = Route{"create-task", http.MethodPost, "/task", "task", "Create a task"}
	CreateTasks    = Route{"create-tasks", http.MethodPost, "/task/batch", "task", "Create many tasks, all or none"}
	RetainAny      = Route{"retain-tasks", http.MethodPut, "/task", "task", "Retain from any queue, or from several"}
	RetainFrom     = Route{"retain-tasks-from-queue", http.MethodPut, "/task/{queue}", "task", "Retain from one queue"}
	GetTask        = Route{"get-task", http.MethodGet, "/task/{id}", "task", "Get a task with its errors"}
	ReleaseTask    = Route{"release-task", http.MethodPatch, "/task/{id}", "task", "Release a task: success or failure"}
	ReleaseTasks   = Route{"release-tasks", http.MethodPatch, "/task", "task", "Release many tasks, each answered by itself"}
	HeartbeatTask  = Route{"heartbeat-task", http.MethodPost, "/task/{id}/heartbeat", "task", "Extend the lease of a task"}
	HeartbeatTasks = Route{"heartbeat-tasks", http.MethodPost, "/task/heartbeat", "task", "Extend many leases, each answered by itself"}
	SnoozeTask     = Route{"snooze-task", http.MethodPost, "/task/{id}/snooze", "task", "Give a task back, to be available after a delay"}
	HandBackTask   = Route{"handback-task", http.MethodPost, "/task/{id}/handback", "task", "Give a task back unstarted"}
	CancelTask     = Route{"cancel-task", http.MethodPost, "/task/{id}/cancel", "task", "Cancel a task, or ask its holder to stop"}
	RetryTask      = Route{"retry-task", http.MethodPost, "/task/{id}/retry", "task", "Make a finished task new again"}
	DeleteTask     = Route{"delete-task", http.MethodDelete, "/task/{id}", "task", "Delete a task that is not retained"}
	CancelTasks    = Route{"cancel-tasks", http.MethodPost, "/task/cancel", "task", "Cancel tasks by ids or filter"}
	RetryTasks     = Route{"retry-tasks", http.MethodPost, "/task/retry", "task", "Retry finished tasks by ids or filter"}
	DeleteTasks    = Route{"delete-tasks", http.MethodPost, "/task/delete", "task", "Delete tasks by ids or filter"}
	AwaitTask      = Route{"await-task", http.MethodGet, "/task/{id}/result", "task", "Await the end of a task"}

	ListTickers   = Route{"list-tickers", http.MethodGet, "/ticker", "ticker", "List the tickers, or stream their ticks"}
	CreateTicker  = Route{"create-ticker", http.MethodPost, "/ticker", "ticker", "Create a ticker"}
	NextTicker    = Route{"next-ticker", http.MethodGet, "/ticker/next", "ticker", "Stream the ticks of tickers without a queue"}
	AckTick       = Route{"ack-tick", http.MethodPost, "/ticker/ack", "ticker", "Settle a tick of a stream opened with ack=true"}
	GetTicker     = Route{"get-ticker", http.MethodGet, "/ticker/{name}", "ticker", "Get a ticker"}
	UpdateTicker  = Route{"update-ticker", http.MethodPatch, "/ticker/{name}", "ticker", "Change the fields of a ticker that the body has"}
	DeleteTicker  = Route{"delete-ticker", http.MethodDelete, "/ticker/{name}", "ticker", "Delete a ticker"}
	PreviewTicker = Route{"preview-ticker", http.MethodGet, "/ticker/{name}/preview", "ticker", "List the next times of a ticker"}
	RunTicker     = Route{"run-ticker", http.MethodPost, "/ticker/{name}/run", "ticker", "Fire a ticker now, beside its schedule"}
	ListTicks     = Route{"list-ticks", http.MethodGet, "/ticker/{name}/ticks", "ticker", "List the last ticks of a ticker, newest first"}

	ListEvents  = Route{"list-events", http.MethodGet, "/event", "event", "Stream the events of tasks, or list a page of them"}
	ListWorkers = Route{"list-workers", http.MethodGet, "/worker", "worker", "List the workers that hold tasks, since when"}
	Metrics     = Route{"metrics", http.MethodGet, "/metrics", "metrics", "Metrics for Prometheus"}
)

// Routes lists every route in the order of the documentation.
func Routes() []Route {
	return []Route{
		ListNamespaces,
		ListQueues, CreateQueue, GetQueue, UpdateQueue, DeleteQueue, PauseQueue, ResumeQueue, CleanQueue, GetQueueStats, ListStats,
		ListTasks, CreateTask, CreateTasks, RetainAny, RetainFrom, GetTask, ReleaseTask, ReleaseTasks, HeartbeatTask, HeartbeatTasks,
		SnoozeTask, HandBackTask, CancelTask, RetryTask, DeleteTask, CancelTasks, RetryTasks, DeleteTasks, AwaitTask,
		ListTickers, CreateTicker, NextTicker, AckTick, GetTicker, UpdateTicker, DeleteTicker, PreviewTicker, RunTicker, ListTicks,
		ListEvents, ListWorkers, Metrics,
	}
}
