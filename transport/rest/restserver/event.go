package restserver

import (
	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type listEventsInput struct {
	Queue  input.Name  `query:"queue" example:"mail" doc:"Only events of this queue"`
	Task   input.ID    `query:"task" example:"1" doc:"Only events of this task"`
	Kind   []string    `query:"kind,explode" enum:"created,retained,released,retry,failed,expired,cancelled,returned,revived,progress,quarantined" example:"created" doc:"Only events of this kind; repeat it for several"`
	Status []string    `query:"status,explode" enum:"new,retry,retained,released,failed,expired,cancelled" example:"new" doc:"Only events that lead to this status; repeat it for several"`
	Worker string      `query:"worker" maxLength:"255" example:"w1" doc:"Only events of this worker, 1 to 255 bytes"`
	Cursor string      `query:"cursor" example:"42" doc:"The cursor of the last event seen"`
	Limit  input.Limit `query:"limit" minimum:"1" maximum:"1000" example:"100" doc:"The most events of a page, 1 to 1000, default 100"`
	LastID string      `header:"Last-Event-ID" example:"42" doc:"The cursor of the last event seen"`
}

// listEvents streams events, unless the client asks for JSON.
func listEvents(c *call, in *listEventsInput) (*huma.StreamResponse, error) {
	filter := queue.EventFilter{
		Queue: string(in.Queue), TaskID: in.Task.Value, Statuses: statusesOf(in.Status), Worker: in.Worker, After: in.Cursor,
	}
	for _, kind := range input.Split(in.Kind) {
		filter.Kinds = append(filter.Kinds, queue.EventKind(kind))
	}
	if in.LastID != "" {
		filter.After = in.LastID
	}
	filter, err := filter.Normalize()
	if err != nil {
		return nil, err
	}

	if c.acceptsMedia(restapi.MediaJSON) && !c.acceptsMedia(restapi.MediaEventStream) {
		return c.listEventPage(filter, queue.Page{Limit: in.Limit.Value})
	}
	return c.streamEvents(filter)
}

func (c *call) listEventPage(filter queue.EventFilter, page queue.Page) (*huma.StreamResponse, error) {
	page, err := page.Normalize()
	if err != nil {
		return nil, err
	}
	events, err := c.svc.ListEvents(c.requestContext(), filter, page.Limit)
	if err := boundRows(c, events.Events, err); err != nil {
		return nil, err
	}
	return streamOutput(func() { c.replyJSON(restapi.EventPageOf(events)) }), nil
}

func (c *call) streamEvents(filter queue.EventFilter) (*huma.StreamResponse, error) {
	from := ""
	if filter.After != "" {
		// A cursor that is too old or malformed gets a plain error, not a stream that ends.
		if _, err := c.svc.ListEvents(c.requestContext(), filter, 1); err != nil {
			return nil, err
		}
	} else if feed, ok := queue.ServiceAs[queue.FeedEnd](c.svc); ok {
		var err error
		if from, err = feed.LastEvent(c.requestContext()); err != nil {
			return nil, err
		}
		filter.After = from
	}
	st, err := c.openStream()
	if err != nil {
		return nil, err
	}

	return streamOutput(func() {
		defer st.closeStream()
		if from != "" {
			// A client without an event yet can resume too.
			if err := st.sendID(from); err != nil {
				return
			}
		}
		st.sendEnd(c.svc.SubscribeEvents(st.ctx, filter, func(e queue.Event) error {
			data := restapi.EventOf(e)
			// The id of the event is the cursor.
			data.Cursor = ""
			return st.sendEvent(restapi.EventTask, e.Cursor, data, false)
		}))
	}), nil
}
