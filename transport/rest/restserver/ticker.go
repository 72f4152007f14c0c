package restserver

import (
	"net/http"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// listTickers is also the predecessor's ticker stream.
func listTickers(c *call) error {
	if c.accepts(restapi.MediaEventStream) {
		return nextTicker(c)
	}
	q := c.query()
	page := q.page()
	if q.err != nil {
		return q.err
	}
	p, err := c.svc.ListTickers(c.ctx(), page)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.List[restapi.Ticker]{Count: p.Count, Body: each(p.Tickers, restapi.TickerOf), Next: p.Next})
}

func createTicker(c *call) error {
	meta, err := input[restapi.TickerMeta](c)
	if err != nil {
		return err
	}
	t, err := c.svc.CreateTicker(c.ctx(), meta)
	return c.ticker(http.StatusCreated, t, err)
}

func getTicker(c *call) error {
	t, err := c.svc.GetTicker(c.ctx(), c.r.PathValue("name"))
	return c.ticker(http.StatusOK, t, err)
}

func updateTicker(c *call) error {
	meta, err := input[restapi.TickerMeta](c)
	if err != nil {
		return err
	}
	name := c.r.PathValue("name")
	if err := sameName("ticker", meta.Name, name, queue.TickerName); err != nil {
		return err
	}
	meta.Name = ""
	if meta.IfVersion, err = c.ifMatch(); err != nil {
		return err
	}
	t, err := c.svc.UpdateTicker(c.ctx(), name, meta)
	return c.ticker(http.StatusOK, t, err)
}

func deleteTicker(c *call) error {
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	t, err := c.svc.DeleteTicker(c.ctx(), c.r.PathValue("name"), queue.IfVersion(version))
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.TickerOf(t))
}

func (c *call) ticker(status int, t *queue.Ticker, err error) error {
	if err != nil {
		return err
	}
	if c.etag(t.Version) {
		return nil
	}
	return c.reply(status, restapi.TickerOf(t))
}

// defaultPreview is how many fires a preview shows when n is not given.
const defaultPreview = 10

func previewTicker(c *call) error {
	q := c.query()
	n := q.int("n")
	switch {
	case q.err != nil:
		return q.err
	case !q.has("n"):
		n = defaultPreview
	}
	if err := queue.CheckInt("n", n, 1, queue.MaxPreview); err != nil {
		return err
	}
	times, err := c.svc.PreviewTicker(c.ctx(), c.r.PathValue("name"), n)
	if err != nil {
		return err
	}
	for i := range times {
		times[i] = times[i].UTC()
	}
	return c.reply(http.StatusOK, restapi.ListOf(times))
}

func runTicker(c *call) error {
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	t, err := c.svc.RunTicker(c.ctx(), c.r.PathValue("name"), queue.IfVersion(version))
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.TickOf(*t))
}

func listTicks(c *call) error {
	q := c.query()
	p := q.page()
	if q.err != nil {
		return q.err
	}
	p, err := p.Normalize()
	if err != nil {
		return err
	}
	ticks, err := c.svc.ListTicks(c.ctx(), c.r.PathValue("name"), p.Limit)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, restapi.ListOf(each(ticks, restapi.TickOf)))
}
