package queuetest

import (
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func (e *env) list(f queue.TaskFilter, p queue.Page) queue.TaskPage {
	e.Helper()
	page, err := e.s.ListTasks(e.ctx(), e.ns, queue.TaskQuery{TaskFilter: f, Page: p})
	e.ok(err)
	return page
}

func (e *env) listOldest(f queue.TaskFilter, p queue.Page) queue.TaskPage {
	e.Helper()
	page, err := e.s.ListTasks(e.ctx(), e.ns, queue.TaskQuery{TaskFilter: f, Page: p, OldestFirst: true})
	e.ok(err)
	return page
}

// noise returns a JSON text of about n bytes that hardly compresses.
func noise(n int) string {
	b := make([]byte, n*3/4)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return `"` + base64.StdEncoding.EncodeToString(b) + `"`
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
	e.it("a list is filtered by key, by finish time and by a text of the payload", func(e *env) {
		e.queue("a", queue.QueueMeta{RetryDelay: new(1000 * time.Hour)})
		e.queue("b", queue.QueueMeta{})
		ann := e.create("a", queue.TaskMeta{Key: "k", Payload: json.RawMessage(`{"to": "ann", "big": 12345678901234567890}`)})
		bob := e.create("a", queue.TaskMeta{Key: "other", Payload: json.RawMessage(`{"to":"bob"}`)})
		same := e.create("b", queue.TaskMeta{Key: "k", Payload: json.RawMessage(`"100% ann_"`)})
		open := e.create("a", queue.TaskMeta{Payload: json.RawMessage(`{"to":"cid"}`)})

		e.advance(10 * time.Hour)
		early := e.release(e.hold("a"), queue.OutcomeSuccess, "")
		e.advance(10 * time.Hour)
		e.release(e.retain("bee", 1, "a")[0], queue.OutcomePermanent, "")
		e.release(e.hold("b"), queue.OutcomeSuccess, "")
		e.release(e.hold("a"), queue.OutcomeFailure, "")
		noon := early.FinishedAt.Add(time.Hour)

		for _, c := range []struct {
			name string
			f    queue.TaskFilter
			want []int64
		}{
			{"key", queue.TaskFilter{Key: "k"}, []int64{ann.ID, same.ID}},
			{"key of a queue", queue.TaskFilter{Queue: "b", Key: "k"}, []int64{same.ID}},
			{"unknown key", queue.TaskFilter{Key: "K"}, nil},
			{"key and status", queue.TaskFilter{Key: "k", Statuses: []queue.Status{queue.StatusFailed}}, nil},
			{"key and time", queue.TaskFilter{Key: "k", FinishedAfter: noon}, []int64{same.ID}},
			{"key and creation", queue.TaskFilter{Key: "k", CreatedAfter: noon}, nil},
			{"key and worker", queue.TaskFilter{Key: "other", Worker: "bee"}, []int64{bob.ID}},
			{"key and text", queue.TaskFilter{Queue: "a", Key: "k", Text: "bob"}, nil},
			{"finished before", queue.TaskFilter{FinishedBefore: noon}, []int64{ann.ID}},
			{"finished after", queue.TaskFilter{FinishedAfter: noon}, []int64{bob.ID, same.ID}},
			{"finished at that time", queue.TaskFilter{FinishedAfter: early.FinishedAt, FinishedBefore: noon}, nil},
			{"finished and waiting", queue.TaskFilter{FinishedAfter: early.CreatedAt, Statuses: []queue.Status{queue.StatusRetry}}, nil},
			{"finished with a status", queue.TaskFilter{FinishedAfter: noon, Statuses: []queue.Status{queue.StatusFailed}}, []int64{bob.ID}},
			{"finished by a worker", queue.TaskFilter{FinishedAfter: noon, Worker: "w"}, []int64{same.ID}},
			{"finished and created", queue.TaskFilter{FinishedAfter: noon, CreatedAfter: noon}, nil},
			{"text", queue.TaskFilter{Queue: "a", Text: `"ann`}, []int64{ann.ID}},
			{"text as it was sent", queue.TaskFilter{Queue: "a", Text: `: "ann", "big": 12345678901234567890`}, []int64{ann.ID}},
			{"text in another case", queue.TaskFilter{Queue: "a", Text: "ANN"}, nil},
			{"text without patterns", queue.TaskFilter{Queue: "b", Text: "% ann_"}, []int64{same.ID}},
			{"text like a pattern", queue.TaskFilter{Queue: "b", Text: "%_"}, nil},
			{"text and status", queue.TaskFilter{Queue: "a", Text: "to", Statuses: []queue.Status{queue.StatusRetry}}, []int64{open.ID}},
			{"text and finish time", queue.TaskFilter{Queue: "a", Text: "to", FinishedAfter: noon}, []int64{bob.ID}},
			{"text and worker", queue.TaskFilter{Queue: "a", Text: "to", Worker: "bee"}, []int64{bob.ID}},
			{"text and creation", queue.TaskFilter{Queue: "a", Text: "to", CreatedAfter: noon}, nil},
		} {
			want := append([]int64{}, c.want...)
			up := e.listOldest(c.f, queue.Page{})
			page := e.list(c.f, queue.Page{})
			if !slices.Equal(ids(up.Tasks), want) || up.Count != int64(len(want)) {
				e.Errorf("%s, the oldest first: %v (%d), want %v", c.name, ids(up.Tasks), up.Count, want)
			}
			slices.Reverse(want)
			if !slices.Equal(ids(page.Tasks), want) || page.Count != int64(len(want)) || page.Next != "" {
				e.Errorf("%s: %v (%d), want %v", c.name, ids(page.Tasks), page.Count, want)
			}
			b, err := e.s.DeleteTasks(e.ctx(), e.ns, queue.Selection{Filter: &c.f, DryRun: true})
			e.ok(err)
			if b.Matched != int64(len(want)) {
				e.Errorf("%s: a selection matched %d, want %d", c.name, b.Matched, len(want))
			}
		}
	})
	e.it("pages by key, finish time and text go on behind their cursors", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 7)
		e.finish("q", 7, queue.OutcomePermanent)
		all := ids(e.list(queue.TaskFilter{}, queue.Page{}).Tasks)
		for _, f := range []queue.TaskFilter{
			{FinishedAfter: e.now().Add(-time.Hour)}, {Queue: "q", Text: "{}"},
		} {
			for _, oldest := range []bool{false, true} {
				got := []int64{}
				cursor := ""
				for range 20 {
					page, err := e.s.ListTasks(e.ctx(), e.ns, queue.TaskQuery{TaskFilter: f, Page: queue.Page{Limit: 3, Cursor: cursor}, OldestFirst: oldest})
					e.ok(err)
					got = append(got, ids(page.Tasks)...)
					if cursor = page.Next; cursor == "" {
						break
					}
				}
				if oldest {
					slices.Reverse(got)
				}
				e.equal("ids", got, all)
			}
			e.equal("ids behind an offset", ids(e.list(f, queue.Page{Limit: 3, Offset: 2}).Tasks), all[2:5])
		}
	})
	e.it("a list by worker has what it held last, however that ended", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour)})
		e.createN("q", 6)
		want := map[queue.Status][]int64{}
		for i, o := range []queue.Outcome{queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent, queue.OutcomeHandBack, "", queue.OutcomeSuccess} {
			worker := "ann"
			if i == 5 {
				worker = "bob"
			}
			t := e.retain(worker, 1, "q")[0]
			if o != "" {
				e.release(t, o, "")
			}
			if o == queue.OutcomeHandBack { // then bob retains it
				t = e.retain("bob", 1, "q")[0]
				e.release(t, queue.OutcomeFailure, "")
			} else if worker == "ann" {
				s := e.get(t.ID).Status
				want[s] = append(want[s], t.ID)
			}
		}
		all := []int64{}
		for _, s := range queue.Statuses() {
			page := e.list(queue.TaskFilter{Worker: "ann", Statuses: []queue.Status{s}}, queue.Page{})
			if got := ids(page.Tasks); !slices.Equal(got, want[s]) || page.Count != int64(len(want[s])) {
				e.Errorf("%s: %v (%d), want %v", s, got, page.Count, want[s])
			}
			all = append(all, want[s]...)
		}
		slices.Sort(all)
		slices.Reverse(all)
		e.equal("all", ids(e.list(queue.TaskFilter{Worker: "ann"}, queue.Page{}).Tasks), all)
		e.equal("behind two", ids(e.list(queue.TaskFilter{Worker: "ann"}, queue.Page{Offset: 2}).Tasks), all[2:])
	})
	e.it("pages of several statuses go on as those of one", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour)})
		e.queue("r", queue.QueueMeta{})
		e.createN("q", 30)
		e.createN("r", 5)
		outcomes := []queue.Outcome{queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent, ""}
		for i, t := range e.retain("ann", 20) {
			if o := outcomes[i%len(outcomes)]; o != "" {
				e.release(t, o, "")
			}
		}
		for _, f := range []queue.TaskFilter{
			{Statuses: []queue.Status{queue.StatusReleased, queue.StatusFailed}},
			{Statuses: []queue.Status{queue.StatusRetry, queue.StatusRetained, queue.StatusReleased}},
			{Statuses: []queue.Status{queue.StatusNew, queue.StatusRetry, queue.StatusFailed}},
			{Queue: "q", Statuses: []queue.Status{queue.StatusNew, queue.StatusRetained}},
			{Worker: "ann"},
			{CreatedBefore: e.now().Add(time.Hour)},
		} {
			whole := e.list(f, queue.Page{})
			want := ids(whole.Tasks)
			for i, t := range whole.Tasks {
				if i > 0 && t.ID >= want[i-1] || len(f.Statuses) > 0 && !slices.Contains(f.Statuses, t.Status) {
					e.Errorf("%v: %d, %s, behind %v", f, t.ID, t.Status, want[:i])
				}
			}
			e.equal("count", whole.Count, int64(len(want)))
			var byCursor, byOffset []int64
			page := e.list(f, queue.Page{Limit: 3})
			for {
				byCursor = append(byCursor, ids(page.Tasks)...)
				if page.Next == "" {
					break
				}
				page = e.list(f, queue.Page{Limit: 3, Cursor: page.Next})
				e.equal("count", page.Count, int64(len(want)))
			}
			for len(byOffset) < len(want) {
				more := ids(e.list(f, queue.Page{Limit: 4, Offset: len(byOffset)}).Tasks)
				if len(more) == 0 {
					break
				}
				byOffset = append(byOffset, more...)
			}
			e.equal("by cursor", byCursor, want)
			e.equal("by offset", byOffset, want)
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
	e.it("a list with the oldest first is the other turned around, in every filter", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour)})
		e.queue("r", queue.QueueMeta{})
		e.createN("q", 60)
		e.createN("r", 5)
		outcomes := []queue.Outcome{queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent, ""}
		for i, t := range e.retain("ann", 40) {
			if o := outcomes[i/4%len(outcomes)]; o != "" {
				e.release(t, o, "")
			}
		}
		filters := []queue.TaskFilter{
			{},
			{Queue: "r"},
			{Worker: "ann"},
			{CreatedBefore: e.now().Add(time.Hour)},
			{Statuses: []queue.Status{queue.StatusReleased, queue.StatusFailed}},
			{Statuses: []queue.Status{queue.StatusNew, queue.StatusRetained}},
		}
		for _, s := range queue.Statuses() {
			filters = append(filters, queue.TaskFilter{Statuses: []queue.Status{s}})
		}
		for _, f := range filters {
			want := ids(e.list(f, queue.Page{}).Tasks)
			slices.Reverse(want)
			got := []int64{}
			cursor := ""
			for {
				page := e.listOldest(f, queue.Page{Limit: 7, Cursor: cursor})
				got = append(got, ids(page.Tasks)...)
				e.equal("count", page.Count, int64(len(want)))
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			e.equal("oldest first", got, want)
			e.equal("behind four", ids(e.listOldest(f, queue.Page{Offset: 4}).Tasks), want[min(4, len(want)):])
		}
	})
	e.it("a cursor of one order is refused in the other", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 4)
		down, up := e.list(queue.TaskFilter{}, queue.Page{Limit: 2}), e.listOldest(queue.TaskFilter{}, queue.Page{Limit: 2})
		for _, q := range []queue.TaskQuery{{Page: queue.Page{Cursor: up.Next}}, {OldestFirst: true, Page: queue.Page{Cursor: down.Next}}} {
			_, err := e.s.ListTasks(e.ctx(), e.ns, q)
			e.kind(err, queue.KindInvalid)
			e.subject(err, "", "cursor")
		}
	})
	e.it("a page ends early when its bytes are reached, and says where it goes on", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		// Random letters do not compress, repeated letters do: a page counts both at the size that it sends.
		for _, payload := range []string{noise(900_000), `"` + strings.Repeat("x", 900_000) + `"`} {
			var made []int64
			for range 8 {
				made = append(made, e.create("q", queue.TaskMeta{Payload: json.RawMessage(payload)}).ID)
			}
			small := e.createN("q", 5)
			for _, oldest := range []bool{false, true} {
				var got []int64
				q := queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "q"}, OldestFirst: oldest}
				for range 20 {
					page, err := e.s.ListTasks(e.ctx(), e.ns, q)
					e.ok(err)
					bytes := 0
					for _, t := range page.Tasks {
						bytes += t.Bytes()
					}
					if bytes > queue.MaxPageBytes {
						e.Errorf("a page has %d bytes", bytes)
					}
					e.equal("count", page.Count, int64(13))
					got = append(got, ids(page.Tasks)...)
					if q.Cursor = page.Next; q.Cursor == "" {
						break
					}
				}
				slices.Sort(got)
				e.equal("all, each once", got, append(slices.Clone(made), small...))
			}
			_, err := e.s.DeleteTasks(e.ctx(), e.ns, queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}})
			e.ok(err)
		}
	})
	e.it("a brief page is full whatever the sizes of its tasks", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		for i := range 6 {
			e.create("q", queue.TaskMeta{Payload: json.RawMessage(noise(900_000)), Headers: map[string]string{"a": "b"}, Key: "k-" + strconv.Itoa(i)})
		}
		long := `{"error":"` + strings.Repeat("ä", 2_000) + `"}`
		for _, result := range []string{`{"error":"short"}`, long, noise(900_000), ""} {
			e.release(e.hold("q"), queue.OutcomePermanent, result)
		}
		for _, oldest := range []bool{false, true} {
			page, err := e.s.ListTasks(e.ctx(), e.ns, queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "q"}, OldestFirst: oldest, Brief: true})
			e.ok(err)
			if oldest {
				slices.Reverse(page.Tasks)
			}
			e.equal("tasks, count, next", []any{len(page.Tasks), page.Count, page.Next}, []any{6, int64(6), ""})
			slices.Reverse(page.Tasks)
			short, cut := string(page.Tasks[0].Result), string(page.Tasks[1].Result)
			for _, t := range page.Tasks {
				whole := e.get(t.ID)
				e.equal("content", []any{t.Payload == nil, t.Headers == nil, t.Progress == nil}, []any{true, true, true})
				if len(whole.Result) > 8*queue.MaxBriefResult {
					continue // a store may leave it out
				}
				e.equal("result", string(t.Result), string(whole.Brief().Result))
				t.Payload, t.Headers, t.Result = whole.Payload, whole.Headers, whole.Result
				whole.Errors, t.Errors = nil, nil
				e.equal("the rest", t, whole)
			}
			e.equal("a short result", short, `{"error":"short"}`)
			if !strings.HasPrefix(cut, `"{\"error\":\"ä`) || len(cut) > queue.MaxBriefResult+100 {
				e.Errorf("a long result is %d bytes: %.40s", len(cut), cut)
			}
		}
	})
	e.it("results count among the bytes of a page", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 6)
		for _, t := range e.retain("ann", 6) {
			e.release(t, queue.OutcomeSuccess, noise(900_000))
		}
		page := e.list(queue.TaskFilter{}, queue.Page{})
		if n := len(page.Tasks); n != 3 || page.Next == "" || page.Count != 6 {
			e.Errorf("%d tasks of %d, next %q", n, page.Count, page.Next)
		}
	})
	e.it("the first task of a page comes whatever its size", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		large := queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Payload: json.RawMessage(noise(queue.MaxPageBytes + 1000))}}
		made, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{large}})
		e.ok(err)
		e.createN("q", 1)
		page := e.listOldest(queue.TaskFilter{}, queue.Page{})
		e.equal("ids", ids(page.Tasks), []int64{made[0].Task.ID})
		if page.Next == "" {
			e.Error("no next behind it")
		}
	})
	for _, s := range queue.Statuses() {
		e.it("of many tasks it reports whether one that is "+string(s)+" has ended, and which are not there", func(e *env) {
			t := e.reach(s)
			waiting := e.createN("q", 2)
			want := []int64{1 << 60}
			if s.Finished() {
				want = []int64{t.ID, 1 << 60}
			}
			got, err := e.s.EndedTasks(e.ctx(), e.ns, []int64{waiting[1], t.ID, 1 << 60, t.ID, waiting[0]})
			e.ok(err)
			slices.Sort(got)
			e.equal("ended", got, want)
		})
	}
	e.it("the queues of tasks are read by id, within the namespace alone", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.queue("r", queue.QueueMeta{})
		made := append(e.createN("q", 2), e.createN("r", 1)...)
		power, ok := queue.StoreAs[access.TaskQueues](e.s)
		if !ok {
			e.Fatal("the store cannot read the queues of tasks")
		}
		got, err := power.QueuesOfTasks(e.ctx(), e.ns, append(slices.Clone(made), 1<<60, made[0]))
		e.ok(err)
		e.equal("queues", got, map[int64]string{made[0]: "q", made[1]: "q", made[2]: "r"})
		got, err = power.QueuesOfTasks(e.ctx(), "another", made)
		e.ok(err)
		e.equal("queues in another namespace", len(got), 0)
	})
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
