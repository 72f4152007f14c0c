package postgres

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A retain has a limit in bytes as well as in tasks. Ready rows do not contain the sizes of their tasks, so a process
// records the sizes of each queue's retained tasks. If these predict a retain within its limit, its tasks are read
// together with the writes of the leases, as without a limit. Any other retain first reads its tasks, piece by piece,
// until it reaches the limit. It makes the rest ready again in the same transaction. After a wrong prediction a process
// keeps a bounded part of the read bytes and hands back the rest.

const (
	// unknownBytes is the assumed size of a task of a queue without records: the default limit of a payload.
	unknownBytes = queue.DefaultMaxPayloadBytes
	// firstPiece is the number of tasks that the first read of such a queue takes.
	firstPiece = 4
	// weightDecay is the divisor of the decay: each retain with smaller tasks lowers the recorded largest size by
	// 1/weightDecay.
	weightDecay = 8
	// wrongBy limits the bytes that a process keeps after a wrong prediction, as a multiple of the limit.
	wrongBy = 2
	// maxCallBytes bounds the tasks of all requests of a call: the last one may begin just below MaxRetainBytes, and may
	// itself ask for as many.
	maxCallBytes = 2 * queue.MaxRetainBytes
)

// weight is the recent size of a queue's tasks in bytes; 0 = unknown.
type weight struct{ average, largest int }

// recordSizes records the sizes of retained tasks.
func (q *queueLanes) recordSizes(tasks, bytes, largest int) {
	q.mu.Lock()
	defer q.mu.Unlock()

	// The moving average follows a change of the sizes within a few retains.
	average := bytes / tasks
	if old := q.weighed.average; old != 0 {
		average = old + (average-old)/4
	}
	q.weighed = weight{average: max(average, 1), largest: max(largest, q.weighed.largest-q.weighed.largest/weightDecay)}
}

// estimateSize returns the recent size of the queue's tasks.
func (q *queueLanes) estimateSize() weight {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.weighed
}

// weighPicked records the sizes of picked tasks, once for each run of one queue.
func (s *Store) weighPicked(picked []pickedTask) {
	for len(picked) > 0 {
		id, n, bytes, largest := picked[0].q.id, 0, 0, 0
		for n < len(picked) && picked[n].q.id == id {
			size := picked[n].task.Bytes()
			if picked[n].task.Payload == nil { // it exceeded the expected bytes
				size += unknownBytes
			}
			bytes, largest = bytes+size, max(largest, size)
			n++
		}
		s.lanes.lanesOfQueue(id).recordSizes(n, bytes, largest)
		picked = picked[n:]
	}
}

// pickLimits bound a pick.
type pickLimits struct {
	total   int // tasks
	request int // tasks of the request that asks for the most
	served  int // requests, the first ones
	// requests name the workers that get the tasks.
	requests []queue.RetainShare
}

// limitTasks returns the number of tasks to pick, and for how many of the requests. For each request it is at most about
// twice the number that fits by the recent sizes. Requests behind MaxRetainBytes wait for the next call.
func (s *Store) limitTasks(r queue.Retain, queues []*storedQueue) (n pickLimits) {
	if len(r.Requests) == 1 && r.Requests[0].Limit <= 1 {
		return pickLimits{total: r.Requests[0].Limit, request: 1, served: 1, requests: r.Requests}
	}

	n.requests = r.Requests
	size := s.leastSize(queues)
	bytes := 0
	for i, share := range r.Requests {
		if r.EndsBefore(i, bytes) {
			break
		}

		limit := share.Limit
		expected := limit * size.expected()
		if share.MaxBytes > 0 && limit > 1 && size.average > 0 {
			limit = min(limit, 2*share.MaxBytes/size.average+1)
			expected = min(expected, share.MaxBytes)
		}
		n.total += limit
		n.request = max(n.request, limit)
		n.served++
		bytes += expected
	}

	return n
}

// leastSize returns the sizes of the queue with the smallest tasks; 0 if the size of one is unknown.
func (s *Store) leastSize(queues []*storedQueue) (least weight) {
	for i, q := range queues {
		if w := s.lanes.lanesOfQueue(q.id).estimateSize(); i == 0 || w.average < least.average {
			least = w
		}
	}
	return least
}

