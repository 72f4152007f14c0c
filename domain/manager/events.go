package manager

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// feedSpacing is the least time between two reads of a feed that is at its end.
const feedSpacing = 5 * time.Millisecond

// ListEvents returns what is in the feed behind f.After, at most limit events: 1 to 1,000, 0 = 100.
func (m *Manager) ListEvents(ctx context.Context, f queue.EventFilter, limit int) (queue.EventPage, error) {
	return callStore(ctx, m, opListEvents, func(ctx context.Context) (queue.EventPage, error) {
		f, err := f.Normalize()
		if err != nil {
			return queue.EventPage{}, err
		}
		p, err := queue.Page{Limit: limit}.Normalize()
		if err != nil {
			return queue.EventPage{}, err
		}
		return m.store.ListEvents(ctx, m.namespace, f, p.Limit)
	})
}

// LastEvent is the cursor of now in the feed: what happens later is behind it. A server tells it to a new subscriber, who
// can then resume without a gap before having seen any event.
func (m *Manager) LastEvent(ctx context.Context) (string, error) {
	return callStore(ctx, m, opLastEvent, m.store.LastEvent)
}

// SubscribeEvents calls handle with each event behind f.After (from now on when empty), in the feed's order and without
// gaps, until ctx ends or handle returns an error, which it returns. The process reads the feed once for all subscribers
// of a namespace; one that is more than the event buffer behind is ended with KindSlowReader and resumes with the cursor
// of the last event it handled.
func (m *Manager) SubscribeEvents(ctx context.Context, f queue.EventFilter, handle func(queue.Event) error) error {
	var handled error
	_, err := runOperation(ctx, m, opSubscribeEvents, func(ctx context.Context) (struct{}, error) {
		f, err := f.Normalize()
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, m.subscribe(ctx, f, func(e queue.Event) error {
			handled = handle(e)
			return handled
		})
	})
	if handled != nil {
		return handled
	}
	return err
}

func (m *Manager) subscribe(ctx context.Context, f queue.EventFilter, handle func(queue.Event) error) error {
	stand, err := m.sit()
	if err != nil {
		return err
	}
	defer stand()
	if f.After == "" {
		call, leave, err := m.enter(ctx, m.cfg.callTimeout)
		if err != nil {
			return err
		}
		f.After, err = m.store.LastEvent(call)
		leave()
		if err != nil {
			return err
		}
	} else if err := m.catchUp(ctx, &f, handle); err != nil {
		return err
	}
	sub := &subscriber{filter: f, limit: m.cfg.eventBuffer, signal: make(chan struct{}, 1)}
	leave, first, err := m.feeds.join(ctx, m.namespace, sub)
	if err != nil {
		return err
	}
	defer leave()
	// The feed was read at least as far as f.After when sub joined. What lies between comes from here, what comes from
	// here and is newer than the joining comes again from the feed, at its beginning: there it is left out.
	seen := map[string]struct{}{}
	if !first {
		err := m.catchUp(ctx, &f, func(e queue.Event) error {
			seen[e.Cursor] = struct{}{}
			return handle(e)
		})
		if err != nil {
			return err
		}
	}
	for {
		events, err := sub.next(ctx, m.closing)
		if err != nil {
			return err
		}
		for _, e := range events {
			if _, again := seen[e.Cursor]; again {
				continue
			}
			seen = nil
			if ctx.Err() != nil {
				return queue.ContextError(ctx.Err())
			}
			if err := handle(e); err != nil {
				return err
			}
		}
	}
}

// catchUp handles what is behind f.After until the end of the feed and moves f.After there.
func (m *Manager) catchUp(ctx context.Context, f *queue.EventFilter, handle func(queue.Event) error) error {
	for {
		call, leave, err := m.enter(ctx, m.cfg.callTimeout)
		if err != nil {
			return err
		}
		page, err := m.store.ListEvents(call, m.namespace, *f, queue.MaxPage)
		leave()
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			if ctx.Err() != nil {
				return queue.ContextError(ctx.Err())
			}
			if err := handle(e); err != nil {
				return err
			}
			f.After = e.Cursor
		}
		if page.Next != "" {
			f.After = page.Next
		}
		if !page.More {
			return nil
		}
	}
}

// subscriber is what the feed has for one reader.
type subscriber struct {
	filter queue.EventFilter
	limit  int
	signal chan struct{}

	mu      sync.Mutex
	pending []queue.Event
	err     error
}

// put adds the events that match. A reader that is too far behind loses them all and is told so.
func (s *subscriber) put(events []queue.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := len(s.pending)
	for _, e := range events {
		if s.err == nil && s.filter.Matches(e) {
			s.pending = append(s.pending, e)
		}
	}
	if len(s.pending) > s.limit {
		s.pending, s.err = nil, &queue.Error{Kind: queue.KindSlowReader, Msg: "the reader did not keep up; resume from the last event's cursor"}
	}
	if s.err != nil || len(s.pending) > had {
		s.wake()
	}
}

func (s *subscriber) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.wake()
}

func (s *subscriber) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// next waits for events.
func (s *subscriber) next(ctx context.Context, closing <-chan struct{}) ([]queue.Event, error) {
	for {
		s.mu.Lock()
		events, err := s.pending, s.err
		s.pending = nil
		s.mu.Unlock()
		if len(events) > 0 || err != nil {
			return events, errIfNone(events, err)
		}
		select {
		case <-s.signal:
		case <-ctx.Done():
			return nil, queue.ContextError(ctx.Err())
		case <-closing:
			return nil, batch.Closed("manager")
		}
	}
}

