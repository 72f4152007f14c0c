package restserver

import (
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// operation is one route with what it takes, gives and does.
type operation struct {
	restapi.Route
	do func(*call) error
	// params names what the route takes beside its path, in the words of the table in params.go.
	params []string
	// body is a value of the type of the request's body; nil = none.
	body any
	// many says that the body is an array, or NDJSON, of it.
	many bool
	// optional says that the body may be missing.
	optional bool
	// creates says that the route makes something, and a repeat would make it again.
	creates bool
	// status and reply of a success; nil = no body.
	status int
	reply  any
	// also are further answers.
	also map[int]any
	// media of the reply; nil = JSON.
	media []string
	// text says more than the summary.
	text string
}

func (s *Server) operations() []operation {
	const ok, created, none = http.StatusOK, http.StatusCreated, http.StatusNoContent
	var (
		paged    = []string{"offset", "limit", "cursor"}
		match    = []string{"If-Match"}
		known    = []string{"If-None-Match"}
		held     = []string{"worker", "wait", "lease", "limit", "max_bytes", "max_task_bytes", "request_id"}
		filter   = []string{"queue", "status", "worker", "created_after", "created_before", "offset", "limit", "cursor"}
		events   = []string{"queue", "task", "kind", "status", "worker", "cursor", "limit", "Last-Event-ID"}
		task     = restapi.Task{}
		tasks    = restapi.List[restapi.Task]{}
		oneOrAll = "Without limit the answer is one task, or 404 when none is available; with limit a list, empty when none is."
	)
	return []operation{
		{Route: restapi.ListNamespaces, do: listNamespaces, params: paged[:2], status: ok, reply: restapi.List[string]{}},

		{Route: restapi.ListQueues, do: listQueues, params: paged, status: ok, reply: restapi.List[restapi.Queue]{}},
		{Route: restapi.CreateQueue, do: createQueue, creates: true, body: restapi.QueueMeta{}, status: created, reply: restapi.Queue{}},
		{Route: restapi.GetQueue, do: getQueue, params: known, status: ok, reply: restapi.Queue{}},
		{Route: restapi.UpdateQueue, do: updateQueue, params: match, body: restapi.QueueMeta{}, status: ok, reply: restapi.Queue{}},
		{Route: restapi.DeleteQueue, do: deleteQueue, params: match, status: ok, reply: restapi.Queue{}, text: "Answers with the queue as it was."},
		{Route: restapi.PauseQueue, do: pauseQueue, params: match, status: ok, reply: restapi.Queue{}},
		{Route: restapi.ResumeQueue, do: resumeQueue, params: match, status: ok, reply: restapi.Queue{}},
		{
			Route: restapi.CleanQueue, do: cleanQueue, params: []string{"within", "If-Match"}, status: ok, reply: restapi.Count{},
			text: "Works for some seconds at most; with more in the answer repeat the call.",
		},
		{Route: restapi.GetQueueStats, do: getQueueStats, status: ok, reply: restapi.QueueStats{}},
		{Route: restapi.ListStats, do: listStats, status: ok, reply: restapi.List[restapi.QueueStats]{}},

		{Route: restapi.ListTasks, do: listTasks, params: append(slices.Clip(filter), "order"), status: ok, reply: tasks, text: "The count is of all tasks that match, the body is this page. A page ends early when it reaches 3 MiB; only the absence of next tells the end."},
		{
			Route: restapi.CreateTask, do: createTask, creates: true, params: []string{restapi.HeaderKey}, body: restapi.NewTask{}, status: created, reply: task,
			also: map[int]any{ok: task}, text: "With a key that a task of the queue has, the answer is that task, 200 and Idempotency-Replayed: true.",
		},
		{
			Route: restapi.CreateTasks, do: createTasks, creates: true, params: []string{restapi.HeaderKey}, body: restapi.NewTask{}, many: true, status: created, reply: tasks,
			also: map[int]any{ok: tasks}, text: "With Idempotency-Key the task at index i has the key KEY/i; a repeat is answered with the same tasks, 200 and Idempotency-Replayed: true.",
		},
		{Route: restapi.RetainAny, do: retain, params: append([]string{"queues"}, held...), status: ok, reply: task, also: map[int]any{ok: tasks}, text: oneOrAll},
		{Route: restapi.RetainFrom, do: retain, params: held, status: ok, reply: task, also: map[int]any{ok: tasks}, text: oneOrAll},
		{Route: restapi.GetTask, do: getTask, status: ok, reply: task},
		{Route: restapi.ReleaseTask, do: releaseTask, body: restapi.Release{}, status: ok, reply: task},
		{Route: restapi.ReleaseTasks, do: releaseTasks, body: restapi.Release{}, many: true, status: ok, reply: restapi.List[restapi.Released]{}},
		{Route: restapi.HeartbeatTask, do: heartbeatTask, body: restapi.Heartbeat{}, status: ok, reply: restapi.Beat{}},
		{Route: restapi.HeartbeatTasks, do: heartbeatTasks, body: restapi.Heartbeat{}, many: true, status: ok, reply: restapi.List[restapi.Beat]{}},
		{Route: restapi.SnoozeTask, do: snoozeTask, body: restapi.Snooze{}, status: ok, reply: task},
		{Route: restapi.HandBackTask, do: handBackTask, body: restapi.HandBack{}, optional: true, status: ok, reply: task},
		{Route: restapi.CancelTask, do: cancelTask, status: ok, reply: task},
		{Route: restapi.RetryTask, do: retryTask, status: ok, reply: task},
		{Route: restapi.DeleteTask, do: deleteTask, status: none},
		{Route: restapi.CancelTasks, do: cancelTasks, body: restapi.Selection{}, status: ok, reply: restapi.Bulk{}},
		{Route: restapi.RetryTasks, do: retryTasks, body: restapi.Selection{}, status: ok, reply: restapi.Bulk{}},
		{Route: restapi.DeleteTasks, do: deleteTasks, body: restapi.Selection{}, status: ok, reply: restapi.Bulk{}},
		{Route: restapi.AwaitTask, do: awaitTask, params: []string{"wait"}, status: ok, reply: task, text: "Answers as soon as the task is finished, or with the task as it is when wait is over."},

		{
			Route: restapi.ListTickers, do: listTickers, params: append([]string{"ack"}, paged...), status: ok, reply: restapi.List[restapi.Ticker]{},
			text: "With Accept: text/event-stream it is the stream of /ticker/next.",
		},
		{Route: restapi.CreateTicker, do: createTicker, creates: true, body: restapi.TickerMeta{}, status: created, reply: restapi.Ticker{}},
		{
			Route: restapi.NextTicker, do: nextTicker, params: []string{"ack"}, status: ok, reply: restapi.Tick{}, media: []string{restapi.MediaEventStream},
			text: "Server-sent events named ticker, with the tick's id; a tick goes to exactly one stream. A stream that ends by the server has a last event named error. With ack=true the first event is named stream, and each tick must be settled with POST /ticker/ack before the next one comes.",
		},
		{Route: restapi.AckTick, do: ackTick, body: restapi.Ack{}, status: none},
		{Route: restapi.GetTicker, do: getTicker, params: known, status: ok, reply: restapi.Ticker{}},
		{Route: restapi.UpdateTicker, do: updateTicker, params: match, body: restapi.TickerMeta{}, status: ok, reply: restapi.Ticker{}},
		{Route: restapi.DeleteTicker, do: deleteTicker, params: match, status: ok, reply: restapi.Ticker{}, text: "Answers with the ticker as it was."},
		{Route: restapi.PreviewTicker, do: previewTicker, params: []string{"n"}, status: ok, reply: restapi.List[time.Time]{}},
		{Route: restapi.RunTicker, do: runTicker, creates: true, params: match, status: ok, reply: restapi.Tick{}},
		{Route: restapi.ListTicks, do: listTicks, params: []string{"limit"}, status: ok, reply: restapi.List[restapi.Tick]{}},

		{
			Route: restapi.ListEvents, do: listEvents, params: events, status: ok, reply: restapi.Event{}, media: []string{restapi.MediaEventStream},
			text: "Server-sent events named task, with the cursor as id; Last-Event-ID resumes without gaps. A reader that is too slow gets a last event named error. With Accept: application/json the answer is a page of the feed (from the oldest kept event, or behind cursor).",
		},
		{Route: restapi.ListWorkers, do: listWorkers, status: ok, reply: restapi.List[restapi.Worker]{}},
		{Route: restapi.Metrics, do: metrics, status: ok, reply: "", media: []string{"text/plain"}},
	}
}

// register puts every route, the probes and the documentation on the mux.
func (s *Server) register() {
	table := params()
	for _, op := range s.operations() {
		doc := s.document(op)
		accepts := acceptedBy(op, table)
		s.api.OpenAPI().AddOperation(doc)
		s.api.Adapter().Handle(doc, func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			c := &call{Server: s, w: w, r: r}
			err := accepts.checkHeaders(r)
			if err == nil {
				c.values, err = accepts.checkQuery(r.URL.RawQuery)
			}
			if err == nil {
				err = c.bind()
			}
			if err == nil {
				err = op.do(c)
			}
			if err != nil {
				c.fail(err)
			}
		})
	}
	s.finishSchemas()
	s.mux.HandleFunc("GET /livez", s.probe(s.cfg.Live))
	s.mux.HandleFunc("GET /readyz", s.probe(s.cfg.Ready))
	s.registerDocs()
	s.mux.HandleFunc("/", s.unmatched)
}
