package restserver

import (
	"net/http"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func listWorkers(c *call) error {
	w, err := c.svc.ListWorkers(c.ctx())
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.ListOf(each(w, restapi.WorkerOf)))
}