// expected is the size by which a call plans. By their largest size tasks of about one size fit for sure. Rare large
// tasks are not to make the calls short, so tasks of mixed sizes count by their average.
func (w weight) expected() int {
	if w.largest <= 2*w.average {
		return w.largest
	}
	return w.average
}

// fitsForSure reports whether the picked tasks stay below the limits of requests, by the recent sizes of their queues.
func (s *Store) fitsForSure(requests []queue.RetainShare, picked []pickedTask) bool {
	largest := 0
	for i, k := range picked {
		if i > 0 && k.q == picked[i-1].q {
			continue
		}
		w := s.lanes.lanesOfQueue(k.q.id).estimateSize().largest
		if w == 0 {
			w = unknownBytes
		}
		largest = max(largest, w)
	}

	// The requests begin below MaxRetainBytes if all tasks but those of the last one fit into them.
	if n := len(picked) - requests[len(requests)-1].Limit; n*largest > queue.MaxRetainBytes {
		return false
	}

	for _, r := range requests {
		if n := min(r.Limit, len(picked)); r.MaxBytes > 0 && n > 1 && n*largest > r.MaxBytes {
			return false
		}
	}

	return true
}

// sumKeptBytes returns the bytes of payloads that a process keeps for requests after a wrong prediction; 0 = all.
func sumKeptBytes(requests []queue.RetainShare) (most int) {
	for _, r := range requests {
		if r.MaxBytes == 0 {
			return 0
		}
		most += wrongBy*r.MaxBytes + unknownBytes
	}
	return min(most, maxCallBytes+unknownBytes)
}

// groupElsewhere is the share of a task that goes back because its FIFO group is in the hand of a request without room for it.
// No retain can start it before the end of the tasks in that hand.
const groupElsewhere int16 = -1

// sharing assigns tasks to requests, one request after the other. Of a FIFO group several tasks may come, one behind the
// other; one request gets them, because two workers would run them at once.
type sharing struct {
	queue.Retain

	at    int // index of the present request
	tasks int // of the present request
	bytes int // of the present request
	read  int // bytes of all requests before it
	// group is that of the last task if more tasks of it may come, groupAt the request that has it.
	group   groupKey
	groupAt int
	back    int // tasks of groups that go back
}

// assignTask assigns a picked task of size bytes; false if all requests are full, or the call is.
func (s *sharing) assignTask(k *pickedTask, size int) bool {
	if k.isOfBatch() && k.groupKey() == s.group {
		s.assignFollower(k, size)
		return true
	}

	share, ok := s.takeShare(size)
	if !ok {
		return false
	}
	k.share = int16(share) //nolint:gosec // at most queue.MaxBatch
	if k.isOfBatch() {
		s.group, s.groupAt = k.groupKey(), share
	}
	return true
}

// assignFollower assigns a task to the request that has its group. When it does not fit, it goes back, with those behind it.
func (s *sharing) assignFollower(k *pickedTask, size int) {
	if !s.isShut(k) && s.fits(size) {
		s.tasks++
		s.bytes += size
		k.share = int16(s.at) //nolint:gosec // at most queue.MaxBatch
		return
	}

	if !s.isShut(k) { // no smaller task of another group passes it
		s.endRequest()
	}
	k.share = groupElsewhere
	s.back++
}

// isShut reports whether k belongs to a group that has no room left.
func (s *sharing) isShut(k *pickedTask) bool {
	return s.groupAt != s.at && k.isOfBatch() && k.groupKey() == s.group
}

// fits reports whether the present request takes a task of size bytes.
func (s *sharing) fits(size int) bool {
	r := s.Requests[s.at]
	return s.tasks < r.Limit && r.TakesBytes(s.tasks, s.bytes, size)
}

// endRequest goes on to the next request.
func (s *sharing) endRequest() {
	s.at++
	s.read += s.bytes
	s.tasks = 0
	s.bytes = 0
}

