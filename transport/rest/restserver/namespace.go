package restserver

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

func listNamespaces(c *call, in *input.NamePage) (*output[restapi.List[string]], error) {
	names, err := c.svc.ListNamespaces(c.requestContext())
	if err != nil {
		return nil, err
	}
	part, next, err := in.Domain().Names(names)
	if err == nil {
		err = c.boundRead(queue.NameBytes(part))
	}
	return outputOf(func(part []string) restapi.List[string] {
		return restapi.List[string]{Count: int64(len(names)), Body: part, Next: next}
	}, part, err)
}

func listWorkers(c *call, _ *struct{}) (*output[restapi.List[restapi.Worker]], error) {
	workers, err := c.svc.ListWorkers(c.requestContext())
	err = boundRows(c, workers, err)
	return listOutput(restapi.WorkerOf, workers, err)
}
