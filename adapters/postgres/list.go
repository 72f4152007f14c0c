package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// fewWaiting limits the waiting tasks of which a list reads and sorts all narrow rows.
const fewWaiting = 20_000

// mostHidden limits the count of finished tasks past retention. The kept counts still contain these tasks.
const mostHidden = 100_000

// mostCounted limits the tasks that a list counts one by one when the kept counts do not answer its filter.
const mostCounted = 1_000

// mostSeen limits the rows that a list reads where no index serves it, over all queues. These are lists by worker, and
// lists of many waiting tasks with the oldest first.
const mostSeen = 10_000

// The tasks of which a step of a search for a text reads the payloads. The first step is small, because payloads may have
// 1 MiB each, and a search must get on within its time.
const (
	textStepFirst = 64
	textStepMost  = 1024
)

// edgeQueues limits the queues in which a list looks up the ids of a time. The ids of one queue suffice for all queues.
const edgeQueues = 16

// edgeSlack bounds the disagreement between the order of ids and the order of creation times. Two sources add to it:
// the time between the two within one create, and the clock difference between a server and its successor.
const edgeSlack = 10 * time.Second

// listing is a filter in terms of the tables, with the walks that serve it.
type listing struct {
	filter   queue.TaskFilter
	queues   []int32
	statuses []int16
	ways     []way
	from     int64 // tasks with lower ids are older than the filter's times
	before   int64 // tasks from this id on are newer than the filter's times
	count    int64 // sum of the kept counts over the filter's queues and statuses
	counted  bool  // the kept counts answer the filter
	up       bool  // ascending ids
	rowLimit int   // rows of a queue that a bounded walk reads; 0 = a share of mostSeen
}

// way is a walk over the tasks of some statuses.
type way struct {
	walk     walk
	statuses []int16
}

// walk is a statement that lists tasks, in both directions.
type walk struct{ down, up sqltext.Statement }

// makeWalk returns the walk called name.
func makeWalk(name string) walk { return walk{down: statement(name), up: statement(name + upwards)} }

// inOrder returns the statement of the walk in ascending order if up is set, or else in descending order.
func (w walk) inOrder(up bool) sqltext.Statement {
	if up {
		return w.up
	}
	return w.down
}

// The walks, each for the statuses that it serves best.
var (
	walkAny      = makeWalk("list.any") // all tasks, those past retention too
	walkAll      = makeWalk("list.all")
	walkWaiting  = makeWalk("list.waiting")
	walkRetry    = makeWalk("list.retry")
	walkRetained = makeWalk("list.retained")
	walkReleased = makeWalk("list.released")
	walkUnwell   = makeWalk("list.unwell")
	walkWorker   = makeWalk("list.worker")
	walkKey      = makeWalk("list.key")
	walkFinished = makeWalk("list.finished")
	walkText     = makeWalk("list.text")
)

var (
	findEdge    = statement("list.edge")
	findEnds    = statement("list.ends")
	countHidden = statement("list.hidden")
)

// planListing prepares the walk of a filter: ascending if up is set, descending otherwise. An unknown queue gives a
// listing without tasks.
func (s *Store) planListing(ctx context.Context, op, namespace string, f queue.TaskFilter, up bool) (*listing, error) {
	l := &listing{filter: f, up: up, before: maxID}
	var names []string
	if f.Queue != "" {
		names = []string{f.Queue}
	}

	queues, err := s.findQueues(ctx, namespace, names)
	if queue.KindOf(err) == queue.KindNotFound { // an unknown queue contains no tasks
		return l, nil
	}
	if err != nil {
		return nil, err
	}

	for _, q := range queues {
		l.queues = append(l.queues, q.id)
	}

	// A filter may name a status twice; a walk must not list its tasks twice.
	for _, st := range orAll(f.Statuses) {
		if c := statusCodes[st]; !slices.Contains(l.statuses, c) && (st.Finished() || f.FinishedAfter.IsZero() && f.FinishedBefore.IsZero()) {
			l.statuses = append(l.statuses, c)
		}
	}

	stats, err := s.counts(ctx, namespace, f.Queue)
	if err != nil {
		return nil, err
	}

	// The number of waiting tasks decides between sorting all of them and walking in the order of ids.
	waiting := int64(0)
	for _, c := range stats {
		waiting += c.byStatus[statusNew] + c.byStatus[statusRetry]
		for _, st := range l.statuses {
			l.count += c.byStatus[st]
		}
	}

	l.counted = f.SelectsByState()
	l.ways = chooseWalks(f, l.statuses, waiting <= fewWaiting, up)
	if f.Text != "" {
		l.rowLimit = textStepMost
	}
	return l, s.findEdges(ctx, op, l, stats)
}

