package connectserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

const (
	// maxOpenRetains bounds the open retains of a worker's stream. It is below maxAnswers, so that waiting retains
	// never stop the reading of releases.
	maxOpenRetains = 512
	// maxAnswers bounds the jobs of a stream that run or wait for their send. At this limit the server stops reading.
	maxAnswers = 1024
	// maxMergedBytes bounds a message that merges several answers.
	maxMergedBytes = 1 << 20
	// acceptedTimeout bounds accepted work after the end of its stream.
	acceptedTimeout = 30 * time.Second
)

// Work serves the stream of one worker. The reader (this goroutine) starts a job for each request, the jobs call the
// service, and the writer sends the answers. One message carries all answers that wait.
func (s work) Work(ctx context.Context, stream pgqueuev1connect.WorkServiceWorkServerStream) error {
	line := lifelineOf(ctx)
	w := &workStream{
		Server: s.Server, ear: &ear{line: line, silence: 3 * s.aliveEvery}, receive: stream.Receive,
		answers: make(chan answer, maxAnswers), slots: make(chan struct{}, maxAnswers),
		open: make(map[uint64]context.CancelFunc),
	}
	w.out = &outlet[*pb.WorkResponse]{send: stream.Send, timeout: s.sendTimeout, line: line}
	first, err := receiveWithin(w.ear, stream.Receive)
	if err != nil {
		return err
	}

	// The hello names the namespace, so it must precede every request.
	if w.hello = first.GetHello(); w.hello == nil {
		return queue.Invalid("hello", "must be the first message, got another; send hello first")
	}

	if w.svc, err = s.serviceInNamespace(w.hello.GetNamespace()); err != nil {
		return err
	}

	ctx, stop, err := access.Watch(ctx, w.svc, queue.OpRetainTasks)
	defer stop()
	if err != nil {
		return err
	}

	welcome := &pb.WorkResponse{Welcome: &pb.WorkWelcome{AliveEvery: wire.Duration(s.aliveEvery)}}
	if err := w.out.Send(welcome); err != nil {
		return err
	}

	return w.serveWorkStream(ctx)
}

type workStream struct {
	*Server
	svc     queue.Service
	hello   *pb.WorkHello
	ear     *ear
	receive func() (*pb.WorkRequest, error)
	out     *outlet[*pb.WorkResponse]

	// jobs counts the running jobs.
	jobs sync.WaitGroup
	// answers holds the answers for the writer. A job with a slot never blocks on it.
	answers chan answer
	// slots holds one entry per job. The reader adds it, and the writer removes it after the send.
	slots chan struct{}
	// unsent estimates the bytes of tasks in answers.
	unsent atomic.Int64

	mu   sync.Mutex
	open map[uint64]context.CancelFunc // retains by id
}

// answer is the answer of one job.
type answer struct {
	retained *pb.WorkRetained
	released *pb.WorkReleased
	beats    *pb.WorkBeats
	// tasks are those of retained. They are handed back if the send fails.
	tasks []*queue.Task
	bytes int64
}

func (w *workStream) serveWorkStream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.out.sendAliveSigns(ctx, w.aliveEvery, &pb.WorkResponse{}, cancel) })
	wg.Go(func() { w.watchShutdown(ctx, cancel) })

	// The writer needs its own end: it must send the answers of the last jobs.
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.writeAnswers(ctx, cancel)
	}()
	// The reader blocks in Receive, so the end of ctx must interrupt it.
	stop := context.AfterFunc(ctx, func() { w.ear.line.stopReading() })

	err := w.readMessages(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}

	if !errors.Is(err, errDraining) && !errors.Is(err, io.EOF) {
		// The peer has disconnected: undelivered tasks are handed back.
		cancel(err)
	}

	// Waiting retains end at once; other jobs finish, and the writer sends their answers.
	w.closeRetains()
	w.jobs.Wait()
	close(w.answers)
	// After a clean end the answers to accepted work still go out.
	<-written
	stop()
	cancel(err)
	wg.Wait()
	if errors.Is(err, io.EOF) {
		return nil
	}

	return err
}

