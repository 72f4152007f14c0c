package restserver

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type failuresInput struct {
	input.Named
	After  input.Instant `query:"after" example:"2026-01-02T15:04:00Z" doc:"Only tasks that ended later than this"`
	Before input.Instant `query:"before" example:"2026-01-02T16:04:00Z" doc:"Only tasks that ended earlier than this"`
}

func listFailures(c *call, in *failuresInput) (*output[restapi.Failures], error) {
	f, err := c.svc.ListFailures(c.requestContext(), string(in.Name), queue.FailureQuery{After: in.After.Value, Before: in.Before.Value})
	if err != nil {
		return nil, err
	}
	if err := c.boundRead(f.Bytes()); err != nil {
		return nil, err
	}
	return outputOf(restapi.FailuresOf, f, nil)
}
