package restclient

import (
	"context"
	"net/url"
	"strconv"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// ListGroups returns a page of the groups of a queue that are limited or wait.
func (c *Client) ListGroups(ctx context.Context, name string, q queue.GroupQuery) (queue.GroupPage, error) {
	v := url.Values{}
	setTextValue(v, "group", q.Name)
	setTextValue(v, "cursor", q.Cursor)
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	r := queueRequest(restapi.ListGroups, name)
	r.query = v
	groups, list, err := fetchList[restapi.Group](ctx, c, r)
	return queue.GroupPage{Groups: groups, Next: list.Next}, err
}

// UpdateGroup changes the settings of a group that meta sets.
func (c *Client) UpdateGroup(ctx context.Context, name, group string, meta queue.GroupMeta) (*queue.Group, error) {
	r := groupRequest(restapi.UpdateGroup, name, group)
	r.body, r.safe = restapi.GroupMetaOf(meta), true
	return fetch[restapi.Group](ctx, c, r)
}

// UnblockGroup lets a group go on that a failed task holds up.
func (c *Client) UnblockGroup(ctx context.Context, name, group string) (*queue.Group, error) {
	r := groupRequest(restapi.UnblockGroup, name, group)
	r.safe = true
	return fetch[restapi.Group](ctx, c, r)
}
