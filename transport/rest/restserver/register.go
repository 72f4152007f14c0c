package restserver

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// operation is one route with all that its input and output structs do not describe.
type operation struct {
	restapi.Route
	// creates is set when the route makes something, and a repeat would make it again.
	creates bool
	// optionalBody is set when the body may be missing.
	optionalBody bool
	// status of a success; 0 = 200 with an output body, else 204.
	status int
	// answers are bodies that the output struct does not describe.
	answers []documentedAnswer
	// text says more than the summary.
	text string
}

// documentedAnswer is an answer with a body of the type of value.
type documentedAnswer struct {
	status int
	media  string
	value  any
}

// registerOperation binds an operation to its route. do gets the input that huma has bound, and its output is the answer.
func registerOperation[In, Out any](s *Server, op operation, do func(*call, *In) (*Out, error)) {
	huma.Register(documenter{s.api, s, op}, huma.Operation{
		OperationID: op.ID, Method: op.Method, Path: op.Path, Tags: []string{op.Tag},
		Summary: op.Summary, Description: op.text, DefaultStatus: op.status,
		Metadata: map[string]any{metadataCreates: op.creates},

		// The domain checks the limits of every value, and names the field at fault.
		SkipValidateParams: true, SkipValidateBody: true,
		// The body has a limit and deadlines of its own, see call.receiveBody.
		MaxBodyBytes: -1, BodyReadTimeout: -1,
	}, func(ctx context.Context, in *In) (*Out, error) {
		c := callFromContext(ctx)
		if c.bodyFault != nil {
			return nil, c.failureOf(c.bodyFault)
		}
		out, err := do(c, in)
		if err != nil {
			return nil, c.failureOf(err)
		}
		return out, nil
	})
}

// adapter puts operations on the server's mux. It is humago's but for the rules that hold for every route, which a
// request passes before huma sees it.
type adapter struct{ *Server }

// Handle implements huma.Adapter.
func (a adapter) Handle(op *huma.Operation, handle func(huma.Context)) {
	accepts, limit := acceptedBy(op), a.cfg.MaxBodyBytes
	if op.RequestBody != nil && op.RequestBody.Content[restapi.MediaJSON].Schema.Type == huma.TypeArray {
		limit = a.cfg.MaxBatchBytes
	}

	a.mux.HandleFunc(op.Method+" "+a.cfg.Prefix+op.Path, func(w http.ResponseWriter, r *http.Request) {
		c := &call{humaContext: humago.NewContext(op, r, w), Server: a.Server, w: w, r: r, bodyLimit: limit}
		defer c.runCleanups()
		if err := c.acceptRequest(accepts); err != nil {
			c.replyFailure(err)
			return
		}
		handle(c)
		c.writeHeader() // of an answer without a body
	})
}

// acceptRequest applies the rules that hold for every route.
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
