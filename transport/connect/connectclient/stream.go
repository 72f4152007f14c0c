package connectclient

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

var _ queue.Service = (*Stream)(nil)

const (
	// maxMergedBytes bounds a message that merges several calls. A single call may be larger.
	maxMergedBytes = 1 << 20
	// dialTimeout bounds the wait for the welcome of the server.
	dialTimeout = 10 * time.Second
	// closeTimeout bounds the wait of Close for the answers to accepted calls.
	closeTimeout = 5 * time.Second
)

var errNoWelcome = &queue.Error{Kind: queue.KindUnavailable, Msg: "the server does not answer; retry later"}

// Stream is a Client that retains, heartbeats and releases over one bidirectional stream, which needs HTTP/2. Its
// methods do the same as the methods of Client at a fraction of their cost: simultaneous calls share messages, and
// only the caller waits for a round trip. The server never sends more tasks than the open RetainTasks calls ask for.
// Tasks that arrive after the end of their call are handed back.
//
// The first call opens the stream, and the next call opens a broken stream again. In returns a plain Client. A Stream
// is safe for concurrent use; Close it at the end.
type Stream struct {
	*Client
	ctx    context.Context // of all connections
	cancel context.CancelFunc
	// opening is a mutex for line and closed that a context can interrupt.
	opening    chan struct{}
	connection *connection
	closed     bool
}

// NewStream returns a stream of c's namespace. It opens no connection.
func NewStream(c *Client) *Stream {
	ctx, cancel := context.WithCancel(context.Background())
	return &Stream{Client: c, ctx: ctx, cancel: cancel, opening: make(chan struct{}, 1)}
}

// Close ends the stream after the server has answered the accepted calls, within 5 seconds. Calls that still wait and
// later calls fail with KindUnavailable.
func (s *Stream) Close() {
	s.opening <- struct{}{}
	l := s.connection
	s.connection, s.closed = nil, true
	<-s.opening
	if l != nil {
		l.finishSending(closeTimeout)
	}
	s.cancel()
	if l != nil {
		l.wg.Wait()
	}
}

// RetainTasks implements queue.Consumer. A retain with a request id goes out as a plain call, because a stream cannot
// repeat it.
func (s *Stream) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	if r.RequestID != "" {
		return s.Client.RetainTasks(ctx, r)
	}

	ask := &pb.WorkRetain{
		Worker: r.Worker, Queue: r.Queues, Limit: int64(r.Limit), Wait: wire.Duration(r.Wait), Lease: wire.Duration(r.Lease),
		MaxBytes: int64(s.answerBudget(r)), MaxTaskBytes: int64(s.taskBudget(r)),
	}
	if err := queue.CheckWorker(r.Worker); err != nil {
		// An empty name would mean the name in hello.
		return nil, queue.WithOp(queue.OpRetainTasks.String(), err)
	}

	if field := findInvalidText(ask.ProtoReflect()); field != "" {
		// Invalid text would break the stream for all calls.
		return nil, queue.WithOp(queue.OpRetainTasks.String(), queue.Invalid(field, "must be valid UTF-8; encode the text as UTF-8"))
	}

	return attemptWithTimeout(ctx, s.shared, queue.OpRetainTasks, once, r.Wait, func(ctx context.Context) ([]*queue.Task, error) {
		a, err := s.sendRequest(ctx, request{retain: ask})
		return readAnswer(a.retained.GetTasks(), err, (*wire.Reader).Tasks)
	})
}

// HeartbeatTasks implements queue.Consumer.
func (s *Stream) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return queue.CheckBeats(attemptWithTimeout(ctx, s.shared, queue.OpHeartbeatTasks, repeatable, 0, func(ctx context.Context) ([]queue.Beat, error) {
		a, err := s.sendRequest(ctx, request{beats: &pb.WorkHeartbeats{Beats: wire.Heartbeats(beats)}})
		return readAnswer(a.beats.GetBeats(), err, (*wire.Reader).Beats)
	}))
}

