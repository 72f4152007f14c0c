package connectclient

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

var _ queue.Service = (*Stream)(nil)

const (
	// maxMergedBytes bounds what is merged into one message that was not one call before.
	maxMergedBytes = 1 << 20
	// dialTimeout bounds how long the server may take to say welcome.
	dialTimeout = 10 * time.Second
	// closeTimeout bounds how long Close waits for what the server has accepted.
	closeTimeout = 5 * time.Second
)

var errNoWelcome = &queue.Error{Kind: queue.KindUnavailable, Msg: "the server does not answer"}

// Stream is a Client that retains, heartbeats and releases over one stream that goes both ways, which needs HTTP/2. It
// does the same as the client's own methods with a fraction of their cost: calls that are made at the same time share messages, and nothing waits for
// a round trip but the caller. The server never sends more tasks than the calls of RetainTasks under way ask for; what
// arrives for one that has ended meanwhile is handed back.
//
// The stream is opened by the first call, and again after it broke. What In returns is a plain client. Safe for
// concurrent use; Close it in the end.
type Stream struct {
	*Client
	ctx    context.Context // of all connections
	cancel context.CancelFunc
	// opening is held by whoever looks at line or opens it.
	opening chan struct{}
	line    *line
	closed  bool
}

// NewStream is a stream of c's namespace. It does not connect yet.
func NewStream(c *Client) *Stream {
	ctx, cancel := context.WithCancel(context.Background())
	return &Stream{Client: c, ctx: ctx, cancel: cancel, opening: make(chan struct{}, 1)}
}

// Close ends the stream after what the server has accepted is answered, for at most 5 seconds. Calls that wait end, and
// calls to come fail, with KindUnavailable.
func (s *Stream) Close() {
	s.opening <- struct{}{}
	l := s.line
	s.line, s.closed = nil, true
	<-s.opening
	if l != nil {
		l.finish(closeTimeout)
	}
	s.cancel()
	if l != nil {
		l.wg.Wait()
	}
}

// RetainTasks implements queue.Consumer. A retain with a request id is a call of its own: the stream has no repeats.
func (s *Stream) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	if r.RequestID != "" {
		return s.Client.RetainTasks(ctx, r)
	}
	ask := &pb.WorkRetain{
		Worker: r.Worker, Queue: r.Queues, Limit: int64(r.Limit), Wait: wire.Duration(r.Wait), Lease: wire.Duration(r.Lease),
		MaxBytes: int64(s.takes(r)), MaxTaskBytes: int64(s.takesTask(r)),
	}
	if err := queue.CheckWorker(r.Worker); err != nil { // an empty one would mean the hello's
		return nil, queue.WithOp("retain tasks", err)
	}
	if field := notUTF8(ask.ProtoReflect()); field != "" { // must not break the stream of the others
		return nil, queue.WithOp("retain tasks", queue.Invalid(field, "must be valid UTF-8"))
	}
	return attempt(ctx, s.shared, "retain tasks", once, r.Wait, func(ctx context.Context) ([]*queue.Task, error) {
		l, err := s.open(ctx)
		if err != nil {
			return nil, err
		}
		a, err := l.ask(ctx, request{retain: ask})
		if err != nil {
			return nil, err
		}
		var rd wire.Reader
		return read(&rd, rd.Tasks(a.retained.GetTasks()))
	})
}

// HeartbeatTasks implements queue.Consumer.
func (s *Stream) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return queue.CheckBeats(attempt(ctx, s.shared, "heartbeat tasks", repeatable, 0, func(ctx context.Context) ([]queue.Beat, error) {
		l, err := s.open(ctx)
		if err != nil {
			return nil, err
		}
		a, err := l.ask(ctx, request{beats: &pb.WorkHeartbeats{Beats: wire.Heartbeats(beats)}})
		if err != nil {
			return nil, err
		}
		var r wire.Reader
		return read(&r, r.Beats(a.beats.GetBeats()))
	}))
}

// ReleaseTasks implements queue.Consumer. With tokens it is repeated when the stream breaks.
func (s *Stream) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	again := fenced(releases)
	return queue.CheckReleased(attempt(ctx, s.shared, "release tasks", again, 0, func(ctx context.Context) ([]queue.Released, error) {
		l, err := s.open(ctx)
		if err != nil {
			return nil, err
		}
		a, err := l.ask(ctx, request{releases: &pb.WorkReleases{Releases: wire.Releases(releases)}})
		if err != nil {
			return nil, err
		}
		var r wire.Reader
		return read(&r, r.Released(a.released.GetReleased(), len(releases)))
	}))
}

