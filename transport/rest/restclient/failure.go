package restclient

import (
	"context"
	"net/url"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// ListFailures returns the newest failed tasks of a queue that q selects in groups.
func (c *Client) ListFailures(ctx context.Context, name string, q queue.FailureQuery) (*queue.Failures, error) {
	v := url.Values{}
	setTimeValue(v, "after", q.After)
	setTimeValue(v, "before", q.Before)
	r := queueRequest(restapi.ListFailures, name)
	r.query = v
	return fetch[restapi.Failures](ctx, c, r)
}