// ReleaseTasks implements queue.Consumer. Tokens make it safe to repeat after a broken stream.
func (s *Stream) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	again := repeatFenced(releases)
	return queue.CheckReleased(attemptWithTimeout(ctx, s.shared, queue.OpReleaseTasks, again, 0, func(ctx context.Context) ([]queue.Released, error) {
		a, err := s.sendRequest(ctx, request{releases: &pb.WorkReleases{Releases: wire.Releases(releases)}})
		return readReleased(a.released.GetReleased(), len(releases), err)
	}))
}

// sendRequest sends r over the working connection, or over a new one, and waits for its answer.
func (s *Stream) sendRequest(ctx context.Context, r request) (answer, error) {
	l, err := s.openConnection(ctx)
	if err != nil {
		return answer{}, err
	}
	return l.sendRequest(ctx, r)
}

// openConnection returns the working connection of the stream, or opens a new one.
func (s *Stream) openConnection(ctx context.Context) (*connection, error) {
	select {
	case s.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, queue.ContextError(ctx.Err())
	}
	defer func() { <-s.opening }()

	if s.closed {
		return nil, &final{&queue.Error{Kind: queue.KindUnavailable, Msg: "the stream is closed; open another one"}}
	}

	if s.connection != nil && s.connection.connectionFault() == nil {
		return s.connection, nil
	}

	if s.connection != nil {
		s.connection.wg.Wait()
		// The HTTP/2 connection below may be dead.
		s.dropIdleConnections()
		s.connection = nil
	}

	l, err := s.dialConnection(ctx)
	if err != nil {
		return nil, err
	}

	s.connection = l
	return l, nil
}

// dialConnection opens a connection and waits for the welcome of the server, at most dialTimeout.
func (s *Stream) dialConnection(ctx context.Context) (*connection, error) {
	ctx, timeout := context.WithTimeoutCause(ctx, dialTimeout, errNoWelcome)
	defer timeout()

	// The connection outlives this call, so its context comes from the stream.
	sub, cancel := context.WithCancel(s.ctx)
	sub, info := connect.NewClientContext(sub)
	stream, err := s.work.Work(sub)
	if err == nil {
		err = stream.SendHeaders()
	}
	if err != nil {
		cancel()
		return nil, translateError(ctx, &pb.WorkRequest{}, err)
	}

	l := &connection{
		stream: stream, ctx: sub, cancel: cancel, silence: s.silence, calls: make(map[uint64]chan<- answer),
		wake: make(chan struct{}, 1), welcome: make(chan struct{}), done: make(chan struct{}),
		pending: []*pb.WorkRequest{{Hello: &pb.WorkHello{Namespace: s.namespace}}},
	}
	// No call shares the message of hello.
	l.pendingBytes = maxMergedBytes
	l.wakeWriter()
	l.wg.Go(l.sendMessages)
	l.wg.Go(l.receiveMessages)

	select {
	case <-l.welcome:
		return l, nil
	case <-l.done:
		err = l.connectionFault()
	case <-ctx.Done():
		if err = context.Cause(ctx); !errors.Is(err, errNoWelcome) {
			err = queue.ContextError(err)
		}
		l.failConnection(err)
	}

	l.wg.Wait()
	if missing := http2Missing(info); missing != nil {
		return nil, missing
	}

	if errors.Is(err, queue.ErrIndeterminate) {
		// No call was sent yet.
		err = &queue.Error{Kind: queue.KindUnavailable, Msg: "the server cannot be reached; check the URL and retry later", Err: err}
	}

	return nil, err
}

// connection is one connection of a Stream.
type connection struct {
	stream  pgqueuev1connect.WorkServiceWorkClientStream
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	wake    chan struct{} // a message is pending
	welcome chan struct{} // closed after the welcome of the server
	done    chan struct{} // closed when err is set

	mu      sync.Mutex
	silence time.Duration
	err     error
	ids     uint64
	calls   map[uint64]chan<- answer
	// pending messages in order. A new call joins the last one until it has maxMergedBytes.
	pending      []*pb.WorkRequest
	pendingBytes int
	finishing    bool
}

