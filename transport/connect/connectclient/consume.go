package connectclient

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// RetainTasks implements queue.Consumer. A request id makes it safe to repeat after a broken connection. Without one
// the server takes back the tasks that it could not deliver; the other tasks return when their leases lapse. Tasks
// that arrive after the end of ctx are handed back.
func (c *Client) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	const op = queue.OpRetainTasks
	// The call may outlive its caller.
	r.Queues = slices.Clone(r.Queues)
	tasks, err := c.late.Do(ctx, c, r, func(call context.Context, wait time.Duration) ([]*queue.Task, error) {
		res, err := sendWaiting(call, c, op, repeat(r.RequestID != ""), wait, c.work.RetainTasks, &pb.RetainTasksRequest{
			Namespace: c.namespace, Worker: r.Worker, Queue: r.Queues, Limit: int64(r.Limit), Wait: wire.Duration(wait),
			Lease: wire.Duration(r.Lease), MaxBytes: int64(c.answerBudget(r)), MaxTaskBytes: int64(c.taskBudget(r)), RequestId: r.RequestID,
		})
		return readAnswer(res.GetTasks(), err, (*wire.Reader).Tasks)
	})
	if err != nil && ctx.Err() != nil {
		return nil, queue.WithOp(op.String(), queue.ContextError(ctx.Err()))
	}

	return tasks, err
}

// answerBudget returns how many bytes of tasks a retain asks for; 0 is the default of the server.
func (s *shared) answerBudget(r queue.RetainRequest) int {
	if fits := s.most / 4 * 3; r.MaxBytes == 0 && fits < queue.DefaultRetainBytes {
		return fits
	}
	return r.MaxBytes
}

// taskBudget returns the largest size of one task in bytes: the largest message minus 1 KiB for its frame.
func (s *shared) taskBudget(r queue.RetainRequest) int {
	const frame = 1 << 10
	if r.MaxTaskBytes != 0 {
		return min(r.MaxTaskBytes, s.most-frame)
	}
	return s.most - frame
}

// HeartbeatTasks implements queue.Consumer.
func (c *Client) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	res, err := sendRepeated(ctx, c, queue.OpHeartbeatTasks, repeatable, c.work.HeartbeatTasks, &pb.HeartbeatTasksRequest{
		Namespace: c.namespace, Beats: wire.Heartbeats(beats),
	})
	return queue.CheckBeats(readAnswer(res.GetBeats(), err, (*wire.Reader).Beats))
}

// ReleaseTasks implements queue.Consumer. With tokens it is repeated when the connection breaks.
func (c *Client) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	res, err := sendRepeated(ctx, c, queue.OpReleaseTasks, repeatFenced(releases), c.work.ReleaseTasks, &pb.ReleaseTasksRequest{
		Namespace: c.namespace, Releases: wire.Releases(releases),
	})
	return queue.CheckReleased(readReleased(res.GetReleased(), len(releases), err))
}

// readReleased reads the answer to n releases, of which the server leaves out the quiet ones.
func readReleased(answers []*pb.Released, n int, err error) ([]queue.Released, error) {
	return readAnswer(answers, err, func(r *wire.Reader, answers []*pb.Released) []queue.Released { return r.Released(answers, n) })
}

// repeatFenced reports whether releases are safe to repeat. Without a token a repeat could end the lease of another worker.
func repeatFenced(releases []queue.Release) repeat {
	for _, r := range releases {
		if r.Token == 0 {
			return once
		}
	}
	return repeatable
}

// ListWorkers implements queue.Workers.
func (c *Client) ListWorkers(ctx context.Context) ([]queue.Worker, error) {
	res, err := sendCall(ctx, c, queue.OpListWorkers, c.work.ListWorkers, &pb.ListWorkersRequest{Namespace: c.namespace})
	return readAnswer(res.GetWorkers(), err, (*wire.Reader).Workers)
}
