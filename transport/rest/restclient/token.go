package restclient

import (
	"context"
	"net/url"
	"strconv"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

var _ access.Admin = (*Client)(nil)

// CreateToken makes a token. It is not repeated after an unknown result, because a repeat would make a second one.
func (c *Client) CreateToken(ctx context.Context, r access.TokenRequest) (access.IssuedToken, error) {
	return c.sendForSecret(ctx, request{route: restapi.CreateToken, body: restapi.TokenRequestOf(r)})
}

// RotateToken makes a token in place of the one with id.
func (c *Client) RotateToken(ctx context.Context, id string, r access.Rotation) (access.IssuedToken, error) {
	return c.sendForSecret(ctx, request{
		route: restapi.RotateToken, args: []string{id}, body: restapi.Rotation{Overlap: restapi.DurationOf(r.Overlap)},
	})
}

func (c *Client) sendForSecret(ctx context.Context, q request) (access.IssuedToken, error) {
	var out restapi.IssuedToken
	if err := c.sendRequest(ctx, q, &out); err != nil {
		return access.IssuedToken{}, err
	}
	return out.Domain()
}

// ListTokens lists the tokens, the newest first.
func (c *Client) ListTokens(ctx context.Context) ([]access.Token, error) {
	tokens, _, err := fetchList[restapi.Token](ctx, c, request{route: restapi.ListTokens})
	return tokens, err
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, id string) (access.Token, error) {
	return fetch[restapi.Token](ctx, c, request{route: restapi.RevokeToken, args: []string{id}, safe: true})
}

// WhoAmI returns the identity that the server sees.
func (c *Client) WhoAmI(ctx context.Context) (access.Identity, error) {
	return fetch[restapi.Identity](ctx, c, request{route: restapi.WhoAmI})
}

// Can reports whether the credential of the client has a right. Without a namespace it asks for that of the client.
func (c *Client) Can(ctx context.Context, q access.Question) (bool, error) {
	asking := *c
	if q.Namespace != "" {
		name, err := queue.NamespaceName(q.Namespace)
		if err != nil {
			return false, queue.WithOp(queue.OpCan.String(), err)
		}
		asking.namespace = name
	}

	query := url.Values{"action": {string(q.Action)}}
	setTextValue(query, "queue", q.Queue)
	var out restapi.Decision
	err := asking.sendRequest(ctx, request{route: restapi.Can, query: query}, &out)
	return out.Allowed, err
}

// ListAudit returns a page of the audit.
func (c *Client) ListAudit(ctx context.Context, f access.AuditFilter) (access.AuditPage, error) {
	query := url.Values{}
	setTextValue(query, "principal", f.Principal)
	setTextValue(query, "action", string(f.Action))
	setTextValue(query, "queue", f.Queue)
	setTextValue(query, "outcome", f.Outcome)
	setTextValue(query, "cursor", f.Cursor)
	setTimeValue(query, "since", f.Since)
	setTimeValue(query, "until", f.Until)
	if f.Limit != 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}

	// The namespace of the client does not filter.
	asking := *c
	asking.namespace = f.Namespace
	var out restapi.AuditPage
	err := asking.sendRequest(ctx, request{route: restapi.ListAudit, query: query}, &out)
	return access.AuditPage{Entries: mapSlice(out.Body, restapi.AuditEntry.Domain), Next: out.Next}, err
}
