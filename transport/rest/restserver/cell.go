package restserver

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// listCells asks each cell whether it can work.
func listCells(c *call, _ *struct{}) (*output[restapi.List[restapi.Cell]], error) {
	if c.cfg.Cells == nil {
		return nil, &queue.Error{Kind: queue.KindNotFound, Msg: "this server does not know its cells; use pgqueue cells with the database"}
	}
	found, err := c.cfg.Cells(c.requestContext())
	return listOutput(restapi.CellOf, found, err)
}