// takeShare returns the request that gets a task of size bytes; false if all requests are full, or the call is.
func (s *sharing) takeShare(size int) (share int, ok bool) {
	for s.at < len(s.Requests) && !s.EndsBefore(s.at, s.read) {
		if s.fits(size) {
			s.tasks++
			s.bytes += size
			return s.at, true
		}
		s.endRequest()
	}
	return 0, false
}

// countServed returns the number of requests that got tasks.
func (s *sharing) countServed() int {
	if s.tasks > 0 {
		return s.at + 1
	}
	return s.at
}

// gatherGroups moves the picked tasks of each FIFO batch together, to the place of the first one.
func (p *claim) gatherGroups(requests []queue.RetainShare) {
	if !slices.ContainsFunc(p.groups, func(g *groupPick) bool { return g.q.RunsBatches() }) {
		return
	}
	if len(requests) == 1 && requests[0].MaxBytes == 0 { // one request takes all tasks
		return
	}

	batches := map[groupKey][]pickedTask{}
	for _, k := range p.out {
		if k.isOfBatch() {
			batches[k.groupKey()] = append(batches[k.groupKey()], k)
		}
	}

	gathered := make([]pickedTask, 0, len(p.out))
	for _, k := range p.out {
		if !k.isOfBatch() {
			gathered = append(gathered, k)
			continue
		}
		gathered = append(gathered, batches[k.groupKey()]...)
		batches[k.groupKey()] = nil // the first one brought all of them
	}
	p.out = gathered
}

// shareOutTasks assigns the picked tasks to requests by number alone, and puts the others back.
func (p *claim) shareOutTasks(requests []queue.RetainShare) {
	p.gatherGroups(requests)
	s := sharing{Retain: queue.Retain{Requests: requests}}
	for i := range p.out {
		s.assignTask(&p.out[i], 0) // requests ask for at least as many tasks as were picked
	}
	p.settleShares(&s, len(p.out))
}

// settleShares puts the picked tasks back that no request got: some of the first fit ones, and all behind them.
func (p *claim) settleShares(s *sharing, fit int) {
	p.giveSuspect(s.Requests, fit)
	if fit < len(p.out) || s.back > 0 && len(p.out) == p.most { // more tasks may be ready for the requests behind
		p.answered = s.countServed()
	}

	rest := p.out[fit:]
	p.out = p.out[:fit]
	if s.back > 0 {
		kept := make([]pickedTask, 0, fit-s.back)
		back := make([]pickedTask, 0, s.back+len(rest))
		for _, k := range p.out {
			if k.share == groupElsewhere {
				back = append(back, k)
			} else {
				kept = append(kept, k)
			}
		}
		p.out, rest = kept, append(back, rest...)
	}
	if len(rest) > 0 {
		p.restorePicked(rest)
	}
}

// measurePicked reads picked tasks until the requests are full. It assigns those tasks and makes the others ready
// again. It does not read tasks with a present payload again.
func (s *Store) measurePicked(ctx context.Context, t *txn.Tx, requests []queue.RetainShare, p *claim) error {
	p.gatherGroups(requests)
	share := sharing{Retain: queue.Retain{Requests: requests}}
	fit, largest, left := 0, 0, 0
	for _, r := range requests {
		left += cmp.Or(r.MaxBytes, maxCallBytes)
	}
	left = min(left, maxCallBytes)

	// A piece has at most four times the tasks of the last one, and no more than fit by the largest size so far.
	for piece, full := firstPiece, false; fit < len(p.out) && !full; {
		part := p.out[fit:min(fit+piece, len(p.out))]
		unread := slices.DeleteFunc(slices.Clone(part), func(k pickedTask) bool { return k.task.Payload != nil || share.isShut(&k) })
		if len(unread) > 0 {
			keep := 0 // all of a single task
			if piece > 1 {
				keep = left + unknownBytes
			}
			queueTaskReading(t, unread, keep)
			if err := t.Flush(ctx); err != nil {
				return err
			}
		}

		next := 4 * piece
		for i := range part {
			k := &part[i]
			if k.task.Payload == nil && !share.isShut(k) { // the piece exceeded the expected bytes: the next one starts here
				next = 1
				break
			}
			size := k.task.Bytes()
			if full = !share.assignTask(k, size); full {
				break
			}
			fit++
			if k.share != groupElsewhere {
				largest, left = max(largest, size), max(left-size, 0)
			}
		}

		piece = max(min(next, left/max(largest, 1)), 1)
	}

	// The rest returns to the ready rows in the same transaction.
	p.settleShares(&share, fit)
	return nil
}

