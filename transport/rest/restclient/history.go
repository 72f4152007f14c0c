package restclient

import (
	"context"
	"net/url"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// QueueHistory returns what happened in a queue, by minutes or hours, the oldest point first.
func (c *Client) QueueHistory(ctx context.Context, name string, q queue.HistoryQuery) (*queue.QueueHistory, error) {
	v := url.Values{}
	setTextValue(v, "step", string(q.Step))
	setTimeValue(v, "after", q.After)
	setTimeValue(v, "before", q.Before)
	r := queueRequest(restapi.GetQueueHistory, name)
	r.query = v
	return fetch[restapi.QueueHistory](ctx, c, r)
}
