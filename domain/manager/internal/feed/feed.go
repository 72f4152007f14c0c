// Package feed reads the feed of events once for all subscribers of a namespace, and has the callers that await tasks.
package feed

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// MinReadInterval is the least time between two reads of a feed that is at its end.
const MinReadInterval = 5 * time.Millisecond

// Store is the part of queue.Store that the package reads.
type Store interface {
	queue.EventStore
	GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*queue.Task, error)
	EndedTasks(ctx context.Context, namespace string, ids []int64) ([]int64, error)
}

// Feeds read the events of the namespaces that have subscribers, each once. It is safe for concurrent use.
type Feeds struct {
	owner  *owner.Owner
	store  Store
	awaits *Awaits
	buffer int

	mu    sync.Mutex
	feeds map[string]*feed
}

type feed struct {
	*owner.WakeTimer

	namespace string
	users     int         // subscribers, and callers about to subscribe; guarded by Feeds.mu
	changed   atomic.Bool // an event may have been added since the last read

	// reading is held by the reader of a page, so that a subscriber joins between two pages. It guards these fields.
	reading   chan struct{}
	hasBegun  bool
	after     string
	isFailing bool
	err       error // the end of the feed

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
}

// NewFeeds returns Feeds without subscribers. A subscriber may have buffer unread events. The ends of tasks in the feed are
// hints for awaits.
func NewFeeds(o *owner.Owner, store Store, awaits *Awaits, buffer int) *Feeds {
	return &Feeds{owner: o, store: store, awaits: awaits, buffer: buffer, feeds: map[string]*feed{}}
}

