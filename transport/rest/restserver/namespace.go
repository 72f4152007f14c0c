package restserver

import (
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type listNamespacesInput struct{ input.Window }

func listNamespaces(c *call, in *listNamespacesInput) (*output[restapi.List[string]], error) {
	page, err := in.Domain().Normalize()
	if err != nil {
		return nil, err
	}
	names, err := c.svc.ListNamespaces(c.requestContext())
	return outputOf(func(names []string) restapi.List[string] {
		from, to := min(page.Offset, len(names)), len(names)
		if in.Limit.Value > 0 { // without a limit all: the list has no cursor, so the absence of next marks the end
			to = min(from+page.Limit, len(names))
		}
		return restapi.List[string]{Count: int64(len(names)), Body: names[from:to]}
	}, names, err)
}

func listWorkers(c *call, _ *struct{}) (*output[restapi.List[restapi.Worker]], error) {
	workers, err := c.svc.ListWorkers(c.requestContext())
	return listOutput(restapi.WorkerOf, workers, err)
}