// request holds one of three kinds of calls.
type request struct {
	retain   *pb.WorkRetain
	releases *pb.WorkReleases
	beats    *pb.WorkHeartbeats
}

// answer holds the answer to a request, of the same kind.
type answer struct {
	retained *pb.WorkRetained
	released *pb.WorkReleased
	beats    *pb.WorkBeats
}

func (a answer) failureOf() error {
	switch {
	case a.retained != nil:
		return wire.Err(a.retained.GetError())
	case a.released != nil:
		return wire.Err(a.released.GetError())
	default:
		return wire.Err(a.beats.GetError())
	}
}

// sendRequest sends r and waits for its answer, the end of the connection or the end of ctx.
func (l *connection) sendRequest(ctx context.Context, r request) (answer, error) {
	ch := make(chan answer, 1)
	size := r.estimateBytes()
	id, err := l.queueRequest(r, size, ch)
	if err != nil {
		return answer{}, err
	}

	// An answer may have arrived together with the end of the connection.
	select {
	case a := <-ch:
		return a, a.failureOf()
	case <-l.done:
		select {
		case a := <-ch:
			return a, a.failureOf()
		default:
		}

		err := l.connectionFault()
		if errors.Is(err, queue.ErrTooLarge) && size <= maxMergedBytes {
			// Another call's message was too large.
			err = brokenConnection(err)
		}

		return answer{}, err

	case <-ctx.Done():
		if r.retain != nil {
			l.withdrawRetain(id, ch)
		} else {
			l.forgetCall(id)
		}
		return answer{}, queue.ContextError(ctx.Err())
	}
}

// estimateBytes estimates the bytes of r in a message.
func (r request) estimateBytes() int {
	size := 64
	for _, rel := range r.releases.GetReleases() {
		size += 32 + len(rel.GetResult())
	}
	for _, b := range r.beats.GetBeats() {
		size += 32 + len(b.GetProgress())
	}
	return size
}

// copyContents gives r results and progress of its own, because its message may leave after the end of its call.
func (r request) copyContents() {
	size := 0
	for _, rel := range r.releases.GetReleases() {
		size += len(rel.GetResult())
	}
	for _, b := range r.beats.GetBeats() {
		size += len(b.GetProgress())
	}
	if size == 0 {
		return
	}

	room := make([]byte, 0, size)
	for _, rel := range r.releases.GetReleases() {
		room = batch.CopyBytes(room, &rel.Result)
	}
	for _, b := range r.beats.GetBeats() {
		room = batch.CopyBytes(room, &b.Progress)
	}
}