// Subscribe calls handle with each event behind f.After, or from now on when that is empty, until ctx ends or handle
// returns an error.
func (fs *Feeds) Subscribe(ctx context.Context, namespace string, f queue.EventFilter, handle func(queue.Event) error) error {
	end, err := fs.owner.Wait()
	if err != nil {
		return err
	}
	defer end()

	if f.After == "" {
		f.After, err = fs.readLastEvent(ctx, namespace)
	} else {
		err = fs.readBacklog(ctx, namespace, &f, handle)
	}
	if err != nil {
		return err
	}

	sub := &subscriber{filter: f, limit: fs.buffer, signal: make(chan struct{}, 1)}
	leave, isFirst, err := fs.joinFeedBehind(ctx, namespace, sub)
	if err != nil {
		return err
	}
	defer leave()

	// The feed was read at least as far as f.After when sub joined. This call reads the events between the two. Those that
	// are newer than the join come again at the beginning of the feed, where they are left out.
	seen := map[string]struct{}{}
	if !isFirst {
		err := fs.readBacklog(ctx, namespace, &f, func(e queue.Event) error {
			seen[e.Cursor] = struct{}{}
			return handle(e)
		})
		if err != nil {
			return err
		}
	}

	for {
		events, err := sub.waitForEvents(ctx, fs.owner.Closing())
		if err != nil {
			return err
		}
		for _, e := range events {
			if _, again := seen[e.Cursor]; again {
				continue
			}
			// The overlap has ended: each later event is behind the join, so the set is of no more use.
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

func (fs *Feeds) readLastEvent(ctx context.Context, namespace string) (string, error) {
	ctx, leave, err := fs.owner.EnterCall(ctx)
	if err != nil {
		return "", err
	}
	defer leave()

	return fs.store.LastEvent(ctx, namespace)
}

// readBacklog handles the events behind f.After until the end of the feed, and moves f.After there.
func (fs *Feeds) readBacklog(ctx context.Context, namespace string, f *queue.EventFilter, handle func(queue.Event) error) error {
	for {
		page, err := fs.listEventPage(ctx, namespace, *f)
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

func (fs *Feeds) listEventPage(ctx context.Context, namespace string, f queue.EventFilter) (queue.EventPage, error) {
	ctx, leave, err := fs.owner.EnterCall(ctx)
	if err != nil {
		return queue.EventPage{}, err
	}
	defer leave()

	return fs.store.ListEvents(ctx, namespace, f, queue.MaxPage)
}

// joinFeedBehind gives sub every event behind the position of the feed, which is at least sub.filter.After; isFirst says that it is
// exactly that.
func (fs *Feeds) joinFeedBehind(ctx context.Context, namespace string, sub *subscriber) (leave func(), isFirst bool, err error) {
	ctx, endCall, err := fs.owner.EnterCall(ctx)
	if err != nil {
		return nil, false, err
	}
	defer endCall()

	f, err := fs.acquireFeed(namespace)
	if err != nil {
		return nil, false, err
	}
	if isFirst, err = fs.addSubscriber(ctx, f, sub); err != nil {
		fs.leaveFeed(f, sub)
		return nil, false, err
	}

	return func() { fs.leaveFeed(f, sub) }, isFirst, nil
}

// acquireFeed returns the feed of namespace with one more user.
func (fs *Feeds) acquireFeed(namespace string) (*feed, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.feeds[namespace]
	if f == nil {
		f = &feed{
			WakeTimer: owner.NewWakeTimer(), namespace: namespace, reading: make(chan struct{}, 1),
			subscribers: map[*subscriber]struct{}{},
		}
		if !fs.owner.Go(func() { fs.readWhileUsed(f) }) {
			return nil, owner.ClosedError()
		}
		fs.feeds[namespace] = f
	}
	f.users++

	return f, nil
}

func (fs *Feeds) addSubscriber(ctx context.Context, f *feed, sub *subscriber) (isFirst bool, err error) {
	select {
	case f.reading <- struct{}{}:
	case <-ctx.Done():
		return false, queue.ContextError(ctx.Err())
	}
	defer func() { <-f.reading }()
	if f.err != nil {
		return false, f.err
	}

	if !f.hasBegun {
		f.hasBegun, isFirst = true, true
		f.after = sub.filter.After
	}
	// Up to the end, so that the feed is not behind the backlog that sub has read.
	for more := !isFirst; more; {
		if more, _, err = fs.readFeedPage(ctx, f); err != nil {
			return false, err
		}
	}

	f.mu.Lock()
	f.subscribers[sub] = struct{}{}
	f.mu.Unlock()
	f.Fire()

	return isFirst, nil
}

// leaveFeed ends a subscription. The reader of a feed without users ends.
func (fs *Feeds) leaveFeed(f *feed, sub *subscriber) {
	f.mu.Lock()
	delete(f.subscribers, sub)
	f.mu.Unlock()

	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.users--
	if f.users == 0 {
		fs.detachFeed(f)
		f.Fire()
	}
}

// detachFeed has the next subscriber begin another feed. The caller holds mu.
func (fs *Feeds) detachFeed(f *feed) {
	if fs.feeds[f.namespace] == f {
		delete(fs.feeds, f.namespace)
	}
}

// Changed has the feed of a namespace read, because an event may have been added; "" = all feeds.
func (fs *Feeds) Changed(namespace string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for name, f := range fs.feeds {
		if namespace == "" || namespace == name {
			f.changed.Store(true)
			f.Fire()
		}
	}
}

// Len returns the number of feeds.
func (fs *Feeds) Len() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()

	return len(fs.feeds)
}

// readWhileUsed reads the feed while it has users: soon after a change in this process, else at a growing interval.
func (fs *Feeds) readWhileUsed(f *feed) {
	backoff := fs.owner.PollBackoff()
	for f.Sleep(fs.owner.Closing(), backoff.Next()) {
		fs.mu.Lock()
		users := f.users
		fs.mu.Unlock()
		if users == 0 {
			return
		}

		changed := f.changed.Swap(false)
		n, err := fs.readFeedToEnd(f)
		if err != nil {
			fs.mu.Lock()
			fs.detachFeed(f)
			fs.mu.Unlock()
			return
		}

		// The events of a commit may become visible a little later.
		if n > 0 || changed {
			backoff.Reset()
		}
		fs.owner.Sleep(MinReadInterval) // a burst of changes shares a read
	}
}

// readFeedToEnd reads the feed to its end. An error that waiting does not help against ends the feed and its subscriptions.
func (fs *Feeds) readFeedToEnd(f *feed) (read int, err error) {
	f.reading <- struct{}{}
	defer func() { <-f.reading }()
	for more := f.hasBegun; more; {
		ctx, cancel := fs.owner.NewCall()
		var n int
		more, n, err = fs.readFeedPage(ctx, f)
		cancel()
		read += n
		if err == nil {
			f.isFailing = false
			continue
		}

		if !owner.MayPass(err) {
			f.err = queue.WithOp(queue.OpSubscribeEvents.String(), err)
			f.forEachSubscriber(func(sub *subscriber) { sub.failSubscriber(err) })
			return read, err
		}
		if !f.isFailing {
			f.isFailing = true
			fs.owner.Log.Warn("reading the feed of events failed; repeating", "namespace", f.namespace, "error", err)
		}
	}

	return read, nil
}

// readFeedPage reads a page for all subscribers.
func (fs *Feeds) readFeedPage(ctx context.Context, f *feed) (more bool, n int, err error) {
	page, err := fs.store.ListEvents(ctx, f.namespace, queue.EventFilter{After: f.after}, queue.MaxPage)
	if err != nil {
		return false, 0, err
	}
	if n = len(page.Events); n > 0 {
		f.after = page.Events[n-1].Cursor
	}
	if page.Next != "" {
		f.after = page.Next
	}

	f.forEachSubscriber(func(sub *subscriber) { sub.addMatchingEvents(page.Events) })
	for _, e := range page.Events {
		if e.Kind.Status().Finished() {
			fs.awaits.Search(f.namespace, e.TaskID)
		}
	}

	return page.More, n, nil
}

func (f *feed) forEachSubscriber(call func(*subscriber)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sub := range f.subscribers {
		call(sub)
	}
}
