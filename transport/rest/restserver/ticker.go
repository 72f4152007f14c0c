package restserver

import (
	"cmp"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	listTickersInput struct {
		input.TickStream
		input.Page
	}
	getTickerInput struct {
		input.Named
		input.IfNoneMatch
	}
	updateTickerInput struct {
		input.Named
		input.IfMatch
		Body input.Body[restapi.TickerMeta, queue.TickerMeta]
	}
	previewTickerInput struct {
		input.Named
		Count input.Limit `query:"n" minimum:"1" maximum:"1000" example:"10" doc:"How many times, default 10"`
	}
	upcomingTicksInput struct {
		Until input.Instant `query:"until" example:"2026-01-03T15:04:05Z" doc:"The end of the time; a day from now is the default"`
		Limit input.Limit   `query:"limit" minimum:"1" maximum:"1000" example:"100" doc:"The most fires, 1 to 1000, default 100"`

		PerTicker input.Limit `query:"per_ticker" minimum:"1" maximum:"1000" example:"12" doc:"The most fires of one ticker; no limit is the default"`
	}
	listTicksInput struct {
		input.Named
		Limit input.Limit `query:"limit" minimum:"1" maximum:"1000" example:"100" doc:"The most ticks, 1 to 1000, default 100"`
	}
)

// registerTickers binds the operations of tickers to their routes.
func (s *Server) registerTickers() {
	ticks := documentedAnswer{http.StatusOK, restapi.MediaEventStream, restapi.Tick{}}

	registerOperation(s, operation{
		Route: restapi.ListTickers, status: http.StatusOK,
		answers: []documentedAnswer{{http.StatusOK, restapi.MediaJSON, restapi.List[restapi.Ticker]{}}, ticks},
		text:    "With Accept: text/event-stream it is the stream of /ticker/next.",
	}, listTickers)

	registerOperation(s, operation{Route: restapi.CreateTicker, creates: true, status: http.StatusCreated}, createTicker)
	registerOperation(s, operation{
		Route: restapi.NextTicker, status: http.StatusOK, answers: []documentedAnswer{ticks},
		text: "Server-sent events named ticker, with the tick's id; a tick goes to exactly one stream. A stream that ends by the server has a last event named error. " +
			"With ack=true the first event is named stream, and each tick must be settled with POST /ticker/ack before the next one comes.",
	}, nextTicker)

	registerOperation(s, operation{
		Route: restapi.AckTick,
		allow: func(c *call) error { return c.authorize(queue.ActionTickerListen, c.svc.Namespace()) },
	}, ackTick)
	registerOperation(s, operation{Route: restapi.GetTicker}, getTicker)
	registerOperation(s, operation{Route: restapi.UpdateTicker}, updateTicker)
	registerOperation(s, operation{Route: restapi.DeleteTicker, text: "Answers with the ticker as it was."}, deleteTicker)
	registerOperation(s, operation{Route: restapi.PreviewTicker}, previewTicker)
	registerOperation(s, operation{Route: restapi.UpcomingTicks, text: "Paused tickers have none."}, upcomingTicks)
	registerOperation(s, operation{Route: restapi.RunTicker, creates: true}, runTicker)
	registerOperation(s, operation{Route: restapi.ListTicks}, listTicks)
}

// listTickers lists tickers. It is also the ticker stream of the predecessor.
func listTickers(c *call, in *listTickersInput) (*huma.StreamResponse, error) {
	if c.acceptsMedia(restapi.MediaEventStream) {
		return nextTicker(c, &in.TickStream)
	}
	p, err := c.svc.ListTickers(c.requestContext(), in.Domain())
	if err != nil {
		return nil, err
	}
	if err := c.boundRead(queue.TickerBytes(p.Tickers)); err != nil {
		return nil, err
	}
	list := restapi.List[restapi.Ticker]{Count: p.Count, Body: restapi.Each(p.Tickers, restapi.TickerOf), Next: p.Next}
	return streamOutput(func() { c.replyJSON(list) }), nil
}

