package connectclient

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// RetainTasks implements queue.Consumer. Without a request id it is not repeated when the connection breaks: the server takes back what it
// could not deliver, and the rest comes back when its leases run out. What arrives after ctx is over is handed back.
func (c *Client) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	const op = "retain tasks"
	r.Queues = slices.Clone(r.Queues) // the call may outlive its caller
	tasks, err := c.late.Do(ctx, c, r, func(call context.Context, wait time.Duration) ([]*queue.Task, error) {
		res, err := sendCallFor(call, c, op, repeat(r.RequestID != ""), wait, c.work.RetainTasks, &pb.RetainTasksRequest{
			Namespace: c.namespace, Worker: r.Worker, Queue: r.Queues, Limit: int64(r.Limit), Wait: wire.Duration(wait),
			Lease: wire.Duration(r.Lease), MaxBytes: int64(c.takes(r)), MaxTaskBytes: int64(c.takesTask(r)), RequestId: r.RequestID,
		})
		if err != nil {
			return nil, err
		}
		var rd wire.Reader
		return read(&rd, rd.Tasks(res.GetTasks()))
	})
	if err != nil && ctx.Err() != nil {
		return nil, queue.WithOp(op, ended(ctx.Err()))
	}
	return tasks, err
}

// takes is how many bytes a retain asks for; 0 = the server's default.
func (s *shared) takes(r queue.RetainRequest) int {
	if fits := s.most / 4 * 3; r.MaxBytes == 0 && fits < queue.DefaultRetainBytes {
		return fits
	}
	return r.MaxBytes
}

// takesTask is the most bytes of one task: as many as a message may have, without its frame.
func (s *shared) takesTask(r queue.RetainRequest) int {
	const frame = 1 << 10
	if r.MaxTaskBytes != 0 {
		return min(r.MaxTaskBytes, s.most-frame)
	}
	return s.most - frame
}

// HeartbeatTasks implements queue.Consumer.
func (c *Client) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	res, err := sendCall(ctx, c, "heartbeat tasks", repeatable, c.work.HeartbeatTasks, &pb.HeartbeatTasksRequest{
		Namespace: c.namespace, Beats: wire.Heartbeats(beats),
	})
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	return queue.CheckBeats(read(&r, r.Beats(res.GetBeats())))
}

// ReleaseTasks implements queue.Consumer. With tokens it is repeated when the connection breaks.
func (c *Client) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	res, err := sendCall(ctx, c, "release tasks", fenced(releases), c.work.ReleaseTasks, &pb.ReleaseTasksRequest{
		Namespace: c.namespace, Releases: wire.Releases(releases),
	})
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	return queue.CheckReleased(read(&r, r.Released(res.GetReleased(), len(releases))))
}

// fenced says whether repeating releases can do no harm: without its token a repeat could end another's hold.
func fenced(releases []queue.Release) repeat {
	for _, r := range releases {
		if r.Token == 0 {
			return once
		}
	}
	return repeatable
}

// ListWorkers implements queue.Workers.
func (c *Client) ListWorkers(ctx context.Context) ([]queue.Worker, error) {
	res, err := sendCall(ctx, c, "list workers", repeatable, c.work.ListWorkers, &pb.ListWorkersRequest{Namespace: c.namespace})
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	return read(&r, r.Workers(res.GetWorkers()))
}
