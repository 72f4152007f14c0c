package connectserver

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

type work struct{ *Server }

func (s work) RetainTasks(ctx context.Context, req *pb.RetainTasksRequest) (*pb.RetainTasksResponse, error) {
	var r wire.Reader
	ask := r.Retain(req)
	ask.RequestID = req.GetRequestId()
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}

	if ask, err = ask.Normalize(); err != nil {
		return nil, err
	}

	// The client's limit counts raw bytes, but the limit of a message counts encoded ones.
	ask.MaxBytes = deliveryOf(ctx).taskBytesWithin(min(ask.MaxBytes, s.maxMessage))
	if ask.Wait > 0 {
		lifelineOf(ctx).extendDeadline(ask.Wait + s.callTimeout)
	}

	ts, give, err := s.large.RetainWithin(ctx, svc, ask)
	if err != nil {
		return nil, err
	}

	deliveryOf(ctx).runAfterAnswer(give)
	if ctx.Err() != nil {
		// The caller has disconnected during the retain.
		s.giveBackTasks(ctx, svc, ask, ts)
		return nil, ctx.Err()
	}

	fit := wire.Fit(ts, s.maxMessage)
	s.handBackTasks(ctx, svc, ts[fit:])
	deliveryOf(ctx).recordTasks(svc, ask, ts[:fit])
	return &pb.RetainTasksResponse{Tasks: wire.Tasks(ts[:fit])}, nil
}

// giveBackTasks hands back the tasks of a retain without a delivered answer. With a request id they stay for its
// repeat.
func (s *Server) giveBackTasks(ctx context.Context, svc queue.Service, asked queue.RetainRequest, ts []*queue.Task) {
	if err := queue.GiveBack(ctx, svc, asked, ts); err != nil {
		s.logger.WarnContext(ctx, "undelivered tasks stay retained until their leases run out", "tasks", len(ts), "error", err)
	}
}

// handBackTasks hands back undelivered tasks. It works also after the end of the caller's context.
func (s *Server) handBackTasks(ctx context.Context, svc queue.Consumer, ts []*queue.Task) {
	if err := queue.HandBack(ctx, svc, ts); err != nil {
		s.logger.WarnContext(ctx, "undelivered tasks stay retained until their leases run out", "tasks", len(ts), "error", err)
	}
}

func (s work) HeartbeatTasks(ctx context.Context, req *pb.HeartbeatTasksRequest) (*pb.HeartbeatTasksResponse, error) {
	var r wire.Reader
	hs := r.Heartbeats(req.GetBeats())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	bs, err := svc.HeartbeatTasks(ctx, hs)
	if len(bs) == len(hs) {
		// Each heartbeat has its own result.
		err = nil
	}
	return &pb.HeartbeatTasksResponse{Beats: wire.Beats(bs)}, err
}

func (s work) ReleaseTasks(ctx context.Context, req *pb.ReleaseTasksRequest) (*pb.ReleaseTasksResponse, error) {
	var r wire.Reader
	rs := r.Releases(req.GetReleases())
	svc, err := s.serviceFor(req, &r)
	if err != nil {
		return nil, err
	}
	done, err := svc.ReleaseTasks(ctx, rs)
	if len(done) == len(rs) {
		// Each release has its own result.
		err = nil
	}
	deliveryOf(ctx).runAfterAnswer(s.large.TakeAnswer(ctx, queue.ReleasedTasks(done)...))
	return &pb.ReleaseTasksResponse{Released: wire.Released(rs, done, s.maxMessage)}, err
}

func (s work) ListWorkers(ctx context.Context, req *pb.ListWorkersRequest) (*pb.ListWorkersResponse, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err != nil {
		return nil, err
	}
	ws, err := svc.ListWorkers(ctx)
	err = boundRows(ctx, s.Server, ws, err)
	return &pb.ListWorkersResponse{Workers: wire.Workers(ws)}, err
}