// chooseWalks returns the statements that walk the tasks of a filter with the given statuses.
func chooseWalks(f queue.TaskFilter, statuses []int16, few, up bool) []way {
	switch {
	case f.Key != "":
		return []way{{walkKey, statuses}}
	case f.Text != "":
		return []way{{walkText, statuses}}
	case !f.FinishedAfter.IsZero() || !f.FinishedBefore.IsZero():
		return []way{{walkFinished, statuses}}
	case f.Worker != "":
		return []way{{walkWorker, statuses}}
	case len(statuses) == len(queue.Statuses()):
		return []way{{walkAny, statuses}}
	}

	var ways []way
	split := func(walk walk, set ...int16) {
		var some []int16
		for _, c := range statuses {
			if slices.Contains(set, c) {
				some = append(some, c)
			}
		}
		if len(some) > 0 {
			ways = append(ways, way{walk, some})
		}
	}

	// A few waiting tasks are cheap to sort; many need a walk in the order of ids.
	switch {
	case few:
		split(walkWaiting, statusNew, statusRetry)
	case up && slices.Contains(statuses, statusRetry): // walkRetry would read the rows of finished tasks first
		return []way{{walkAll, statuses}}
	case slices.Contains(statuses, statusNew): // most tasks are new, so a walk over all reaches them soon
		return []way{{walkAll, statuses}}
	default:
		split(walkRetry, statusRetry)
	}

	split(walkRetained, statusRetained)
	split(walkReleased, statusReleased)
	split(walkUnwell, statusFailed, statusExpired, statusCancelled)
	return ways
}

// findEdges narrows l to the ids that belong to the times of its filter.
func (s *Store) findEdges(ctx context.Context, op string, l *listing, stats []queueCounts) error {
	// A task was created before it was finished, so the end of both ranges bounds its id.
	createdBefore := l.filter.CreatedBefore
	if t := l.filter.FinishedBefore; !t.IsZero() && (createdBefore.IsZero() || t.Before(createdBefore)) {
		createdBefore = t
	}
	if l.filter.CreatedAfter.IsZero() && createdBefore.IsZero() || len(l.queues) == 0 {
		return nil
	}

	// The largest queues have the most ids near any time.
	size := func(c queueCounts) (n int64) {
		for _, by := range c.byStatus {
			n += by
		}
		return n
	}

	slices.SortFunc(stats, func(a, b queueCounts) int { return cmp.Compare(size(b), size(a)) })
	var in []int32
	for _, c := range stats[:min(len(stats), edgeQueues)] {
		in = append(in, c.id)
	}

	var err error
	if t := l.filter.CreatedAfter; !t.IsZero() {
		if l.from, err = s.findEdge(ctx, op, in, t.Add(-edgeSlack)); err != nil {
			return err
		}
	}

	if !createdBefore.IsZero() {
		l.before, err = s.findEdge(ctx, op, in, createdBefore.Add(edgeSlack))
	}
	return err
}

// findEdge returns the id from which on the tasks of queues were created at a time or later.
func (s *Store) findEdge(ctx context.Context, op string, queueIDs []int32, at time.Time) (id int64, err error) {
	err = s.db.Query(ctx, op, findEdge, func(rows pgx.Rows) error { return rows.Scan(&id) }, arg("queue_ids", queueIDs), arg("at", at))
	return id, err
}

// found holds the tasks of a list in the order of the walk.
type found struct {
	tasks []taskPlace
	more  bool // the walk ended before the list, after it had read the task with id end
	end   int64
}

// Lists over more than manyQueues queues look at one window of ids after the other: each queue costs a probe, and so does each of its
// rows up to the limit, while a window has at most as many rows as ids. The windows grow, so that few tasks among many cost few probes.
const (
	manyQueues   = 16
	firstWindow  = int64(1 << 16)
	windowGrowth = 8
)