// readMessages starts a job for each request until the stream ends.
func (w *workStream) readMessages(ctx context.Context) error {
	for {
		req, err := receiveWithin(w.ear, w.receive)
		if err != nil {
			return err
		}

		if req.GetHello() != nil {
			return queue.Invalid("hello", "must be the first message, got another hello; send it once")
		}

		for _, m := range req.GetRetains() {
			if err := w.retainTasks(ctx, m); err != nil {
				return err
			}
		}

		for _, id := range req.GetWithdrawn() {
			w.withdrawRetain(id)
		}

		for _, m := range req.GetReleases() {
			if err := w.startStreamJob(ctx, func() answer { return w.releaseTasks(ctx, m) }); err != nil {
				return err
			}
		}

		for _, m := range req.GetHeartbeats() {
			if err := w.startStreamJob(ctx, func() answer { return answer{beats: w.answerHeartbeats(ctx, m)} }); err != nil {
				return err
			}
		}
	}
}

// startStreamJob waits for a slot, runs job and queues its answer.
func (w *workStream) startStreamJob(ctx context.Context, job func() answer) error {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w.jobs.Go(func() { w.answers <- job() })
	return nil
}

func (w *workStream) retainTasks(stream context.Context, m *pb.WorkRetain) error {
	ctx, cancel := context.WithCancel(stream)
	id := m.GetId()
	w.mu.Lock()
	_, twice := w.open[id]
	n := len(w.open)
	if !twice && n < maxOpenRetains {
		w.open[id] = cancel
	}
	w.mu.Unlock()
	// A repeated id is a fault of the client, but too many retains are only refused.
	switch {
	case twice:
		cancel()
		return queue.Invalid("retains", fmt.Sprintf("must have ids that are not open, got %d; use a new id", id))
	case n >= maxOpenRetains:
		cancel()
		return w.startStreamJob(stream, func() answer {
			err := &queue.Error{Kind: queue.KindUnavailable, Msg: fmt.Sprintf("at most %d retains may be open on a stream; wait for an answer", maxOpenRetains)}
			return answer{retained: &pb.WorkRetained{Id: id, Error: wire.Detail(err)}}
		})
	}

	return w.startStreamJob(stream, func() answer {
		ts, err := w.retainAsked(ctx, m)
		w.mu.Lock()
		delete(w.open, id)
		w.mu.Unlock()
		if ctx.Err() != nil {
			// The retain is withdrawn, or the stream has ended.
			w.handBackTasks(ctx, w.svc, ts)
			ts, err = nil, nil
		}

		cancel()
		// Tasks must not accumulate for a worker that reads slowly.
		fit := wire.Fit(ts, max(w.maxMessage-int(w.unsent.Load()), 0))
		w.handBackTasks(ctx, w.svc, ts[fit:])
		ts = ts[:fit]
		a := answer{
			retained: &pb.WorkRetained{Id: id, Tasks: wire.Tasks(ts), Error: wire.Detail(err)},
			tasks:    ts, bytes: int64(queue.TaskBytes(ts)),
		}
		w.unsent.Add(a.bytes)
		return a
	})
}

func (w *workStream) retainAsked(ctx context.Context, m *pb.WorkRetain) ([]*queue.Task, error) {
	var r wire.Reader
	ask := r.Retain(m)
	// Fields of the retain override those of the hello.
	ask.Worker = cmp.Or(ask.Worker, w.hello.GetWorker())
	if len(ask.Queues) == 0 {
		ask.Queues = w.hello.GetQueue()
	}

	if m.GetLease() == nil {
		ask.Lease = r.Duration("lease", w.hello.GetLease())
	}

	if r.Err() != nil {
		return nil, r.Err()
	}

	ctx, cancel := context.WithTimeout(ctx, ask.Wait+w.callTimeout)
	defer cancel()
	return w.svc.RetainTasks(ctx, ask)
}

func (w *workStream) withdrawRetain(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cancel := w.open[id]; cancel != nil {
		cancel()
	}
}

func (w *workStream) closeRetains() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, cancel := range w.open {
		cancel()
	}
}

