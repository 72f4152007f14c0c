package restclient

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// RetainTasks takes tasks under leases. With Wait the server keeps the request open until a task is ready. A request
// id makes it safe to repeat after a broken connection. Without one the server takes back the tasks that it could not
// deliver; the other tasks return when their leases lapse. Tasks that arrive after the end of ctx are handed back.
func (c *Client) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	op := queue.OpRetainTasks.String()
	r, err := r.Normalize()
	if err != nil {
		return nil, queue.WithOp(op, err)
	}

	// The call may outlive ctx: late hands its tasks back then.
	tasks, err := c.late.Do(ctx, c, r, func(call context.Context, wait time.Duration) ([]*queue.Task, error) {
		v := url.Values{"worker": {r.Worker}, "limit": {strconv.Itoa(r.Limit)}}
		setDuration(v, "wait", wait)
		setDuration(v, "lease", r.Lease)
		if r.MaxBytes != queue.DefaultRetainBytes {
			v.Set("max_bytes", strconv.Itoa(r.MaxBytes))
		}

		v.Set("max_task_bytes", strconv.Itoa(c.takesTask(r)))
		setTextValue(v, "request_id", r.RequestID)
		if len(r.Queues) > 0 {
			v["queue"] = r.Queues
		}

		tasks, _, err := fetchList[restapi.Task](call, c, request{route: restapi.RetainAny, query: v, wait: wait, safe: r.RequestID != ""})
		return tasks, err
	})
	if err != nil && ctx.Err() != nil {
		return nil, contextError(ctx, op)
	}

	return tasks, err
}

// takesTask returns the largest size of one task in bytes: the largest answer minus 1 KiB for its frame.
func (c *Client) takesTask(r queue.RetainRequest) int {
	const frame = 1 << 10
	if r.MaxTaskBytes != 0 {
		return min(r.MaxTaskBytes, c.maxAnswer-frame)
	}
	return c.maxAnswer - frame
}

// HeartbeatTasks extends leases. The results are in the order of beats.
func (c *Client) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return queue.CheckBeats(sendBatch(ctx, c, request{route: restapi.HeartbeatTasks, safe: true}, beats,
		queue.Heartbeat.Check, restapi.HeartbeatOf,
		func(b restapi.Beat) queue.Beat { return b.Domain(queue.OpHeartbeatTasks.String()) },
		func(err error) queue.Beat { return queue.Beat{Err: err} }))
}

// ReleaseTasks ends leases. The results are in the order of releases. Tokens in all releases make it safe to repeat.
func (c *Client) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	safe := true
	for _, r := range releases {
		safe = safe && r.Token != 0
	}
	return queue.CheckReleased(sendBatch(ctx, c, request{route: restapi.ReleaseTasks, safe: safe}, releases,
		func(r queue.Release) error { return r.Normalize().Check(math.MaxInt) }, restapi.ReleaseOf,
		func(r restapi.Released) queue.Released { return r.Domain(queue.OpReleaseTasks.String()) },
		func(err error) queue.Released { return queue.Released{Err: err} }))
}

// sendBatch sends a batch. An invalid item gets its error here and does not stop the other items.
func sendBatch[In any, Wire any, Answer, Out any](
	ctx context.Context, c *Client, q request, in []In,
	check func(In) error, wire func(In) Wire, answer func(Answer) Out, refuse func(error) Out,
) ([]Out, error) {
	if len(in) > queue.MaxBatch {
		return nil, queue.WithOp(q.opName(), queue.Invalid("batch", fmt.Sprintf("must be at most %d at once, got %d", queue.MaxBatch, len(in))))
	}

	out := make([]Out, len(in))
	var places []int // of the items of body in the batch
	var body []Wire
	for i, v := range in {
		if err := check(v); err != nil {
			out[i] = refuse(queue.WithOp(q.opName(), err))
			continue
		}
		places = append(places, i)
		body = append(body, wire(v))
	}

	if len(body) == 0 {
		return out, nil
	}

	q.body = body
	var got restapi.List[Answer]
	if err := c.sendRequest(ctx, q, &got); err != nil {
		return nil, err
	}

	if len(got.Body) != len(places) {
		return nil, restapi.Incomplete(q.opName())
	}

	for i, place := range places {
		out[place] = answer(got.Body[i])
	}

	return out, nil
}