// walkRows returns tasks of l that follow an id in the direction of l. It skips offset tasks and returns at most limit
// of them. It returns fewer at the end of l, or when the walk ended early and more is set.
func (s *Store) walkRows(ctx context.Context, op string, l *listing, behind int64, offset, limit int) (found, error) {
	if len(l.queues) <= manyQueues || !l.hasWindows() {
		return s.walkQueues(ctx, op, l, behind, offset, limit)
	}

	var low, high int64 // all ids are in [low, high)
	err := s.db.Query(ctx, op, findEnds, func(rows pgx.Rows) error { return rows.Scan(&low, &high) })
	if err != nil {
		return found{}, err
	}
	from, before := max(l.from, low), min(l.before, high)
	if l.up {
		from = max(from, behind+1)
	} else {
		before = min(before, behind)
	}

	var out found
	for window := firstWindow; from < before; window *= windowGrowth {
		part := *l
		part.from, part.before, part.rowLimit = max(from, before-window), before, int(firstWindow)
		next := part.from
		if l.up {
			part.from, part.before = from, min(before, from+window)
			next = part.before - 1
		}
		start := maxID
		if l.up {
			start = 0
		}
		some, err := s.walkQueues(ctx, op, &part, start, 0, offset+limit-len(out.tasks))
		if err != nil {
			return out, err
		}
		out.tasks = append(out.tasks, some.tasks...)

		if l.up {
			from = part.before
		} else {
			before = part.from
		}
		if len(out.tasks) >= offset+limit {
			break
		}
		// A walk with a bound on its rows reads one window alone.
		if l.isBounded() && from < before {
			out.more, out.end = true, next
			break
		}
	}
	out.tasks = out.tasks[min(offset, len(out.tasks)):]
	return out, nil
}

// hasWindows reports whether windows of ids spare the walks of l work. A key, and few waiting tasks, are found without.
func (l *listing) hasWindows() bool {
	return !slices.ContainsFunc(l.ways, func(w way) bool { return w.walk == walkKey || w.walk == walkWaiting && len(l.ways) == 1 })
}

// walkQueues is walkRows over all ids at once.
func (s *Store) walkQueues(ctx context.Context, op string, l *listing, behind int64, offset, limit int) (found, error) {
	var out found

	from, before := l.from, min(behind, l.before)
	if l.up {
		from, before = max(l.from, behind+1), l.before
	}

	// Only merged rows can be skipped, so each statement reads from the start.
	skip := 0
	if len(l.ways) > 1 || l.isBounded() {
		skip, offset, limit = offset, 0, offset+limit
	}

	var rows []taskPlace
	for _, w := range l.ways {
		args := append(l.walkArgs(w), arg("from_id", from), arg("before_id", before), arg("offset", offset), arg("limit", limit))

		each := scanRows(placeColumns, func(one taskPlace) { rows = append(rows, one) })
		if err := s.db.Query(ctx, op, w.walk.inOrder(l.up), each, args...); err != nil {
			return out, err
		}
	}

	// Each walk is sorted, but their union is not.
	if len(l.ways) > 1 {
		sortPlaces(rows, l.up)
		rows = rows[:min(len(rows), limit)]
	}

	// A row without a queue marks the place at which a bounded walk ended.
	for _, r := range rows {
		if r.queueID == 0 {
			// The next page begins with the marked row, so the cursor lies just before it.
			out.more, out.end = true, r.id+1
			if l.up {
				out.end = r.id - 1
			}
			break
		}
		if skip > 0 {
			skip--
			continue
		}
		out.tasks = append(out.tasks, r)
	}
	return out, nil
}

// isBounded reports whether the walks of l limit the rows that they read, because no index serves them.
func (l *listing) isBounded() bool {
	switch l.ways[0].walk {
	case walkWorker, walkFinished, walkText:
		return true
	case walkAll:
		return l.up
	}
	return false
}

// searchesText reports whether l looks for a text in payloads.
func (l *listing) searchesText() bool { return l.ways[0].walk == walkText }

