package restserver

import (
	"net/http"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func listNamespaces(c *call) error {
	q := c.query()
	page, err := q.page().Normalize()
	if q.err != nil {
		return q.err
	}
	if err != nil {
		return err
	}
	names, err := c.svc.ListNamespaces(c.ctx())
	if err != nil {
		return err
	}
	count := len(names)
	from := min(page.Offset, count)
	to := min(from+page.Limit, count)
	return c.reply(http.StatusOK, restapi.List[string]{Count: int64(count), Body: names[from:to]})
}
