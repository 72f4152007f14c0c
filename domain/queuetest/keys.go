package queuetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testKeys(e *env) {
	e.it("the same key gives the task that is there", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		first := e.create("mail", queue.TaskMeta{Key: "k1", Payload: []byte(`{"a": 1}`)})
		e.equal("key", first.Key, "k1")
		e.equal("replayed", first.Replayed, false)
		again := e.create("mail", queue.TaskMeta{Key: "k1", Payload: []byte(`{"a": 1}`)})
		e.equal("id", again.ID, first.ID)
		e.equal("replayed", again.Replayed, true)
		spaced := e.create("mail", queue.TaskMeta{Key: "k1", Payload: []byte("{\"a\":1}")})
		e.equal("id", spaced.ID, first.ID)
		e.equal("payload", string(spaced.Payload), `{"a": 1}`)
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 1})
	})
	e.it("an answer to creates carries the content of tasks that are there up to a bound for each call", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		result := noise(queue.MaxPageBytes/4 + 1000)
		again := queue.Create{Namespace: e.ns}
		for i := range 7 {
			meta := queue.TaskMeta{Key: fmt.Sprint("k", i)}
			e.create("mail", meta)
			e.release(e.hold("mail"), queue.OutcomeSuccess, result)
			n := e.newTask("mail", meta)
			n.Call = 1 + i/5
			again.Tasks = append(again.Tasks, n)
		}
		out, err := e.s.CreateTasks(e.ctx(), again)
		e.ok(err)
		carried := map[int]int{}
		for i, c := range out {
			e.ok(c.Err)
			e.equal("key", c.Task.Key, again.Tasks[i].Key)
			e.equal("replayed", c.Task.Replayed, true)
			if len(c.Task.Result) > 0 {
				carried[again.Tasks[i].Call]++
			}
		}
		e.equal("tasks with a result by call", carried, map[int]int{1: 3, 2: 2})
	})
	e.it("the same key with another payload is refused", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		t := e.create("mail", queue.TaskMeta{Key: "k1", Payload: []byte(`{"a":1}`)})
		e.unchanged(t.ID, func() {
			_, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{
				e.newTask("mail", queue.TaskMeta{}), e.newTask("mail", queue.TaskMeta{Key: "k1", Payload: []byte(`{"a":2}`)}),
			}})
			e.kind(err, queue.KindKeyReused)
			e.subject(err, "queue mail", "tasks[1].key")
			out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{
				e.newTask("mail", queue.TaskMeta{Key: "k1", Payload: []byte(`[]`)}),
			}})
			e.ok(err)
			e.kind(out[0].Err, queue.KindKeyReused)
		})
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 1})
	})
	e.it("a key belongs to its queue and its namespace", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.queue("sms", queue.QueueMeta{})
		a := e.create("mail", queue.TaskMeta{Key: "k"})
		b := e.create("sms", queue.TaskMeta{Key: "k"})
		other := *e
		other.ns = e.ns + "-other"
		other.queue("mail", queue.QueueMeta{})
		c := other.create("mail", queue.TaskMeta{Key: "k"})
		if a.ID == b.ID || a.ID == c.ID || b.ID == c.ID || b.Replayed || c.Replayed {
			e.Fatalf("ids %d, %d, %d", a.ID, b.ID, c.ID)
		}
	})
	e.it("a key twice in one batch makes one task", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		out := e.createAll(e.newTask("mail", queue.TaskMeta{Key: "k"}), e.newTask("mail", queue.TaskMeta{Key: "k"}),
			e.newTask("mail", queue.TaskMeta{}), e.newTask("mail", queue.TaskMeta{}))
		e.equal("second id", out[1].ID, out[0].ID)
		e.equal("replayed", []bool{out[0].Replayed, out[1].Replayed, out[2].Replayed}, []bool{false, true, false})
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 3})
		_, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{
			e.newTask("mail", queue.TaskMeta{Key: "x", Payload: []byte("1")}),
			e.newTask("mail", queue.TaskMeta{Key: "x", Payload: []byte("2")}),
		}})
		e.kind(err, queue.KindKeyReused)
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 3})
	})
	e.it("a bulk honours keys", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		bulk := func(from, to int) []*queue.Task {
			var tasks []queue.NewTask
			for i := from; i < to; i++ {
				tasks = append(tasks, e.newTask("mail", queue.TaskMeta{Key: fmt.Sprint("k", i), Payload: fmt.Append(nil, i)}))
			}
			return e.createAll(tasks...)
		}
		first := bulk(0, 300)
		for i, t := range bulk(200, 500) {
			if i < 100 != t.Replayed || i < 100 && t.ID != first[200+i].ID || i >= 100 && t.ID <= first[299].ID {
				e.Fatalf("task %d of the second bulk is %d, replayed: %v; that of the first is %d", i, t.ID, t.Replayed, first[min(200+i, 299)].ID)
			}
		}
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 500})
		e.equal("held", len(e.retain("w", 1000, "mail")), 500)
	})
	e.it("a key is taken while its task exists, held or finished, and free after", func(e *env) {
		e.queue("mail", queue.QueueMeta{Retention: new(10 * time.Hour)})
		first := e.create("mail", queue.TaskMeta{Key: "k"})
		held := e.hold("mail")
		e.equal("id while held", e.create("mail", queue.TaskMeta{Key: "k"}).ID, first.ID)
		e.release(held, queue.OutcomeSuccess, `1`)
		done := e.create("mail", queue.TaskMeta{Key: "k"})
		e.equal("id when finished", done.ID, first.ID)
		e.equal("status when finished", done.Status, queue.StatusReleased)
		e.pass(11 * time.Hour)
		second := e.create("mail", queue.TaskMeta{Key: "k"})
		if second.ID == first.ID || second.Replayed {
			e.Fatalf("the key of a task that is gone still finds it: %+v", second)
		}
		e.ok(e.one(e.s.DeleteTasks, second.ID))
		if third := e.create("mail", queue.TaskMeta{Key: "k"}); third.ID == second.ID || third.Replayed {
			e.Fatalf("the key of a deleted task still finds it: %+v", third)
		}
	})
	e.it("of many creates with one key at once, one makes the task", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		var made, replayed atomic.Int64
		var id sync.Map
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{
					{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Key: "same"}},
				}})
				if err != nil {
					e.Errorf("create: %v", err)
					return
				}
				id.Store(out[0].Task.ID, true)
				if out[0].Task.Replayed {
					replayed.Add(1)
				} else {
					made.Add(1)
				}
			})
		}
		wg.Wait()
		n := 0
		id.Range(func(any, any) bool { n++; return true })
		e.equal("ids, made, replayed", []int64{int64(n), made.Load(), replayed.Load()}, []int64{1, 1, 15})
	})
}