// open is the stream's connection, made if there is none that works.
func (s *Stream) open(ctx context.Context) (*line, error) {
	select {
	case s.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, ended(ctx.Err())
	}
	defer func() { <-s.opening }()
	if s.closed {
		return nil, &final{&queue.Error{Kind: queue.KindUnavailable, Msg: "the stream is closed"}}
	}
	if s.line != nil && s.line.fault() == nil {
		return s.line, nil
	}
	if s.line != nil {
		s.line.wg.Wait()
		s.refresh() // what carried it may be dead
		s.line = nil
	}
	l, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	s.line = l
	return l, nil
}

// dial opens a connection and waits until the server has said welcome.
func (s *Stream) dial(ctx context.Context) (*line, error) {
	ctx, timeout := context.WithTimeoutCause(ctx, dialTimeout, errNoWelcome)
	defer timeout()
	sub, cancel := context.WithCancel(s.ctx)
	sub, info := connect.NewClientContext(sub)
	stream, err := s.work.Work(sub)
	if err != nil {
		cancel()
		return nil, translate(ctx, &pb.WorkRequest{}, err)
	}
	l := &line{
		stream: stream, ctx: sub, cancel: cancel, silence: s.silence, calls: make(map[uint64]chan<- answer),
		wake: make(chan struct{}, 1), welcome: make(chan struct{}), done: make(chan struct{}),
		pending: []*pb.WorkRequest{{Hello: &pb.WorkHello{Namespace: s.namespace}}},
	}
	l.pendingBytes = maxMergedBytes // hello goes alone
	l.wake <- struct{}{}
	l.wg.Go(l.write)
	l.wg.Go(l.read)
	select {
	case <-l.welcome:
		return l, nil
	case <-l.done:
		err = l.fault()
	case <-ctx.Done():
		if err = context.Cause(ctx); !errors.Is(err, errNoWelcome) {
			err = ended(err)
		}
		l.fail(err)
	}
	l.wg.Wait()
	if missing := http2Missing(info); missing != nil {
		return nil, missing
	}
	if errors.Is(err, queue.ErrIndeterminate) { // nothing was asked yet
		err = &queue.Error{Kind: queue.KindUnavailable, Msg: "the server cannot be reached", Err: err}
	}
	return nil, err
}

// line is one connection of a Stream.
type line struct {
	stream  pgqueuev1connect.WorkServiceWorkClientStream
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	wake    chan struct{} // something is pending
	welcome chan struct{} // closed when the server has said it
	done    chan struct{} // closed when err is set

	mu      sync.Mutex
	silence time.Duration
	err     error
	ids     uint64
	calls   map[uint64]chan<- answer
	// pending messages; calls are merged into the last of them until it has maxMergedBytes.
	pending      []*pb.WorkRequest
	pendingBytes int
	finishing    bool
}

// request is one of three.
type request struct {
	retain   *pb.WorkRetain
	releases *pb.WorkReleases
	beats    *pb.WorkHeartbeats
}

// answer is one of three, as was the request.
type answer struct {
	retained *pb.WorkRetained
	released *pb.WorkReleased
	beats    *pb.WorkBeats
}

func (a answer) err() error {
	switch {
	case a.retained != nil:
		return wire.Err(a.retained.GetError())
	case a.released != nil:
		return wire.Err(a.released.GetError())
	default:
		return wire.Err(a.beats.GetError())
	}
}

// ask sends r and waits for its answer.
func (l *line) ask(ctx context.Context, r request) (answer, error) {
	ch := make(chan answer, 1)
	size := r.size()
	id, err := l.put(r, size, ch)
	if err != nil {
		return answer{}, err
	}
	select {
	case a := <-ch:
		return a, a.err()
	case <-l.done:
		select {
		case a := <-ch:
			return a, a.err()
		default:
		}
		err := l.fault()
		if errors.Is(err, queue.ErrTooLarge) && size <= maxMergedBytes { // another's message was
			err = broken(err)
		}
		return answer{}, err
	case <-ctx.Done():
		if r.retain != nil {
			l.giveUp(id, ch)
		} else {
			l.forget(id)
		}
		return answer{}, ended(ctx.Err())
	}
}

// size is about how many bytes r takes.
func (r request) size() int {
	size := 64
	for _, rel := range r.releases.GetReleases() {
		size += 32 + len(rel.GetResult())
	}
	for _, b := range r.beats.GetBeats() {
		size += 32 + len(b.GetProgress())
	}
	return size
}

// put adds r, of so many bytes, to what is sent next.
func (l *line) put(r request, size int, ch chan<- answer) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	l.ids++
	id := l.ids
	if ch != nil {
		l.calls[id] = ch
	}
	m := l.message(size)
	switch {
	case r.retain != nil:
		ask := &pb.WorkRetain{
			Id: id, Worker: r.retain.Worker, Queue: r.retain.Queue, Limit: r.retain.Limit, Wait: r.retain.Wait,
			Lease: r.retain.Lease, MaxBytes: r.retain.MaxBytes, MaxTaskBytes: r.retain.MaxTaskBytes,
		}
		m.Retains = append(m.Retains, ask)
	case r.releases != nil:
		m.Releases = append(m.Releases, &pb.WorkReleases{Id: id, Releases: r.releases.Releases})
	case r.beats != nil:
		m.Heartbeats = append(m.Heartbeats, &pb.WorkHeartbeats{Id: id, Beats: r.beats.Beats})
	}
	return id, nil
}

