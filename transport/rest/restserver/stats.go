package restserver

import (
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// registerStats binds the operation to its route.
func (s *Server) registerStats() {
	registerOperation(s, operation{
		Route: restapi.ListStats, status: http.StatusOK,
		answers: []documentedAnswer{
			{http.StatusOK, restapi.MediaJSON, restapi.List[restapi.QueueStats]{}},
			{http.StatusOK, restapi.MediaEventStream, restapi.StatsChange{}},
		},
		text: "With Accept: text/event-stream it sends events named stats: first all queues, then once a second at most those with other numbers; an age that grows with time is the same. " +
			"All streams of a server share one reading a second.",
	}, listStats)
}

// listStats lists the statistics, or streams them when the client asks for events.
func listStats(c *call, _ *struct{}) (*huma.StreamResponse, error) {
	if c.acceptsMedia(restapi.MediaEventStream) {
		return c.streamStats()
	}

	all, err := c.svc.ListQueueStatuses(c.requestContext())
	if err := boundRows(c, all, err); err != nil {
		return nil, err
	}
	list := restapi.ListOf(restapi.Each(all, restapi.QueueStatsOf))
	return streamOutput(func() { c.replyJSON(list) }), nil
}

// streamStats sends the statistics and then their changes, until the client leaves or loses the right.
func (c *call) streamStats() (*huma.StreamResponse, error) {
	read := c.svc.ListQueueStatuses
	if feed, ok := queue.ServiceAs[queue.StatsFeed](c.svc); ok {
		read = feed.SharedStats
	}

	// A caller without the right gets a plain error, not a stream that ends.
	first, err := read(c.requestContext())
	if err != nil {
		return nil, err
	}
	give, err := c.cfg.Large.TakeRead(c.requestContext(), queue.BytesOf(first))
	if err != nil {
		return nil, err
	}
	c.afterAnswer(give)
	st, err := c.openStream()
	if err != nil {
		return nil, err
	}
	return streamOutput(func() {
		defer st.closeStream()
		st.sendEnd(c.sendStats(st, first, give, read))
	}), nil
}

// sendStats sends first, for which give returns the bytes of the budget, and what each later reading has changed.
func (c *call) sendStats(
	st *stream, first []*queue.QueueStats, give func(), read func(context.Context) ([]*queue.QueueStats, error),
) error {
	ctx, stop, err := access.Watch(st.ctx, c.svc, queue.OpListQueueStatuses)
	defer stop()
	if err != nil {
		return err
	}

	tick := time.NewTicker(queue.StatsAge)
	defer tick.Stop()
	sent := map[string]sentStats{}
	for stats := first; ; {
		if change, changed := findChange(sent, stats, time.Now()); changed {
			if err := c.sendChange(ctx, st, change, give); err != nil {
				return err
			}
			give = nil
		}

		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if stats, err = read(ctx); err != nil {
			return contextCause(ctx, err)
		}
	}
}

// sendChange sends one event, with bytes of the budget: those that give returns, or its own when give is nil.
func (c *call) sendChange(ctx context.Context, st *stream, change restapi.StatsChange, give func()) (err error) {
	if give == nil {
		if give, err = c.cfg.Large.TakeRead(ctx, len(change.Body)*queue.RowBytes); err != nil {
			return contextCause(ctx, err)
		}
	}
	defer give()
	return st.sendEvent(restapi.EventStats, "", change, true)
}

// sentStats are the statistics of a queue that a client has, and when its oldest ready task became ready.
type sentStats struct {
	restapi.QueueStats

	since time.Time
}

// sinceSlack bounds the inaccuracy of the age of a reading, which streams share for queue.StatsAge.
const sinceSlack = 3 * queue.StatsAge

// findChange returns what differs between sent and stats, which were read at a time, and puts stats in its place. The first one always
// counts as changed. An age that grows with time does not count: thousands of queues with waiting tasks would come each second.
func findChange(sent map[string]sentStats, stats []*queue.QueueStats, at time.Time) (change restapi.StatsChange, changed bool) {
	changed = len(sent) == 0
	change.Body = []restapi.QueueStats{}
	there := make(map[string]bool, len(stats))
	for _, s := range stats {
		there[s.Queue] = true
		now := sentStats{QueueStats: restapi.QueueStatsOf(s), since: at.Add(-s.OldestReadyAge)}
		if was, ok := sent[s.Queue]; ok && equalStats(was, now) {
			continue
		}
		sent[s.Queue] = now
		change.Body = append(change.Body, now.QueueStats)
	}

	for name := range sent {
		if !there[name] {
			delete(sent, name)
			change.Deleted = append(change.Deleted, name)
		}
	}
	return change, changed || len(change.Body)+len(change.Deleted) > 0
}

// equalStats reports whether a and b show the same.
func equalStats(a, b sentStats) bool {
	if !maps.Equal(a.Counts, b.Counts) {
		return false
	}
	if (a.OldestReadyAge == 0) != (b.OldestReadyAge == 0) || a.OldestReadyAge != 0 && a.since.Sub(b.since).Abs() > sinceSlack {
		return false
	}
	return a.Ready == b.Ready && a.Delayed == b.Delayed && a.Paused == b.Paused &&
		a.GroupWaiting == b.GroupWaiting && a.Concurrency == b.Concurrency && a.PausedUntil.Equal(b.PausedUntil) && a.StartsPerSecond == b.StartsPerSecond &&
		a.CreatedPerSecond == b.CreatedPerSecond && a.FinishedPerSecond == b.FinishedPerSecond
}
