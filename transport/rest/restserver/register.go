package restserver

import (
	"context"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// registerRoutes puts every operation, the probes and the documentation on the mux.
func (s *Server) registerRoutes() {
	s.registerQueues()
	s.registerGroups()
	s.registerTasks()
	s.registerExplanations()
	s.registerStats()
	s.registerTickers()
	s.registerTokens()
	s.registerSessions()
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
		Route: restapi.Diagnose,
		allow: func(c *call) error { return c.authorize(queue.ActionSystemRead, "") },
		text:  "It looks at all tasks that wait or are held, each check for 10 seconds at most. One examination runs at a time.",
	}, diagnose)

	registerOperation(s, operation{
		Route: restapi.ListCells,
		allow: func(c *call) error { return c.authorize(queue.ActionSystemRead, "") },
		text:  "Each cell is asked whether it can work. Connection strings are not shown.",
	}, listCells)

	registerOperation(s, operation{
		Route: restapi.Metrics, status: http.StatusOK, answers: []documentedAnswer{{http.StatusOK, "text/plain", ""}},
		allow: func(c *call) error { return c.authorize(queue.ActionSystemRead, "") },
	}, serveMetrics)
	s.finishSchemas()

	s.mux.HandleFunc("GET /livez", s.serveProbe(s.cfg.Live))
	s.mux.HandleFunc("GET /readyz", s.serveProbe(s.cfg.Ready))
	s.registerDocs()
	s.mux.HandleFunc("/", s.serveUnmatched)
}

// operation is one route with the facts that its input and output structs do not describe.
type operation struct {
	restapi.Route
	// creates marks a route that creates an object, so that a repeat would create a second one.
	creates bool
	// optionalBody marks a route that allows a missing body.
	optionalBody bool
	// allow decides first about a request that calls no operation of queue.Service; nil = the service decides alone.
	allow func(*call) error
	// status of a success; 0 = 200 with an output body, and 204 without one.
	status int
	// answers are bodies that the output struct does not describe.
	answers []documentedAnswer
	// text adds to the summary.
	text string
}

// documentedAnswer is an answer with a body of the type of value.
type documentedAnswer struct {
	status int
	media  string
	value  any
}

// registerOperation binds an operation to its route. do gets the bound input, and its output becomes the answer.
func registerOperation[In, Out any](s *Server, op operation, do func(*call, *In) (*Out, error)) {
	body, hasBody := reflect.TypeFor[In]().FieldByName("Body")

	huma.Register(documenter{s.api, s, op}, huma.Operation{
		OperationID: op.ID, Method: op.Method, Path: op.Path, Tags: []string{op.Tag},
		Summary: op.Summary, Description: op.text, DefaultStatus: op.status,
		Metadata: map[string]any{metadataCreates: op.creates},

		// The domain checks the limits of every value and names the wrong field.
		SkipValidateParams: true, SkipValidateBody: true,
		// The body has a limit and deadlines of its own, see call.receiveBody.
		MaxBodyBytes: -1, BodyReadTimeout: -1,
	}, func(ctx context.Context, in *In) (*Out, error) {
		c := callFromContext(ctx)
		err := c.bodyFault
		if err == nil && op.allow != nil {
			err = op.allow(c)
		}
		if err == nil && hasBody {
			err = checkBody(reflect.ValueOf(in).Elem().FieldByIndex(body.Index), op.optionalBody)
		}
		if err != nil {
			return nil, c.failureOf(err)
		}

		out, err := do(c, in)
		if err != nil {
			return nil, c.failureOf(err)
		}
		return out, nil
	})
}

// checkBody checks the field Body of an input struct.
func checkBody(body reflect.Value, optional bool) error {
	checked, ok := reflect.TypeAssert[input.Checked](body.Addr())
	if !ok {
		return fmt.Errorf("restserver: %s is not a body of package input", body.Type())
	}
	return checked.Check(optional)
}

// adapter puts operations on the mux of the server. It is the adapter of humago plus the rules for every route, which
// apply before huma sees a request.
type adapter struct{ *Server }

// Handle implements huma.Adapter.
func (a adapter) Handle(op *huma.Operation, handle func(huma.Context)) {
	accepts, limit := acceptedBy(op), a.cfg.MaxBodyBytes
	if op.RequestBody != nil && op.RequestBody.Content[restapi.MediaJSON].Schema.Type == huma.TypeArray {
		limit = a.cfg.MaxBatchBytes
	}
	if op.OperationID == restapi.OpenSession.ID {
		limit = min(limit, maxSignInBytes)
	}

	a.mux.HandleFunc(op.Method+" "+a.cfg.Prefix+op.Path, func(w http.ResponseWriter, r *http.Request) {
		c := &call{humaContext: humago.NewContext(op, r, w), Server: a.Server, w: w, r: r, bodyLimit: limit}
		defer c.runCleanups()
		defer c.claim.Return()
		if err := c.acceptRequest(accepts); err != nil {
			c.replyFailure(err)
			return
		}
		if op.RequestBody == nil {
			if err := c.refuseBody(); err != nil {
				c.replyFailure(err)
				return
			}
		}
		handle(c)
		// This sends the header of an answer without a body.
		c.writeHeader()
	})
}

// acceptRequest applies the rules for every route.
func (c *call) acceptRequest(accepts accepted) (err error) {
	if err := accepts.checkHeaders(c.r); err != nil {
		return err
	}
	if c.query, err = accepts.parseQuery(c.r.URL.RawQuery); err != nil {
		return err
	}
	return c.bindNamespace()
}

func (c *call) runCleanups() {
	for _, cleanup := range c.cleanups {
		cleanup()
	}
}
