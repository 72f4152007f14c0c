package restclient

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func eventQuery(f queue.EventFilter) url.Values {
	v := url.Values{}
	setTextValue(v, "queue", f.Queue)
	setTextValue(v, "worker", f.Worker)
	setTextValue(v, "cursor", f.After)
	if f.TaskID != 0 {
		v.Set("task", formatDecimal(f.TaskID))
	}
	for _, k := range f.Kinds {
		v.Add("kind", string(k))
	}
	for _, s := range f.Statuses {
		v.Add("status", string(s))
	}
	return v
}

// ListEvents returns at most limit events of the feed after f.After.
func (c *Client) ListEvents(ctx context.Context, f queue.EventFilter, limit int) (queue.EventPage, error) {
	v := eventQuery(f)
	maps.Copy(v, pageQuery(queue.Page{Limit: limit}))
	return fetch[restapi.EventPage](ctx, c, request{route: restapi.ListEvents, query: v})
}

// SubscribeEvents calls handle with each event after f.After as it happens. It opens a broken stream again after the
// last event that handle received, so events are neither lost nor repeated.
func (c *Client) SubscribeEvents(ctx context.Context, f queue.EventFilter, handle func(queue.Event) error) error {
	route := restapi.ListEvents
	route.Op = queue.OpSubscribeEvents
	op := route.Op.String()
	f, err := f.Normalize()
	if err != nil {
		return queue.WithOp(op, err)
	}

	begun := false
	return c.keepStreaming(ctx, func(opened func()) error {
		if begun && f.After == "" {
			// A new stream would begin at the present and leave a gap: the server has sent no cursor to resume from.
			return &queue.Error{Op: op, Kind: queue.KindIndeterminate, Msg: "the stream broke before its first event; events may be missing"}
		}

		q := request{route: route, query: eventQuery(f)}
		return c.openStream(ctx, q, func() { begun = true; opened() }, func(fr frame) error {
			if fr.event == restapi.EventTask {
				var e restapi.Event
				if err := json.Unmarshal(fr.data, &e); err != nil {
					return &queue.Error{Op: op, Kind: queue.KindInternal, Msg: "the server sent an event that is not understood", Err: err}
				}

				// The data omits the cursor.
				e.Cursor = fr.id
				if err := handle(e.Domain()); err != nil {
					return handlerError{err}
				}
			}

			if fr.id != "" {
				f.After = fr.id
			}

			return ctx.Err()
		})
	})
}
