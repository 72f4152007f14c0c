package queuetest

import (
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func (e *env) list(f queue.TaskFilter, p queue.Page) queue.TaskPage {
	e.Helper()
	page, err := e.s.ListTasks(e.ctx(), e.ns, queue.TaskQuery{TaskFilter: f, Page: p})
	e.ok(err)
	return page
}

func testList(e *env) {
	e.it("a list has the newest first and counts all that match", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 7)
		slices.Reverse(made)
		page := e.list(queue.TaskFilter{}, queue.Page{Limit: 3})
		e.equal("ids", ids(page.Tasks), made[:3])
		e.equal("count", page.Count, int64(7))
		page = e.list(queue.TaskFilter{}, queue.Page{Limit: 3, Offset: 5})
		e.equal("ids", ids(page.Tasks), made[5:])
		e.equal("count", page.Count, int64(7))
		page = e.list(queue.TaskFilter{}, queue.Page{Offset: 100})
		e.equal("ids", ids(page.Tasks), []int64{})
		e.equal("count", page.Count, int64(7))
	})
	e.it("cursors walk through everything once, whatever comes in meanwhile", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 25)
		slices.Reverse(made)
		var got []int64
		cursor := ""
		for {
			page := e.list(queue.TaskFilter{Queue: "q"}, queue.Page{Limit: 10, Cursor: cursor})
			got = append(got, ids(page.Tasks)...)
			if cursor = page.Next; cursor == "" {
				break
			}
			e.createN("q", 3)
		}
		e.equal("ids", got, made)
	})
	e.it("a page that ends exactly at the end has no next", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 4)
		first := e.list(queue.TaskFilter{}, queue.Page{Limit: 2})
		if first.Next == "" {
			e.Fatal("no next page of 4 after 2")
		}
		e.equal("next", e.list(queue.TaskFilter{}, queue.Page{Limit: 2, Cursor: first.Next}).Next, "")
		e.equal("next", e.list(queue.TaskFilter{}, queue.Page{Limit: 4}).Next, "")
	})
	e.it("a bad cursor is invalid and says so", func(e *env) {
		for _, c := range []string{"x!", "-1", "🦆", long(5000), "99999999999999999999999999"} {
			_, err := e.s.ListTasks(e.ctx(), e.ns, queue.TaskQuery{Page: queue.Page{Limit: 1, Cursor: c}})
			e.kind(err, queue.KindInvalid)
			e.subject(err, "", "cursor")
		}
	})
	e.it("a list is filtered by queue, status, worker and time", func(e *env) {
		e.queue("a", queue.QueueMeta{})
		e.queue("b", queue.QueueMeta{})
		old := e.createN("a", 3)
		e.advance(10 * time.Hour)
		young := e.createN("b", 2)
		held := e.retain("ann", 1, "a")[0]
		done := e.retain("bob", 1, "a")[0]
		e.release(done, queue.OutcomeSuccess, "")
		between := e.get(young[0]).CreatedAt.Add(-time.Hour)
		for _, c := range []struct {
			name string
			f    queue.TaskFilter
			want []int64
		}{
			{"queue", queue.TaskFilter{Queue: "b"}, young},
			{"unknown queue", queue.TaskFilter{Queue: "none"}, nil},
			{"status", queue.TaskFilter{Statuses: []queue.Status{queue.StatusNew}}, append([]int64{old[2]}, young...)},
			{"statuses", queue.TaskFilter{Statuses: []queue.Status{queue.StatusRetained, queue.StatusReleased}}, []int64{held.ID, done.ID}},
			{"queue and status", queue.TaskFilter{Queue: "a", Statuses: []queue.Status{queue.StatusNew}}, old[2:]},
			{"worker", queue.TaskFilter{Worker: "ann"}, []int64{held.ID}},
			{"last worker", queue.TaskFilter{Worker: "bob"}, []int64{done.ID}},
			{"unknown worker", queue.TaskFilter{Worker: "eve"}, nil},
			{"created after", queue.TaskFilter{CreatedAfter: between}, young},
			{"created before", queue.TaskFilter{CreatedBefore: between}, old},
			{"created between", queue.TaskFilter{CreatedAfter: between.Add(-time.Minute), CreatedBefore: between}, nil},
			{"all of it", queue.TaskFilter{
				Queue: "a", Statuses: []queue.Status{queue.StatusReleased}, Worker: "bob", CreatedBefore: between,
			}, []int64{done.ID}},
		} {
			want := slices.Clone(c.want)
			slices.Sort(want)
			slices.Reverse(want)
			page := e.list(c.f, queue.Page{})
			if !slices.Equal(ids(page.Tasks), want) || page.Count != int64(len(want)) {
				e.Errorf("%s: %v (%d), want %v", c.name, ids(page.Tasks), page.Count, want)
			}
		}
	})
	e.it("a filter's times are exclusive", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		t := e.create("q", queue.TaskMeta{})
		e.equal("after", e.list(queue.TaskFilter{CreatedAfter: t.CreatedAt}, queue.Page{}).Count, int64(0))
		e.equal("before", e.list(queue.TaskFilter{CreatedBefore: t.CreatedAt}, queue.Page{}).Count, int64(0))
	})
	for _, s := range queue.Statuses() {
		e.it("a list by status finds a task that is "+string(s), func(e *env) {
			t := e.reach(s)
			for _, by := range queue.Statuses() {
				page := e.list(queue.TaskFilter{Statuses: []queue.Status{by}}, queue.Page{})
				want := []int64{}
				if by == s {
					want = []int64{t.ID}
				}
				e.equal("listed by "+string(by), ids(page.Tasks), want)
			}
		})
	}
	e.it("ids that are not there are left out, and many may be asked for", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 300)
		got, err := e.s.GetTasks(e.ctx(), e.ns, append(slices.Clone(made), 1<<60, 1<<61), false)
		e.ok(err)
		found := ids(got)
		slices.Sort(found)
		e.equal("ids", found, made)
	})
}