// errIfNone leaves an error for the next call while there are events to deal with.
func errIfNone(events []queue.Event, err error) error {
	if len(events) > 0 {
		return nil
	}
	return err
}

// feeds read the events of the namespaces that have subscribers, each once.
type feeds struct {
	c  *core
	mu sync.Mutex
	of map[string]*feed
}

type feed struct {
	*alarm
	c         *core
	namespace string
	users     int         // subscribers, and those about to be; guarded by feeds.mu
	kicked    atomic.Bool // something has happened since the last read
	// turn is held by whoever reads, so that a subscriber joins between two pages. It guards what follows.
	turn    chan struct{}
	begun   bool
	after   string
	failing bool
	err     error // why the feed has ended

	mu   sync.Mutex
	subs map[*subscriber]struct{}
}

func newFeeds(c *core) *feeds { return &feeds{c: c, of: map[string]*feed{}} }

// join has sub get every event behind the place up to which the feed is read now, which is at least sub.filter.After;
// first says that it is exactly that. leave ends it.
func (fs *feeds) join(ctx context.Context, namespace string, sub *subscriber) (leave func(), first bool, err error) {
	ctx, done, err := fs.c.enter(ctx, fs.c.cfg.callTimeout)
	if err != nil {
		return nil, false, err
	}
	defer done()
	f, err := fs.use(namespace)
	if err != nil {
		return nil, false, err
	}
	if first, err = f.join(ctx, sub); err != nil {
		fs.leave(f, sub)
		return nil, false, err
	}
	return func() { fs.leave(f, sub) }, first, nil
}

// use is the feed of namespace with one more user.
func (fs *feeds) use(namespace string) (*feed, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.of[namespace]
	if f == nil {
		f = &feed{
			alarm: newAlarm(), c: fs.c, namespace: namespace, turn: make(chan struct{}, 1),
			subs: map[*subscriber]struct{}{},
		}
		if !fs.c.spawn(func() { fs.run(f) }) {
			return nil, batch.Closed("manager")
		}
		fs.of[namespace] = f
	}
	f.users++
	return f, nil
}

func (f *feed) join(ctx context.Context, sub *subscriber) (first bool, err error) {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return false, queue.ContextError(ctx.Err())
	}
	defer func() { <-f.turn }()
	if f.err != nil {
		return false, f.err
	}
	if !f.begun {
		f.begun, f.after, first = true, sub.filter.After, true
	}
	for more := !first; more; {
		if more, _, err = f.read(ctx); err != nil {
			return false, err
		}
	}
	f.mu.Lock()
	f.subs[sub] = struct{}{}
	f.mu.Unlock()
	f.ring()
	return first, nil
}

func (fs *feeds) leave(f *feed, sub *subscriber) {
	f.mu.Lock()
	delete(f.subs, sub)
	f.mu.Unlock()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.users--; f.users == 0 {
		if fs.of[f.namespace] == f {
			delete(fs.of, f.namespace)
		}
		f.ring() // the reader ends
	}
}

// changed has the feed read that something has happened in namespace; "" = in any.
func (fs *feeds) changed(namespace string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for name, f := range fs.of {
		if namespace == "" || namespace == name {
			f.kicked.Store(true)
			f.ring()
		}
	}
}

// run reads the feed while it has subscribers: soon when something happened here, else at a growing interval.
func (fs *feeds) run(f *feed) {
	rest := pace{least: min(leastPoll, fs.c.cfg.poll), most: fs.c.cfg.poll}
	for f.wait(fs.c.closing, rest.next()) {
		fs.mu.Lock()
		users := f.users
		fs.mu.Unlock()
		if users == 0 {
			return
		}
		kicked := f.kicked.Swap(false)
		n, err := f.advance()
		if err != nil {
			fs.mu.Lock()
			if fs.of[f.namespace] == f {
				delete(fs.of, f.namespace) // the next subscriber begins another
			}
			fs.mu.Unlock()
			return
		}
		if n > 0 || kicked { // what a commit just made may become visible a little later
			rest.reset()
		}
		pauseUntil(fs.c.closing, feedSpacing) // a burst of changes shares a read
	}
}

// advance reads to the end. An error that waiting does not help against ends the feed for its subscribers.
func (f *feed) advance() (read int, err error) {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	for more := f.begun; more; {
		ctx, cancel := f.c.call()
		var n int
		more, n, err = f.read(ctx)
		cancel()
		read += n
		if err == nil {
			f.failing = false
			continue
		}
		if !passing(err) {
			f.err = queue.WithOp(opSubscribeEvents.name, err)
			f.each(func(sub *subscriber) { sub.fail(err) })
			return read, err
		}
		if !f.failing {
			f.failing = true
			f.c.cfg.log.Warn("cannot read the feed of events; trying on", "namespace", f.namespace, "error", err)
		}
	}
	return read, nil
}

// read reads a page for all subscribers.
func (f *feed) read(ctx context.Context) (more bool, n int, err error) {
	page, err := f.c.store.ListEvents(ctx, f.namespace, queue.EventFilter{After: f.after}, queue.MaxPage)
	if err != nil {
		return false, 0, err
	}
	if n = len(page.Events); n > 0 {
		f.after = page.Events[n-1].Cursor
	}
	if page.Next != "" {
		f.after = page.Next
	}
	f.each(func(sub *subscriber) { sub.put(page.Events) })
	for _, e := range page.Events {
		if e.Kind.Status().Finished() {
			f.c.awaits.suspect(f.namespace, e.TaskID)
		}
	}
	return page.More, n, nil
}

func (f *feed) each(tell func(*subscriber)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sub := range f.subs {
		tell(sub)
	}
}
