package load

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// restCreate creates one task with each request.
func (l *load) restCreate(ctx context.Context) error {
	body := []byte(`{"queue":"` + benchQueue + `","payload":{"to":"a@b.c"}}`)
	return clients(ctx, l, "rest create", l.dial(ctx), func(c *conn, seen *client) bool {
		begin := time.Now()
		status, answer, err := c.do("POST", "/api/task", body)
		seen.took = append(seen.took, time.Since(begin))
		if err == nil && status != http.StatusCreated {
			err = fmt.Errorf("%d: %s", status, answer)
		}
		if err != nil {
			seen.fail(err)
			return status != 0 // a broken connection is useless
		}
		seen.done++
		return true
	})
}

// restPairs retains a task and releases it, with one request each. It ends early when no task is left.
func (l *load) restPairs(ctx context.Context) error {
	if err := l.fill(ctx, l.plan.Tasks); err != nil {
		return err
	}

	return clients(ctx, l, "rest pairs", l.dial(ctx), func(c *conn, seen *client) bool {
		begin := time.Now()
		status, answer, err := c.do("PUT", "/api/task/"+benchQueue+"?worker=w1", nil)
		if err == nil && status == http.StatusNotFound {
			return false // no task is left
		}

		seen.took = append(seen.took, time.Since(begin))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("retain: %d: %s", status, answer)
		}
		if err != nil {
			seen.fail(err)
			return status != 0 // a broken connection is useless
		}

		path := "/api/task/" + strconv.FormatInt(number(answer, "id"), 10)
		body := fmt.Appendf(nil, `{"fail":false,"token":%d}`, number(answer, "token"))

		begin = time.Now()
		status, answer, err = c.do("PATCH", path, body)
		seen.took = append(seen.took, time.Since(begin))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("release: %d: %s", status, answer)
		}

		if err != nil {
			seen.fail(err)
			return status != 0 // a broken connection is useless
		}
		seen.done++
		return true
	})
}

// dial returns a function that opens a connection to the server.
func (l *load) dial(ctx context.Context) func() (*conn, error) {
	return func() (*conn, error) {
		c, err := dial(ctx, l.addr)
		if err == nil && l.plan.Token != "" {
			c.authorization = "\r\nAuthorization: Bearer " + l.plan.Token
		}
		return c, err
	}
}
