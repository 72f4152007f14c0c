package restserver

import (
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// registerExplanations binds the operations that explain to their routes.
func (s *Server) registerExplanations() {
	registerOperation(s, operation{Route: restapi.ExplainTask}, explainTask)
	registerOperation(s, operation{Route: restapi.ExplainQueue}, explainQueue)
	registerOperation(s, operation{Route: restapi.GetQueueHistory}, getQueueHistory)
	registerOperation(s, operation{
		Route: restapi.ListFailures,
		text:  "It reads the newest 10,000 failed tasks. The ids of a group select its tasks for a retry.",
	}, listFailures)
}

func explainTask(c *call, in *input.Task) (*output[restapi.Explanation], error) {
	e, err := c.svc.ExplainTask(c.requestContext(), in.ID.Value)
	return outputOf(restapi.ExplanationOf, e, err)
}

func explainQueue(c *call, in *input.Named) (*output[restapi.Explanation], error) {
	e, err := c.svc.ExplainQueue(c.requestContext(), string(in.Name))
	return outputOf(restapi.ExplanationOf, e, err)
}