// message is the pending message that takes size more bytes. Caller holds mu.
func (l *line) message(size int) *pb.WorkRequest {
	if len(l.pending) == 0 || l.pendingBytes+size > maxMergedBytes {
		l.pending = append(l.pending, &pb.WorkRequest{})
		l.pendingBytes = 0
	}
	l.pendingBytes += size
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return l.pending[len(l.pending)-1]
}

// giveUp withdraws a retain. Tasks that were on their way are handed back.
func (l *line) giveUp(id uint64, ch <-chan answer) {
	l.mu.Lock()
	if _, waiting := l.calls[id]; waiting {
		l.calls[id] = nil // hand back what comes
		m := l.message(16)
		m.Withdrawn = append(m.Withdrawn, id)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	select {
	case a := <-ch: // it came at the last moment
		l.handBack(a.retained.GetTasks())
	default:
	}
}

func (l *line) handBack(ts []*pb.Task) {
	if len(ts) == 0 {
		return
	}
	back := make([]*pb.Release, len(ts))
	for i, t := range ts {
		back[i] = &pb.Release{Id: t.GetId(), Token: t.GetLease().GetToken(), Outcome: pb.Outcome_OUTCOME_HANDBACK}
	}
	// Where this fails the leases run out.
	r := request{releases: &pb.WorkReleases{Releases: back}}
	_, _ = l.put(r, r.size(), nil)
}

func (l *line) forget(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, id)
}

// write sends what is pending, and signs of life, until the line is done.
func (l *line) write() {
	l.mu.Lock()
	every := l.silence / 6
	l.mu.Unlock()
	alive := time.NewTimer(every)
	defer alive.Stop()
	for {
		var batch []*pb.WorkRequest
		finishing := false
		select {
		case <-l.done:
			return
		case <-alive.C:
			batch = []*pb.WorkRequest{{}}
		case <-l.wake:
			l.mu.Lock()
			batch, l.pending, finishing = l.pending, nil, l.finishing
			every = l.silence / 6
			l.mu.Unlock()
		}
		for _, m := range batch {
			if err := l.stream.Send(m); err != nil {
				if !errors.Is(err, io.EOF) { // then Receive tells why
					l.fail(translate(l.ctx, m, err))
				}
				return
			}
		}
		if finishing {
			_ = l.stream.CloseSend() // Receive tells how it ends
			return
		}
		alive.Reset(every)
	}
}

// read hands out answers until the stream ends.
func (l *line) read() {
	shut := shutWith(l.ctx, l.stream.Close)
	defer shut()
	for {
		l.mu.Lock()
		silence := l.silence
		l.mu.Unlock()
		m, err := hear(l.ctx, silence, l.stream.Close, l.stream.Receive)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = &queue.Error{Kind: queue.KindUnavailable, Msg: "the stream is closed"}
			} else {
				err = translate(l.ctx, &pb.WorkRequest{}, err)
			}
			l.fail(err)
			return
		}
		if m.GetWelcome() != nil {
			l.welcomed(m.GetWelcome())
		}
		for _, a := range m.GetRetained() {
			l.answer(a.GetId(), answer{retained: a})
		}
		for _, a := range m.GetReleased() {
			l.answer(a.GetId(), answer{released: a})
		}
		for _, a := range m.GetBeats() {
			l.answer(a.GetId(), answer{beats: a})
		}
	}
}

func (l *line) welcomed(w *pb.WorkWelcome) {
	var r wire.Reader
	every := r.Duration("alive_every", w.GetAliveEvery())
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Err() == nil && every > 0 {
		l.silence = min(l.silence, 3*every)
	}
	select {
	case <-l.welcome:
	default:
		close(l.welcome)
		select { // the writer learns how often to show that it lives
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// answer hands a to who asked; tasks that nobody waits for any more go back.
func (l *line) answer(id uint64, a answer) {
	l.mu.Lock()
	ch := l.calls[id]
	delete(l.calls, id)
	if ch != nil {
		ch <- a // has room for the one answer there is
	}
	l.mu.Unlock()
	if ch == nil {
		l.handBack(a.retained.GetTasks())
	}
}

// fail ends the line with err; the first one counts.
func (l *line) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		close(l.done)
		l.cancel()
	}
}

func (l *line) fault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// finish closes the sending side and waits until the server has answered all and ended the stream.
func (l *line) finish(limit time.Duration) {
	l.mu.Lock()
	l.finishing = true
	select {
	case l.wake <- struct{}{}:
	default:
	}
	l.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
		l.fail(&queue.Error{Kind: queue.KindUnavailable, Msg: "the stream is closed"})
	}
}
