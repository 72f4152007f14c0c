package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// fewWaiting is up to how many waiting tasks the narrow rows are read and sorted whole for a list.
const fewWaiting = 20_000

// mostHidden bounds the count of tasks past retention that are counted still.
const mostHidden = 100_000

// mostCounted is up to how many tasks a list counts that the kept counts do not know.
const mostCounted = 1_000

// mostSeen is how many rows of a table a list looks at that no index serves, over all queues: by worker, and of many
// waiting tasks the oldest first.
const mostSeen = 10_000

// edgeQueues are in how many queues the ids of a time are looked for; those of one tell about all.
const edgeQueues = 16

// edgeSlack is by how much ids and times of creation may be out of step: what lies between the two in one create, and what
// the clocks of a server and of one that takes over from it differ by.
const edgeSlack = 10 * time.Second

// listing is a filter in the tables' terms, and the ways to walk it.
type listing struct {
	filter   queue.TaskFilter
	queues   []int32
	statuses []int16
	ways     []way
	from     int64 // ids below were created before the filter's times, those from before on after them
	before   int64
	count    int64
	counted  bool // the kept counts answer it
	up       bool // walks upwards
}

// way is a statement that walks some of the statuses.
type way struct {
	name     string
	statuses []int16
}

// planListing prepares the walk of a filter, downwards or upwards.
func (s *Store) planListing(ctx context.Context, op, namespace string, f queue.TaskFilter, up bool) (*listing, error) {
	l := &listing{filter: f, up: up, before: maxID}
	var names []string
	if f.Queue != "" {
		names = []string{f.Queue}
	}

	queues, err := s.findQueues(ctx, namespace, names)
	if queue.KindOf(err) == queue.KindNotFound { // an unknown queue has no tasks
		return l, nil
	}
	if err != nil {
		return nil, err
	}

	for _, q := range queues {
		l.queues = append(l.queues, q.id)
	}

	statuses := f.Statuses
	if len(statuses) == 0 {
		statuses = queue.Statuses()
	}

	for _, st := range statuses {
		if c := statusCodes[st]; !slices.Contains(l.statuses, c) {
			l.statuses = append(l.statuses, c)
		}
	}

	stats, err := s.counts(ctx, namespace, f.Queue)
	if err != nil {
		return nil, err
	}

	waiting := int64(0)
	for _, c := range stats {
		waiting += c.by[statusNew] + c.by[statusRetry]
		for _, st := range l.statuses {
			l.count += c.by[st]
		}
	}

	l.counted = f.Worker == "" && f.CreatedAfter.IsZero() && f.CreatedBefore.IsZero()
	l.ways = chooseWalks(l.statuses, f.Worker != "", waiting <= fewWaiting, up)
	return l, s.findEdges(ctx, op, l, stats)
}

// chooseWalks are the ways to walk statuses.
func chooseWalks(statuses []int16, worker, few, up bool) []way {
	switch {
	case worker:
		return []way{{"list.worker", statuses}}
	case len(statuses) == len(queue.Statuses()):
		return []way{{"list.any", statuses}}
	}

	var ways []way
	split := func(name string, set ...int16) {
		var some []int16
		for _, c := range statuses {
			if slices.Contains(set, c) {
				some = append(some, c)
			}
		}
		if len(some) > 0 {
			ways = append(ways, way{name, some})
		}
	}

	switch {
	case few:
		split("list.waiting", statusNew, statusRetry)
	case up && slices.Contains(statuses, statusRetry): // states of tasks that have ended would come first
		return []way{{"list.all", statuses}}
	case slices.Contains(statuses, statusNew): // the most, so that any walk comes by
		return []way{{"list.all", statuses}}
	default:
		split("list.retry", statusRetry)
	}

	split("list.retained", statusRetained)
	split("list.released", statusReleased)
	split("list.unwell", statusFailed, statusExpired, statusCancelled)
	return ways
}

