package restapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
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
	// Op is the operation that the route calls; 0 for the metrics. The names of the route follow from it, unless several
	// routes share the operation.
	Op     queue.Op
	Method string
	// Path after the prefix, with {names} for variable parts.
	Path string
	// ID is stable, such as "create-task". It is the operationId in OpenAPI.
	ID string
	// Tag groups the routes in OpenAPI.
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

// routes lists every route in the order of its declaration below.
var routes []Route

// declareRoute completes r from the table of operations, and lists it.
func declareRoute(r Route) Route {
	if r.ID == "" {
		r.ID = strings.ReplaceAll(r.Op.Label(), "_", "-")
	}
	if r.Summary == "" {
		r.Summary = r.Op.Operation().Summary
	}
	if r.Tag == "" {
		r.Tag, _, _ = strings.Cut(r.Path[1:], "/")
	}

	routes = append(routes, r)
	return r
}

// routeOf declares the route of an operation.
func routeOf(op queue.Op, method, path string) Route {
	return declareRoute(Route{Op: op, Method: method, Path: path})
}

// routeNamed declares a route with names of its own: one of several of an operation, or one that does more.
func routeNamed(op queue.Op, method, path, id, summary string) Route {
	return declareRoute(Route{Op: op, Method: method, Path: path, ID: id, Summary: summary})
}