// releaseTasks ends leases. Large results wait for their bytes of the budget of bodies.
func (w *workStream) releaseTasks(ctx context.Context, m *pb.WorkReleases) answer {
	var r wire.Reader
	rs := r.Releases(m.GetReleases())
	if r.Err() != nil {
		return answer{released: &pb.WorkReleased{Id: m.GetId(), Error: wire.Detail(r.Err())}}
	}

	bytes := 0
	for i := range rs {
		bytes += len(rs[i].Result)
	}
	ctx, end, err := w.beginAccepted(ctx, bytes)
	if err != nil {
		return answer{released: &pb.WorkReleased{Id: m.GetId(), Error: wire.Detail(err)}}
	}
	defer end()

	done, err := w.svc.ReleaseTasks(ctx, rs)
	if len(done) == len(rs) {
		// Each release has its own result.
		err = nil
	}

	a := answer{
		released: &pb.WorkReleased{Id: m.GetId(), Released: wire.Released(rs, done, w.maxMessage), Error: wire.Detail(err)},
	}
	for i, d := range done {
		if d.Task != nil && !rs[i].Quiet {
			a.bytes += int64(d.Task.Bytes())
		}
	}

	w.unsent.Add(a.bytes)
	return a
}

// beginAccepted waits for bytes of the budget of bodies, and returns the context of accepted work. The work completes even
// after the end of the stream, so that a broken connection does not lose it. The caller must call end.
func (w *workStream) beginAccepted(stream context.Context, bytes int) (ctx context.Context, end func(), err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stream), acceptedTimeout)
	give, err := w.bodies.TakeRead(ctx, bytes)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return ctx, func() { give(); cancel() }, nil
}

func (w *workStream) answerHeartbeats(ctx context.Context, m *pb.WorkHeartbeats) *pb.WorkBeats {
	var r wire.Reader
	hs := r.Heartbeats(m.GetBeats())
	if r.Err() != nil {
		return &pb.WorkBeats{Id: m.GetId(), Error: wire.Detail(r.Err())}
	}

	bytes := 0
	for i := range hs {
		bytes += len(hs[i].Progress)
	}
	ctx, end, err := w.beginAccepted(ctx, bytes)
	if err != nil {
		return &pb.WorkBeats{Id: m.GetId(), Error: wire.Detail(err)}
	}
	defer end()

	bs, err := w.svc.HeartbeatTasks(ctx, hs)
	if len(bs) == len(hs) {
		// Each heartbeat has its own result.
		err = nil
	}
	return &pb.WorkBeats{Id: m.GetId(), Beats: wire.Beats(bs), Error: wire.Detail(err)}
}

// writeAnswers sends answers until the channel is closed. After the end of ctx or a failed send it hands back the
// tasks of the remaining answers.
func (w *workStream) writeAnswers(ctx context.Context, cancel context.CancelCauseFunc) {
	for a := range w.answers {
		batch, msg := w.mergeAnswers(a)
		err := context.Cause(ctx)
		if err == nil || errors.Is(err, errDraining) {
			err = w.out.Send(msg)
		}

		for _, a := range batch {
			if err != nil {
				w.handBackTasks(ctx, w.svc, a.tasks)
			}
			w.unsent.Add(-a.bytes)
			<-w.slots
		}

		if err != nil {
			cancel(&queue.Error{Kind: queue.KindSlowReader, Msg: "an answer could not be sent; read answers faster", Err: err})
		}
	}
}

// mergeAnswers merges a and the waiting answers into one message, up to maxMergedBytes and the last answer.
func (w *workStream) mergeAnswers(a answer) ([]answer, *pb.WorkResponse) {
	var batch []answer
	msg := &pb.WorkResponse{}
	for size := int64(0); ; {
		batch = append(batch, a)
		switch {
		case a.retained != nil:
			msg.Retained = append(msg.Retained, a.retained)
		case a.released != nil:
			msg.Released = append(msg.Released, a.released)
		case a.beats != nil:
			msg.Beats = append(msg.Beats, a.beats)
		}

		if size += a.bytes; size > maxMergedBytes {
			return batch, msg
		}

		select {
		case next, ok := <-w.answers:
			if !ok {
				return batch, msg
			}
			a = next
		default:
			return batch, msg
		}
	}
}
