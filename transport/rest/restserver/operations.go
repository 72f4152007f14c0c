package restserver

import (
	"net/http"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// registerRoutes puts every operation, the probes and the documentation on the mux.
func (s *Server) registerRoutes() {
	s.registerQueues()
	s.registerTasks()
	s.registerTickers()
	registerOperation(s, operation{Route: restapi.ListNamespaces}, listNamespaces)
	registerOperation(s, operation{Route: restapi.ListWorkers}, listWorkers)
	registerOperation(s, operation{
		Route: restapi.ListEvents, status: http.StatusOK,
		answers: []documentedAnswer{
			{http.StatusOK, restapi.MediaEventStream, restapi.Event{}},
			{http.StatusOK, restapi.MediaJSON, restapi.EventPage{}},
		},
		text: "Server-sent events named task, with the cursor as id; Last-Event-ID resumes without gaps. A reader that is too slow gets a last event named error. " +
			"With Accept: application/json the answer is a page of the feed (from the oldest kept event, or behind cursor).",
	}, listEvents)

	registerOperation(s, operation{
		Route: restapi.Metrics, status: http.StatusOK, answers: []documentedAnswer{{http.StatusOK, "text/plain", ""}},
	}, serveMetrics)
	s.finishSchemas()

	s.mux.HandleFunc("GET /livez", s.serveProbe(s.cfg.Live))
	s.mux.HandleFunc("GET /readyz", s.serveProbe(s.cfg.Ready))
	s.registerDocs()
	s.mux.HandleFunc("/", s.serveUnmatched)
}

func (s *Server) registerQueues() {
	registerOperation(s, operation{Route: restapi.ListQueues}, listQueues)
	registerOperation(s, operation{Route: restapi.CreateQueue, creates: true, status: http.StatusCreated}, createQueue)
	registerOperation(s, operation{Route: restapi.GetQueue}, getQueue)
	registerOperation(s, operation{Route: restapi.UpdateQueue}, updateQueue)
	registerOperation(s, operation{Route: restapi.DeleteQueue, text: "Answers with the queue as it was."}, deleteQueue)
	registerOperation(s, operation{Route: restapi.PauseQueue}, pauseQueue)
	registerOperation(s, operation{Route: restapi.ResumeQueue}, resumeQueue)
	registerOperation(s, operation{
		Route: restapi.CleanQueue,
		text:  "Works for some seconds at most; with more in the answer repeat the call.",
	}, cleanQueue)
	registerOperation(s, operation{Route: restapi.GetQueueStats}, getQueueStats)
	registerOperation(s, operation{Route: restapi.ListStats}, listStats)
}

func (s *Server) registerTasks() {
	task := documentedAnswer{http.StatusOK, restapi.MediaJSON, restapi.Task{}}
	tasks := documentedAnswer{http.StatusOK, restapi.MediaJSON, restapi.List[restapi.Task]{}}
	const oneOrAll = "Without limit the answer is one task, or 404 when none is available; with limit a list, empty when none is."

	registerOperation(s, operation{
		Route: restapi.ListTasks,
		text:  "The count is of all tasks that match, the body is this page. A page ends early when it reaches 3 MiB; only the absence of next marks the end.",
	}, listTasks)
	registerOperation(s, operation{
		Route: restapi.CreateTask, creates: true, status: http.StatusCreated, answers: []documentedAnswer{task},
		text: "With a key that a task of the queue has, the answer is that task, 200 and Idempotency-Replayed: true.",
	}, createTask)
	registerOperation(s, operation{
		Route: restapi.CreateTasks, creates: true, status: http.StatusCreated, answers: []documentedAnswer{tasks},
		text: "With Idempotency-Key the task at index i has the key KEY/i; a repeat is answered with the same tasks, 200 and Idempotency-Replayed: true.",
	}, createTasks)
	registerOperation(s, operation{
		Route: restapi.RetainAny, status: http.StatusOK, answers: []documentedAnswer{task, tasks}, text: oneOrAll,
	}, retainFromAny)
	registerOperation(s, operation{
		Route: restapi.RetainFrom, status: http.StatusOK, answers: []documentedAnswer{task, tasks}, text: oneOrAll,
	}, retainFromQueue)

	registerOperation(s, operation{Route: restapi.GetTask}, getTask)
	registerOperation(s, operation{Route: restapi.ReleaseTask}, releaseTask)
	registerOperation(s, operation{Route: restapi.ReleaseTasks}, releaseTasks)
	registerOperation(s, operation{Route: restapi.HeartbeatTask}, heartbeatTask)
	registerOperation(s, operation{Route: restapi.HeartbeatTasks}, heartbeatTasks)
	registerOperation(s, operation{Route: restapi.SnoozeTask}, snoozeTask)
	registerOperation(s, operation{Route: restapi.HandBackTask, optionalBody: true}, handBackTask)
	registerOperation(s, operation{Route: restapi.CancelTask}, cancelTask)
	registerOperation(s, operation{Route: restapi.RetryTask}, retryTask)
	registerOperation(s, operation{Route: restapi.DeleteTask}, deleteTask)
	registerOperation(s, operation{Route: restapi.CancelTasks}, cancelTasks)
	registerOperation(s, operation{Route: restapi.RetryTasks}, retryTasks)
	registerOperation(s, operation{Route: restapi.DeleteTasks}, deleteTasks)
	registerOperation(s, operation{
		Route: restapi.AwaitTask,
		text:  "Answers as soon as the task is finished, or with the task as it is when wait is over.",
	}, awaitTask)
}

func (s *Server) registerTickers() {
	ticks := documentedAnswer{http.StatusOK, restapi.MediaEventStream, restapi.Tick{}}

	registerOperation(s, operation{
		Route: restapi.ListTickers, status: http.StatusOK,
		answers: []documentedAnswer{{http.StatusOK, restapi.MediaJSON, restapi.List[restapi.Ticker]{}}, ticks},
		text:    "With Accept: text/event-stream it is the stream of /ticker/next.",
	}, listTickers)

	registerOperation(s, operation{Route: restapi.CreateTicker, creates: true, status: http.StatusCreated}, createTicker)
	registerOperation(s, operation{
		Route: restapi.NextTicker, status: http.StatusOK, answers: []documentedAnswer{ticks},
		text: "Server-sent events named ticker, with the tick's id; a tick goes to exactly one stream. A stream that ends by the server has a last event named error. " +
			"With ack=true the first event is named stream, and each tick must be settled with POST /ticker/ack before the next one comes.",
	}, nextTicker)

	registerOperation(s, operation{Route: restapi.AckTick}, ackTick)
	registerOperation(s, operation{Route: restapi.GetTicker}, getTicker)
	registerOperation(s, operation{Route: restapi.UpdateTicker}, updateTicker)
	registerOperation(s, operation{Route: restapi.DeleteTicker, text: "Answers with the ticker as it was."}, deleteTicker)
	registerOperation(s, operation{Route: restapi.PreviewTicker}, previewTicker)
	registerOperation(s, operation{Route: restapi.RunTicker, creates: true}, runTicker)
	registerOperation(s, operation{Route: restapi.ListTicks}, listTicks)
}