// The routes.
var (
	ListNamespaces = routeOf(queue.OpListNamespaces, http.MethodGet, "/namespace")

	ListQueues      = routeOf(queue.OpListQueues, http.MethodGet, "/queue")
	CreateQueue     = routeOf(queue.OpCreateQueue, http.MethodPost, "/queue")
	GetQueue        = routeOf(queue.OpGetQueue, http.MethodGet, "/queue/{name}")
	UpdateQueue     = routeOf(queue.OpUpdateQueue, http.MethodPatch, "/queue/{name}")
	DeleteQueue     = routeOf(queue.OpDeleteQueue, http.MethodDelete, "/queue/{name}")
	PauseQueue      = routeNamed(queue.OpUpdateQueue, http.MethodPost, "/queue/{name}/pause", "pause-queue", "Pause a queue: nothing is retained from it")
	ResumeQueue     = routeNamed(queue.OpUpdateQueue, http.MethodPost, "/queue/{name}/resume", "resume-queue", "Resume a paused queue")
	CleanQueue      = routeOf(queue.OpCleanQueue, http.MethodPost, "/queue/{name}/clean")
	GetQueueStats   = routeNamed(queue.OpQueueStats, http.MethodGet, "/queue/{name}/stats", "get-queue-stats", "Get the statistics of a queue")
	ScaleQueue      = routeNamed(queue.OpQueueStats, http.MethodGet, "/queue/{name}/scale", "scale-queue", "Get the number of slots that queues have work for, for an autoscaler")
	GetQueueHistory = routeNamed(queue.OpQueueHistory, http.MethodGet, "/queue/{name}/history", "get-queue-history", "Get the history of a queue, by minutes of the last day or hours of the last 30 days")
	ListFailures    = routeOf(queue.OpListFailures, http.MethodGet, "/queue/{name}/failure")
	ListGroups      = routeOf(queue.OpListGroups, http.MethodGet, "/queue/{name}/group")
	UpdateGroup     = routeOf(queue.OpUpdateGroup, http.MethodPatch, "/queue/{name}/group/{group}")
	UnblockGroup    = routeOf(queue.OpUnblockGroup, http.MethodPost, "/queue/{name}/group/{group}/unblock")
	ExplainQueue    = routeOf(queue.OpExplainQueue, http.MethodGet, "/queue/{name}/why")
	ListStats       = declareRoute(Route{
		Op: queue.OpListQueueStatuses, Method: http.MethodGet, Path: "/stats",
		ID: "list-queue-stats", Tag: "queue", Summary: "Get the statistics of every queue, or stream their changes",
	})

	ListTasks      = routeOf(queue.OpListTasks, http.MethodGet, "/task")
	CreateTask     = routeOf(queue.OpCreateTask, http.MethodPost, "/task")
	CreateTasks    = routeOf(queue.OpCreateTasks, http.MethodPost, "/task/batch")
	RetainAny      = routeNamed(queue.OpRetainTasks, http.MethodPut, "/task", "", "Retain from any queue, or from several")
	RetainFrom     = routeNamed(queue.OpRetainTasks, http.MethodPut, "/task/{queue}", "retain-tasks-from-queue", "Retain from one queue")
	GetTask        = routeOf(queue.OpGetTask, http.MethodGet, "/task/{id}")
	ReleaseTask    = routeNamed(queue.OpReleaseTasks, http.MethodPatch, "/task/{id}", "release-task", "Release a task: success or failure")
	ReleaseTasks   = routeOf(queue.OpReleaseTasks, http.MethodPatch, "/task")
	HeartbeatTask  = routeNamed(queue.OpHeartbeatTasks, http.MethodPost, "/task/{id}/heartbeat", "heartbeat-task", "Extend the lease of a task")
	HeartbeatTasks = routeOf(queue.OpHeartbeatTasks, http.MethodPost, "/task/heartbeat")
	SnoozeTask     = routeNamed(queue.OpReleaseTasks, http.MethodPost, "/task/{id}/snooze", "snooze-task", "Give a task back, to be available after a delay")
	HandBackTask   = routeNamed(queue.OpReleaseTasks, http.MethodPost, "/task/{id}/handback", "handback-task", "Give a task back unstarted")
	CancelTask     = routeNamed(queue.OpCancelTasks, http.MethodPost, "/task/{id}/cancel", "cancel-task", "Cancel a task, or ask its holder to stop")
	RetryTask      = routeNamed(queue.OpRetryTasks, http.MethodPost, "/task/{id}/retry", "retry-task", "Make a finished task new again")
	DeleteTask     = routeNamed(queue.OpDeleteTasks, http.MethodDelete, "/task/{id}", "delete-task", "Delete a task that is not retained")
	CancelTasks    = routeOf(queue.OpCancelTasks, http.MethodPost, "/task/cancel")
	RetryTasks     = routeOf(queue.OpRetryTasks, http.MethodPost, "/task/retry")
	DeleteTasks    = routeOf(queue.OpDeleteTasks, http.MethodPost, "/task/delete")
	ExplainTask    = routeOf(queue.OpExplainTask, http.MethodGet, "/task/{id}/why")
	AwaitTask      = routeOf(queue.OpAwaitTask, http.MethodGet, "/task/{id}/result")

	ListTickers   = routeNamed(queue.OpListTickers, http.MethodGet, "/ticker", "", "List the tickers, or stream their ticks")
	CreateTicker  = routeOf(queue.OpCreateTicker, http.MethodPost, "/ticker")
	NextTicker    = routeNamed(queue.OpRunTickerLoop, http.MethodGet, "/ticker/next", "next-ticker", "Stream the ticks of tickers without a queue")
	UpcomingTicks = routeOf(queue.OpUpcomingTicks, http.MethodGet, "/ticker/upcoming")
	AckTick       = routeNamed(queue.OpRunTickerLoop, http.MethodPost, "/ticker/ack", "ack-tick", "Settle a tick of a stream opened with ack=true")
	GetTicker     = routeOf(queue.OpGetTicker, http.MethodGet, "/ticker/{name}")
	UpdateTicker  = routeOf(queue.OpUpdateTicker, http.MethodPatch, "/ticker/{name}")
	DeleteTicker  = routeOf(queue.OpDeleteTicker, http.MethodDelete, "/ticker/{name}")
	PreviewTicker = routeOf(queue.OpPreviewTicker, http.MethodGet, "/ticker/{name}/preview")
	RunTicker     = routeOf(queue.OpRunTicker, http.MethodPost, "/ticker/{name}/run")
	ListTicks     = routeOf(queue.OpListTicks, http.MethodGet, "/ticker/{name}/ticks")

	ListEvents  = routeNamed(queue.OpListEvents, http.MethodGet, "/event", "", "Stream the events of tasks, or list a page of them")
	ListWorkers = routeOf(queue.OpListWorkers, http.MethodGet, "/worker")

	ListTokens  = routeOf(queue.OpListTokens, http.MethodGet, "/token")
	CreateToken = routeOf(queue.OpCreateToken, http.MethodPost, "/token")
	RotateToken = routeOf(queue.OpRotateToken, http.MethodPost, "/token/{id}/rotate")
	RevokeToken = routeOf(queue.OpRevokeToken, http.MethodDelete, "/token/{id}")
	ListAudit   = routeOf(queue.OpListAudit, http.MethodGet, "/audit")
	WhoAmI      = declareRoute(Route{Op: queue.OpWhoAmI, Method: http.MethodGet, Path: "/whoami", ID: "whoami", Tag: "token"})
	Can         = declareRoute(Route{Op: queue.OpCan, Method: http.MethodGet, Path: "/can", Tag: "token"})

	ListSessions = routeOf(queue.OpListSessions, http.MethodGet, "/session")
	OpenSession  = routeOf(queue.OpOpenSession, http.MethodPost, "/session")
	SignOut      = routeOf(queue.OpSignOut, http.MethodDelete, "/session")
	EndSession   = routeOf(queue.OpEndSession, http.MethodDelete, "/session/{id}")
	CreateCode   = routeOf(queue.OpCreateCode, http.MethodPost, "/session/code")

	Diagnose = declareRoute(Route{Op: queue.OpDiagnose, Method: http.MethodGet, Path: "/doctor", ID: "doctor", Tag: "system"})

	ListCells = declareRoute(Route{Op: queue.OpListCells, Method: http.MethodGet, Path: "/cell", ID: "listCells", Tag: "system"})

	Metrics = routeNamed(0, http.MethodGet, "/metrics", "metrics", "Metrics for Prometheus")
)

// Routes lists every route in the order of the documentation.
func Routes() []Route { return slices.Clone(routes) }