// queueRequest adds r, with about size bytes, to the pending messages and returns its id. It keeps no memory of the caller.
func (l *connection) queueRequest(r request, size int, ch chan<- answer) (uint64, error) {
	r.copyContents()

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

	m := l.pendingMessage(size)
	switch {
	case r.retain != nil:
		// A repeat sends the same retain under another id, while this message may still leave.
		ask := &pb.WorkRetain{
			Id: id, Worker: r.retain.Worker, Queue: slices.Clone(r.retain.Queue), Limit: r.retain.Limit, Wait: r.retain.Wait,
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

// pendingMessage returns the pending message for size more bytes and wakes the writer. The caller holds mu.
func (l *connection) pendingMessage(size int) *pb.WorkRequest {
	if len(l.pending) == 0 || l.pendingBytes+size > maxMergedBytes {
		l.pending = append(l.pending, &pb.WorkRequest{})
		l.pendingBytes = 0
	}
	l.pendingBytes += size
	l.wakeWriter()
	return l.pending[len(l.pending)-1]
}

// wakeWriter makes the writer look for messages. One wake-up is enough for all that pend.
func (l *connection) wakeWriter() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// withdrawRetain withdraws a retain. Tasks that are already under way are handed back.
func (l *connection) withdrawRetain(id uint64, ch <-chan answer) {
	l.mu.Lock()
	if _, waiting := l.calls[id]; waiting {
		// Handle an answer that still comes as undelivered.
		l.calls[id] = nil
		m := l.pendingMessage(16)
		m.Withdrawn = append(m.Withdrawn, id)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	select {
	case a := <-ch:
		// The answer came just before the withdrawal.
		l.handBackTasks(a.retained.GetTasks())
	default:
	}
}

func (l *connection) handBackTasks(ts []*pb.Task) {
	if len(ts) == 0 {
		return
	}
	back := make([]*pb.Release, len(ts))
	for i, t := range ts {
		back[i] = &pb.Release{Id: t.GetId(), Token: t.GetLease().GetToken(), Outcome: pb.Outcome_OUTCOME_HANDBACK}
	}
	// If this fails, the tasks return when their leases lapse.
	r := request{releases: &pb.WorkReleases{Releases: back}}
	_, _ = l.queueRequest(r, r.estimateBytes(), nil)
}

func (l *connection) forgetCall(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, id)
}

// sendMessages sends pending messages and signs of life until the connection ends.
func (l *connection) sendMessages() {
	l.mu.Lock()
	every := l.silence / 6
	l.mu.Unlock()
	alive := time.NewTimer(every)
	defer alive.Stop()
	for {
		var messages []*pb.WorkRequest
		finishing := false

		select {
		case <-l.done:
			return
		case <-alive.C:
			messages = []*pb.WorkRequest{{}}
		case <-l.wake:
			l.mu.Lock()
			messages, l.pending, finishing = l.pending, nil, l.finishing
			every = l.silence / 6
			l.mu.Unlock()
		}

		for _, m := range messages {
			if err := l.stream.Send(m); err != nil {
				if !errors.Is(err, io.EOF) {
					// After io.EOF Receive returns the reason.
					l.failConnection(translateError(l.ctx, m, err))
				}
				return
			}
		}

		if finishing {
			// Receive returns how the stream ends.
			_ = l.stream.CloseSend()
			return
		}

		alive.Reset(every)
	}
}

// receiveMessages passes each answer to its call until the stream ends.
func (l *connection) receiveMessages() {
	shut := closeAtEnd(l.ctx, l.stream.Close)
	defer shut()
	for {
		l.mu.Lock()
		silence := l.silence
		l.mu.Unlock()
		m, err := receiveWithin(l.ctx, silence, l.stream.Close, l.stream.Receive)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = &queue.Error{Kind: queue.KindUnavailable, Msg: "the stream is closed; open another one"}
			} else {
				err = translateError(l.ctx, &pb.WorkRequest{}, err)
			}

			l.failConnection(err)
			return
		}

		if m.GetWelcome() != nil {
			l.acceptWelcome(m.GetWelcome())
		}

		for _, a := range m.GetRetained() {
			l.deliverAnswer(a.GetId(), answer{retained: a})
		}

		for _, a := range m.GetReleased() {
			l.deliverAnswer(a.GetId(), answer{released: a})
		}

		for _, a := range m.GetBeats() {
			l.deliverAnswer(a.GetId(), answer{beats: a})
		}
	}
}

func (l *connection) acceptWelcome(w *pb.WorkWelcome) {
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
		// The writer adopts the new interval.
		l.wakeWriter()
	}
}

// deliverAnswer passes a to its call. Tasks without a waiting call are handed back.
func (l *connection) deliverAnswer(id uint64, a answer) {
	l.mu.Lock()
	ch := l.calls[id]
	delete(l.calls, id)
	if ch != nil {
		// The send never blocks: the buffer holds the only answer.
		ch <- a
	}
	l.mu.Unlock()
	if ch == nil {
		l.handBackTasks(a.retained.GetTasks())
	}
}

// failConnection ends the connection with err. Only the first error is kept.
func (l *connection) failConnection(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		close(l.done)
		l.cancel()
	}
}

func (l *connection) connectionFault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// finishSending closes the sending side. It waits up to limit until the server has answered every call and ended the stream.
func (l *connection) finishSending(limit time.Duration) {
	l.mu.Lock()
	l.finishing = true
	l.wakeWriter()
	l.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
		l.failConnection(&queue.Error{Kind: queue.KindUnavailable, Msg: "the stream is closed; open another one"})
	}
}