// restorePicked returns picked tasks to the ready rows, with their old turns.
func (p *claim) restorePicked(picked []pickedTask) {
	var runs []readyRow
	for i := range picked {
		k := &picked[i]
		if k.q.IsFIFO() { // it waits for its group again
			continue
		}
		if i > 0 && k.run == picked[i-1].run && k.turn == picked[i-1].turn+1 {
			runs[len(runs)-1].n++
			continue
		}
		runs = append(runs, readyRow{turn: k.turn, taskID: k.task.ID, queueID: k.q.id, lane: k.lane, attempt: k.attempt, n: 1, grp: groupPointer(k.grp)})
		p.rests = append(p.rests, remainder{lanes: p.store.lanes.lanesOfQueue(k.q.id), lane: k.lane, turn: k.turn})
	}
	p.restored = picked
	queueRows(p.tx, restoreRuns, runColumns, runs)
}

// cutSurplus cuts from the answers the tasks that exceed the limits because the prediction was wrong. It returns them, and the
// number of requests that are answered.
func cutSurplus(r queue.Retain, out [][]*queue.Task) (surplus []*queue.Task, answered int) {
	read := 0
	answered = len(out)
	for i, tasks := range out {
		if len(tasks) > 0 && answered == len(out) && (r.EndsBefore(i, read) || i > 0 && tasks[0].Payload == nil) {
			answered = i
		}

		bytes := 0
		for n, t := range tasks {
			size := t.Bytes()
			if i < answered && t.Payload != nil && r.Requests[i].TakesBytes(n, bytes, size) {
				bytes += size
				continue
			}

			// The request gets tasks in order, so all tasks behind the first one too many go back.
			surplus = append(surplus, tasks[n:]...)
			out[i] = tasks[:n:n]
			break
		}
		read += bytes
	}

	// Requests without tasks are to get those that go back.
	for len(surplus) > 0 && answered > 1 && len(out[answered-1]) == 0 {
		answered--
	}
	return surplus, answered
}

// handBacks repeats the hand-backs of surplus tasks, because their lapsed leases would spend a retry. It is safe for concurrent use.
type handBacks struct {
	mu     sync.Mutex
	closed bool
	open   sync.WaitGroup
}

// giveBack tries once while the retain waits, so that its other requests get the tasks. When that fails it repeats beside the
// retain, for at most queue.HandBackTimeout: the other tasks of the retain are under leases already.
func (h *handBacks) giveBack(ctx context.Context, to storeReleaser, tasks []*queue.Task) {
	if len(tasks) == 0 {
		return
	}
	back := make([]queue.Release, len(tasks))
	bare := make([]*queue.Task, len(tasks)) // the repeat keeps no payload in memory
	for i, t := range tasks {
		back[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeHandBack, Quiet: true}
		bare[i] = &queue.Task{ID: t.ID, Lease: &queue.Lease{Token: t.Lease.Token}}
	}
	released, err := to.ReleaseTasks(context.WithoutCancel(ctx), back)
	if err == nil && !slices.ContainsFunc(released, func(out queue.Released) bool { return out.Err != nil }) {
		return
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.open.Go(func() { _ = queue.HandBack(ctx, to, bare) }) // tasks that stay held come back when their leases lapse
	}
}

// close waits for the running repeats, at most queue.HandBackTimeout.
func (h *handBacks) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.open.Wait()
}

// storeReleaser releases tasks of one namespace.
type storeReleaser struct {
	*Store
	namespace string
}

// ReleaseTasks implements queue.Releaser.
func (r storeReleaser) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	return r.Store.ReleaseTasks(ctx, r.namespace, releases)
}
