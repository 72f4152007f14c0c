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
	if err := c.boundRead(f.Bytes()); err != nil {
		return nil, err
	}
	return outputOf(restapi.FailuresOf, f, nil)
}
