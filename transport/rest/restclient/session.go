package restclient

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

var _ access.SessionAdmin = (*Client)(nil)

// CreateCode makes a one-time code. It is not repeated after an unknown result.
func (c *Client) CreateCode(ctx context.Context) (access.Code, error) {
	var out restapi.Code
	if err := c.sendRequest(ctx, request{route: restapi.CreateCode}, &out); err != nil {
		return access.Code{}, err
	}
	return out.Domain()
}

// ListSessions lists the live sessions, the newest first.
func (c *Client) ListSessions(ctx context.Context) ([]access.Session, error) {
	sessions, _, err := fetchList[restapi.Session](ctx, c, request{route: restapi.ListSessions})
	return sessions, err
}

// EndSession ends a session.
func (c *Client) EndSession(ctx context.Context, id string) (access.Session, error) {
	return fetch[restapi.Session](ctx, c, request{route: restapi.EndSession, args: []string{id}, safe: true})
}
