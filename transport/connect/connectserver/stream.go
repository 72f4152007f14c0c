package connectserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

const (
	// maxOpenRetains bounds the retains that a worker's stream may have open; less than maxAnswers, so that retains that
	// wait never keep releases from being read.
	maxOpenRetains = 512
	// maxAnswers bounds the answers of a stream that are being worked on or wait to be sent. Behind it nothing is read.
	maxAnswers = 1024
	// maxMergedBytes bounds a message that is made of several answers.
	maxMergedBytes = 1 << 20
	// acceptedTimeout bounds accepted work of a stream that has ended since.
	acceptedTimeout = 30 * time.Second
)

// Work serves one worker's stream. Three parties share it: the reader (this goroutine) starts a job for each thing
// asked, jobs ask the service, the writer sends their answers, as many as there are in one message.
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
	if w.hello = first.GetHello(); w.hello == nil {
		return queue.Invalid("hello", "the first message must say hello")
	}
	if w.svc, err = s.serviceIn(w.hello.GetNamespace()); err != nil {
		return err
	}
	welcome := &pb.WorkResponse{Welcome: &pb.WorkWelcome{AliveEvery: wire.Duration(s.aliveEvery)}}
	if err := w.out.Send(welcome); err != nil {
		return err
	}
	return w.runStream(ctx)
}

type workStream struct {
	*Server
	svc     queue.Service
	hello   *pb.WorkHello
	ear     *ear
	receive func() (*pb.WorkRequest, error)
	out     *outlet[*pb.WorkResponse]

	// jobs that are under way.
	jobs sync.WaitGroup
	// answers wait for the writer. There is always room for those of the jobs that have a slot.
	answers chan answer
	// slots are taken by the reader and given back when the answer was sent.
	slots chan struct{}
	// unsent is about how many bytes of tasks wait in answers.
	unsent atomic.Int64

	mu   sync.Mutex
	open map[uint64]context.CancelFunc // retains, by id
}

// answer is what one job has to say.
type answer struct {
	retained *pb.WorkRetained
	released *pb.WorkReleased
	beats    *pb.WorkBeats
	// tasks of retained, to give back when it cannot be sent.
	tasks []*queue.Task
	bytes int64
}

func (w *workStream) runStream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.out.sendAliveSigns(ctx, w.aliveEvery, &pb.WorkResponse{}, cancel) })
	wg.Go(func() { w.watchDrain(ctx, cancel) })
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.writeAnswers(ctx, cancel)
	}()
	// Whatever ends the stream must wake the reader.
	stop := context.AfterFunc(ctx, func() { w.ear.line.stopReading() })

	err := w.readMessages(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if !errors.Is(err, errDraining) && !errors.Is(err, io.EOF) {
		cancel(err) // the peer has left: tasks that it has not got go back
	}
	w.closeRetains()
	w.jobs.Wait()
	close(w.answers)
	<-written // after a clean end accepted work is answered
	stop()
	cancel(err)
	wg.Wait()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// readMessages starts a job for each thing asked until the stream ends.
func (w *workStream) readMessages(ctx context.Context) error {
	for {
		req, err := receiveWithin(w.ear, w.receive)
		if err != nil {
			return err
		}
		if req.GetHello() != nil {
			return queue.Invalid("hello", "must be the first message, and sent once")
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
			if err := w.startJob(ctx, func() answer { return w.releaseTasks(ctx, m) }); err != nil {
				return err
			}
		}
		for _, m := range req.GetHeartbeats() {
			if err := w.startJob(ctx, func() answer { return answer{beats: w.heartbeat(ctx, m)} }); err != nil {
				return err
			}
		}
	}
}

// startJob runs job as soon as there is a slot for it and sends its answer.
func (w *workStream) startJob(ctx context.Context, job func() answer) error {
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
	switch {
	case twice:
		cancel()
		return queue.Invalid("retains", fmt.Sprintf("a retain with the id %d is open", id))
	case n >= maxOpenRetains:
		cancel()
		return w.startJob(stream, func() answer {
			err := &queue.Error{Kind: queue.KindUnavailable, Msg: fmt.Sprintf("at most %d retains may be open on a stream", maxOpenRetains)}
			return answer{retained: &pb.WorkRetained{Id: id, Error: wire.Detail(err)}}
		})
	}
	return w.startJob(stream, func() answer {
		ts, err := w.retainAsked(ctx, m)
		w.mu.Lock()
		delete(w.open, id)
		w.mu.Unlock()
		if ctx.Err() != nil { // withdrawn, or the stream is over
			w.handBackTasks(ctx, w.svc, ts)
			ts, err = nil, nil
		}
		cancel()
		// Behind a worker that reads slowly tasks must not pile up.
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
	ask := queue.RetainRequest{
		Worker: m.GetWorker(), Queues: m.GetQueue(), Limit: r.Int("limit", m.GetLimit()), Wait: r.Duration("wait", m.GetWait()),
		Lease: r.Duration("lease", m.GetLease()), MaxBytes: r.Int("max_bytes", m.GetMaxBytes()),
		MaxTaskBytes: r.Int("max_task_bytes", m.GetMaxTaskBytes()),
	}
	if ask.Worker == "" {
		ask.Worker = w.hello.GetWorker()
	}
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

func (w *workStream) releaseTasks(ctx context.Context, m *pb.WorkReleases) answer {
	var r wire.Reader
	rs := r.Releases(m.GetReleases())
	if r.Err() != nil {
		return answer{released: &pb.WorkReleased{Id: m.GetId(), Error: wire.Detail(r.Err())}}
	}
	// Once accepted it is done even if the stream ends: the worker's work is not lost for the loss of a connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acceptedTimeout)
	defer cancel()
	done, err := w.svc.ReleaseTasks(ctx, rs)
	if len(done) == len(rs) {
		err = nil // each release has its own answer
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

func (w *workStream) heartbeat(ctx context.Context, m *pb.WorkHeartbeats) *pb.WorkBeats {
	var r wire.Reader
	hs := r.Heartbeats(m.GetBeats())
	if r.Err() != nil {
		return &pb.WorkBeats{Id: m.GetId(), Error: wire.Detail(r.Err())}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acceptedTimeout)
	defer cancel()
	bs, err := w.svc.HeartbeatTasks(ctx, hs)
	if len(bs) == len(hs) {
		err = nil // each heartbeat has its own answer
	}
	return &pb.WorkBeats{Id: m.GetId(), Beats: wire.Beats(bs), Error: wire.Detail(err)}
}

// writeAnswers sends answers until there are no more. Once ctx is over, or a send failed, it gives back the tasks of
// answers that cannot be sent any more.
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
			cancel(&queue.Error{Kind: queue.KindSlowReader, Msg: "an answer could not be sent", Err: err})
		}
	}
}

// mergeAnswers puts a, and other waiting answers, into one message of a bounded size.
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
