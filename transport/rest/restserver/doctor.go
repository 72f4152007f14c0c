package restserver

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// diagnose examines the store. An examination reads all tasks that wait, so the others wait for their turn.
func diagnose(c *call, _ *struct{}) (*output[restapi.List[restapi.Finding]], error) {
	if c.cfg.Diagnose == nil {
		return nil, &queue.Error{Kind: queue.KindNotFound, Msg: "this server cannot examine its store; use pgqueue doctor with the database"}
	}

	ctx := c.requestContext()
	select {
	case c.examining <- struct{}{}:
		defer func() { <-c.examining }()
	case <-ctx.Done():
		return nil, queue.ContextError(ctx.Err())
	}
	found, err := c.cfg.Diagnose(ctx)
	return listOutput(restapi.FindingOf, found, err)
}