// walkArgs returns the arguments of a walk except for its range.
func (l *listing) walkArgs(w way) []sqltext.Arg {
	f := l.filter
	args := l.filterArgs(w.statuses)
	switch w.walk {
	case walkWorker:
		args = append(args, arg("worker", f.Worker))
	case walkKey, walkFinished, walkText:
		args = append(args, arg("worker", textPointer(f.Worker)),
			arg("finished_after", timePointer(f.FinishedAfter)), arg("finished_before", timePointer(f.FinishedBefore)))
	}

	switch w.walk {
	case walkKey:
		args = append(args, arg("key", f.Key), arg("text", textPointer(f.Text)))
	case walkText:
		args = append(args, arg("text", f.Text))
	}

	if l.isBounded() {
		args = append(args, arg("row_limit", cmp.Or(l.rowLimit, max(mostSeen/len(l.queues), 200))))
	}
	return args
}

// searchText is walkRows for a filter with a text that no key narrows. It walks in steps until it has limit tasks, has looked
// at queue.MaxTextExamined, or the time within is over, and returns how many it looked at. The first step runs in any case.
func (s *Store) searchText(
	ctx context.Context, op string, l *listing, behind int64, offset, limit int, within time.Duration,
) (out found, examined int64, err error) {
	deadline := time.Now().Add(within)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	step := *l
	step.rowLimit = textStepFirst
	for {
		began := time.Now()
		// The first step has no bound of its own: a page must move on, or a search with slow steps would never end.
		call := bounded
		if examined == 0 {
			call = ctx
		}
		f, err := s.walkRows(call, op, &step, behind, 0, offset+limit-len(out.tasks))
		if err != nil && examined > 0 && bounded.Err() != nil && ctx.Err() == nil {
			break // the time is over within a step: the next page begins with it
		}
		if err != nil {
			return out, examined, err
		}

		out.tasks = append(out.tasks, f.tasks...)
		out.more, out.end = f.more, f.end
		examined += int64(step.rowLimit)
		if !f.more || len(out.tasks) >= offset+limit || examined >= queue.MaxTextExamined || !time.Now().Before(deadline) {
			break
		}

		behind = f.end
		// Steps grow while one takes less than a tenth of the time, so the last one is late by little.
		if time.Since(began) < within/10 {
			step.rowLimit = min(2*step.rowLimit, textStepMost, int(queue.MaxTextExamined-examined))
		}
	}

	out.tasks = out.tasks[min(offset, len(out.tasks)):]
	return out, examined, nil
}

// sortPlaces sorts places by id, ascending if up is set.
func sortPlaces(places []taskPlace, up bool) {
	slices.SortFunc(places, func(a, b taskPlace) int {
		if up {
			return cmp.Compare(a.id, b.id)
		}
		return cmp.Compare(b.id, a.id)
	})
}

// filterArgs returns the arguments of the filter that all walks have, for tasks of the given statuses.
func (l *listing) filterArgs(statuses []int16) []sqltext.Arg {
	return []sqltext.Arg{
		arg("queue_ids", l.queues), arg("statuses", statuses),
		arg("created_after", timePointer(l.filter.CreatedAfter)), arg("created_before", timePointer(l.filter.CreatedBefore)),
	}
}

// countRows returns the number of tasks of l. Where the kept counts do not answer, it counts at most mostCounted tasks.
// It sets atLeast if there may be more.
func (s *Store) countRows(ctx context.Context, op string, l *listing) (n int64, atLeast bool, err error) {
	if n = l.count; !l.counted {
		if l.up { // the descending walk finds as many tasks and keeps its bound on rows
			down := *l
			down.up = false
			l = &down
		}

		f, err := s.walkRows(ctx, op, l, maxID, 0, mostCounted+1)
		if err != nil {
			return 0, false, err
		}

		n, atLeast = int64(len(f.tasks)), f.more
		if n > mostCounted {
			n, atLeast = mostCounted, true
		}

		if l.ways[0].walk != walkAny { // the other statements leave out tasks past retention
			return n, atLeast, nil
		}
	}

	if !slices.ContainsFunc(l.statuses, func(c int16) bool { return c >= statusReleased }) {
		return n, atLeast, nil
	}

	// The kept counts contain finished tasks past retention, so their number is subtracted.
	hidden := int64(0)
	err = s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		t.Queue(allowBitmaps, arg("other_indexes", "off"))
		return t.Query(ctx, countHidden, func(rows pgx.Rows) error { return rows.Scan(&hidden) },
			append(l.filterArgs(l.statuses), arg("from_id", l.from), arg("before_id", l.before), arg("limit", mostHidden))...)
	})

	return max(n-hidden, 0), atLeast, err
}