// findEdges narrows l to the ids of its times.
func (s *Store) findEdges(ctx context.Context, op string, l *listing, stats []queueCounts) error {
	if l.filter.CreatedAfter.IsZero() && l.filter.CreatedBefore.IsZero() || len(l.queues) == 0 {
		return nil
	}

	size := func(c queueCounts) (n int64) {
		for _, by := range c.by {
			n += by
		}
		return n
	}

	slices.SortFunc(stats, func(a, b queueCounts) int { return cmp.Compare(size(b), size(a)) })
	var in []int32
	for _, c := range stats[:min(len(stats), edgeQueues)] {
		in = append(in, c.id)
	}

	edge := func(at time.Time, id *int64) error {
		return s.query(ctx, op, "list.edge", func(rows pgx.Rows) error { return rows.Scan(id) }, in, at)
	}

	if t := l.filter.CreatedAfter; !t.IsZero() {
		if err := edge(t.Add(-edgeSlack), &l.from); err != nil {
			return err
		}
	}

	if t := l.filter.CreatedBefore; !t.IsZero() {
		return edge(t.Add(edgeSlack), &l.before)
	}
	return nil
}

// found are tasks of a list, in the order of the walk.
type found struct {
	queues []int32
	ids    []int64
	more   bool // the walk ended before the list did, with id end looked at
	end    int64
}

func (f *found) cutToLimit(n int) { f.queues, f.ids = f.queues[:n], f.ids[:n] }

// walkRows gives the tasks of l behind an id, in l's direction: limit of them behind an offset, or fewer where l ends or
// more says that the walk does.
func (s *Store) walkRows(ctx context.Context, op string, l *listing, behind int64, offset, limit int) (found, error) {
	var out found

	from, before, suffix := l.from, min(behind, l.before), ""
	if l.up {
		from, before, suffix = max(l.from, behind+1), l.before, upwards
	}

	bounded := l.filter.Worker != "" || l.up && l.ways[0].name == "list.all" // in how many rows it looks at
	skip := 0
	if len(l.ways) > 1 || bounded { // only the merged rows can be skipped
		skip, offset, limit = offset, 0, offset+limit
	}

	type row struct {
		id    int64
		queue int32
	}

	var rows []row
	for _, w := range l.ways {
		args := []any{l.queues, from, before, timePointer(l.filter.CreatedAfter), timePointer(l.filter.CreatedBefore), offset, limit, w.statuses}
		if l.filter.Worker != "" {
			args = append(args, l.filter.Worker)
		}

		if bounded {
			args = append(args, max(mostSeen/len(l.queues), 200))
		}

		err := s.query(ctx, op, w.name+suffix, func(r pgx.Rows) error {
			var one row
			err := r.Scan(&one.queue, &one.id)
			rows = append(rows, one)
			return err
		}, args...)
		if err != nil {
			return out, err
		}
	}

	if len(l.ways) > 1 {
		slices.SortFunc(rows, func(a, b row) int {
			if l.up {
				return cmp.Compare(a.id, b.id)
			}
			return cmp.Compare(b.id, a.id)
		})
		rows = rows[:min(len(rows), limit)]
	}

	for _, r := range rows {
		if r.queue == 0 {
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
		out.queues, out.ids = append(out.queues, r.queue), append(out.ids, r.id)
	}
	return out, nil
}

// countRows tells how many tasks l has; where the kept counts do not know, it counts as far as that takes little.
func (s *Store) countRows(ctx context.Context, op string, l *listing) (n int64, atLeast bool, err error) {
	if n = l.count; !l.counted {
		if l.up { // the other way finds as many, and ends where that takes long as it always did
			down := *l
			down.up = false
			l = &down
		}

		f, err := s.walkRows(ctx, op, l, maxID, 0, mostCounted+1)
		if err != nil {
			return 0, false, err
		}

		n, atLeast = int64(len(f.ids)), f.more
		if n > mostCounted {
			n, atLeast = mostCounted, true
		}

		if l.ways[0].name != "list.any" { // the others leave out what is past retention
			return n, atLeast, nil
		}
	}

	if !slices.ContainsFunc(l.statuses, func(c int16) bool { return c >= statusReleased }) {
		return n, atLeast, nil
	}

	hidden := int64(0)
	err = s.runInTx(ctx, op, func(ctx context.Context, t *tx) error {
		t.queueStatement(allowBitmaps, arg("other_indexes", "off"))
		return t.read(ctx, "list.hidden", func(rows pgx.Rows) error { return rows.Scan(&hidden) }, l.queues, l.from, l.before,
			timePointer(l.filter.CreatedAfter), timePointer(l.filter.CreatedBefore), mostHidden, l.statuses)
	})

	return max(n-hidden, 0), atLeast, err
}
