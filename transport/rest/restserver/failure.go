package restserver

import (
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

func listFailures(c *call, in *input.Named) (*output[restapi.Failures], error) {
	f, err := c.svc.ListFailures(c.requestContext(), string(in.Name))
	if err != nil {
		return nil, err
	}
	give, err := c.cfg.Large.TakeRead(c.requestContext(), f.Bytes())
	if err != nil {
		return nil, err
	}
	c.afterAnswer(give)
	return outputOf(restapi.FailuresOf, f, nil)
}
