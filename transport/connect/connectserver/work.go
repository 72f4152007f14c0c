package connectserver

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// handBackTimeout bounds giving back tasks that could not be delivered. If it fails their leases run out.
const handBackTimeout = 10 * time.Second

type work struct{ *Server }

func (s work) RetainTasks(ctx context.Context, req *pb.RetainTasksRequest) (*pb.RetainTasksResponse, error) {
	svc, err := s.in(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	ask := queue.RetainRequest{
		Worker: req.GetWorker(), Queues: req.GetQueue(), Limit: r.Int("limit", req.GetLimit()),
		Wait: r.Duration("wait", req.GetWait()), Lease: r.Duration("lease", req.GetLease()),
	}
	if r.Err() != nil {
		return nil, r.Err()
	}
	ts, err := svc.RetainTasks(ctx, ask)
	if err != nil {
		return nil, err
	}
	fit := wire.Fit(ts, s.maxMessage)
	if ctx.Err() != nil { // the caller left while the tasks were on their way
		fit = 0
	}
	handBack(ctx, svc, ts[fit:])
	return &pb.RetainTasksResponse{Tasks: wire.Tasks(ts[:fit])}, ctx.Err()
}

// handBack gives back tasks that nobody will get. The caller's context may be over already.
func handBack(ctx context.Context, svc queue.Consumer, ts []*queue.Task) {
	if len(ts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handBackTimeout)
	defer cancel()
	for part := range slices.Chunk(ts, queue.MaxBatch) {
		back := make([]queue.Release, len(part))
		for i, t := range part {
			back[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeHandBack}
		}
		_, _ = svc.ReleaseTasks(ctx, back) // what could not be given back comes back when its lease runs out
	}
}

func (s work) HeartbeatTasks(ctx context.Context, req *pb.HeartbeatTasksRequest) (*pb.HeartbeatTasksResponse, error) {
	svc, err := s.in(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	hs := r.Heartbeats(req.GetBeats())
	if r.Err() != nil {
		return nil, r.Err()
	}
	bs, err := svc.HeartbeatTasks(ctx, hs)
	return &pb.HeartbeatTasksResponse{Beats: wire.Beats(bs)}, err
}

func (s work) ReleaseTasks(ctx context.Context, req *pb.ReleaseTasksRequest) (*pb.ReleaseTasksResponse, error) {
	svc, err := s.in(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	var r wire.Reader
	rs := r.Releases(req.GetReleases())
	if r.Err() != nil {
		return nil, r.Err()
	}
	done, err := svc.ReleaseTasks(ctx, rs)
	return &pb.ReleaseTasksResponse{Released: wire.Released(rs, done, s.maxMessage)}, err
}

func (s work) ListWorkers(ctx context.Context, req *pb.ListWorkersRequest) (*pb.ListWorkersResponse, error) {
	svc, err := s.in(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	ws, err := svc.ListWorkers(ctx)
	return &pb.ListWorkersResponse{Workers: wire.Workers(ws)}, err
}