// boundTicker takes the bytes of the ticker of a change from the budget for large answers. Where they do not become free in time
// it returns the ticker without its payload, because the change is done. nil stays nil.
func (c *call) boundTicker(t *queue.Ticker) *queue.Ticker {
	if t == nil {
		return nil
	}
	answer := *t
	c.afterAnswer(c.cfg.Large.TakePayload(c.requestContext(), &answer.Payload))
	return &answer
}

func createTicker(c *call, in *input.With[restapi.TickerMeta, queue.TickerMeta]) (*versioned[restapi.Ticker], error) {
	t, err := c.svc.CreateTicker(c.requestContext(), in.Body.Value)
	return tickerOutput(http.StatusCreated, c.boundTicker(t), err)
}

func getTicker(c *call, in *getTickerInput) (*versioned[restapi.Ticker], error) {
	t, err := c.svc.GetTicker(c.requestContext(), string(in.Name))
	if err == nil && in.Has(t.Version) {
		return tickerOutput(http.StatusNotModified, t, nil)
	}
	if err == nil {
		err = c.boundRead(t.Bytes())
	}
	return tickerOutput(http.StatusOK, t, err)
}

func updateTicker(c *call, in *updateTickerInput) (*versioned[restapi.Ticker], error) {
	meta, name := in.Body.Value, string(in.Name)
	if err := refuseRename("ticker", meta.Name, name, queue.TickerName); err != nil {
		return nil, err
	}

	meta.Name = ""
	meta.IfVersion = int64(in.Version.Value)
	t, err := c.svc.UpdateTicker(c.requestContext(), name, meta)
	return tickerOutput(http.StatusOK, c.boundTicker(t), err)
}

func deleteTicker(c *call, in *matchedInput) (*output[restapi.Ticker], error) {
	t, err := c.svc.DeleteTicker(c.requestContext(), string(in.Name), in.Version.Value)
	return outputOf(restapi.TickerOf, c.boundTicker(t), err)
}

// defaultPreview is the number of fires of a preview without n.
const defaultPreview = 10

func previewTicker(c *call, in *previewTickerInput) (*output[restapi.List[time.Time]], error) {
	n := cmp.Or(in.Count.Value, defaultPreview)
	if err := queue.CheckInt("n", n, 1, queue.MaxPreview); err != nil {
		return nil, err
	}
	times, err := c.svc.PreviewTicker(c.requestContext(), string(in.Name), n)
	return listOutput(time.Time.UTC, times, err)
}

func upcomingTicks(c *call, in *upcomingTicksInput) (*output[restapi.Upcoming], error) {
	u, err := c.svc.UpcomingTicks(c.requestContext(), queue.UpcomingQuery{Until: in.Until.Value, Limit: in.Limit.Value, PerTicker: in.PerTicker.Value})
	return outputOf(restapi.UpcomingOf, u, err)
}

func runTicker(c *call, in *matchedInput) (*output[restapi.Tick], error) {
	t, err := c.svc.RunTicker(c.requestContext(), string(in.Name), in.Version.Value)
	if err != nil {
		return nil, err
	}
	tick := *t
	c.afterAnswer(c.cfg.Large.TakePayload(c.requestContext(), &tick.Payload))
	return outputOf(restapi.TickOf, tick, nil)
}

func listTicks(c *call, in *listTicksInput) (*output[restapi.List[restapi.Tick]], error) {
	page, err := queue.Page{Limit: in.Limit.Value}.Normalize()
	if err != nil {
		return nil, err
	}
	ticks, err := c.svc.ListTicks(c.requestContext(), string(in.Name), page.Limit)
	if err == nil {
		err = c.boundRead(queue.TickBytes(ticks))
	}
	return listOutput(restapi.TickOf, ticks, err)
}
