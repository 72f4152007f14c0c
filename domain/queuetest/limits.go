package queuetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// testLimits checks that the store accepts the largest values that the domain accepts.
func testLimits(e *env) {
	e.it("names, keys, workers and headers of the largest size are kept", func(e *env) {
		name := long(queue.MaxNameBytes)
		e.ns = strings.Repeat("n", queue.MaxNameBytes)
		e.queue(name, queue.QueueMeta{})
		headers := map[string]string{}
		for i := range queue.MaxHeaders {
			k := fmt.Sprintf("header-%02d", i)
			headers[k] = long(queue.MaxHeadersBytes/queue.MaxHeaders - len(k))
		}
		key := strings.Repeat("é", queue.MaxKeyBytes/2)
		t := e.create(name, queue.TaskMeta{Key: key, Headers: headers, Priority: -32768})
		worker := strings.Repeat("w", queue.MaxWorkerBytes)
		held := e.retain(worker, 1, name)
		e.equal("key", held[0].Key, key)
		e.equal("headers", held[0].Headers, headers)
		e.equal("worker", e.get(t.ID).Worker, worker)
		b := e.beat(queue.Heartbeat{ID: t.ID, Token: held[0].Lease.Token, Lease: queue.MaxDuration, Progress: []byte(`"` + long(queue.MaxProgressBytes-2) + `"`)})
		e.ok(b.Err)
		e.ticker(strings.Repeat("t", queue.MaxNameBytes), queue.TickerMeta{Period: new(time.Hour)})
	})
	e.it("a batch of the largest size is created, retained, kept and released", func(e *env) {
		e.queue("q", queue.QueueMeta{Events: new(false)})
		made := e.createN("q", queue.MaxBatch)
		held := e.retain("w", queue.MaxBatch, "q")
		e.equal("retained", len(held), queue.MaxBatch)
		e.equal("first", held[0].ID, made[0])
		beats := make([]queue.Heartbeat, len(held))
		releases := make([]queue.Release, len(held))
		for i, t := range held {
			beats[i] = queue.Heartbeat{ID: t.ID, Token: t.Lease.Token}
			releases[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess}
		}
		kept, err := e.s.HeartbeatTasks(e.ctx(), e.ns, beats)
		e.ok(err)
		for _, b := range kept {
			e.ok(b.Err)
		}
		done, err := e.s.ReleaseTasks(e.ctx(), e.ns, releases)
		e.ok(err)
		for _, d := range done {
			e.ok(d.Err)
		}
		e.counts("q", map[queue.Status]int64{queue.StatusReleased: queue.MaxBatch})
		page := e.list(queue.TaskFilter{}, queue.Page{Limit: queue.MaxPage})
		e.equal("page", len(page.Tasks), queue.MaxPage)
		e.equal("count", page.Count, int64(queue.MaxBatch))
		got, err := e.s.GetTasks(e.ctx(), e.ns, made, false)
		e.ok(err)
		e.equal("got", len(got), queue.MaxBatch)
		b := e.bulk(e.s.DeleteTasks, queue.Selection{IDs: made})
		e.equal("deleted", b.Moved, int64(queue.MaxBatch))
	})
	e.it("a page beyond its limit is invalid", func(e *env) {
		for _, p := range []queue.Page{{Limit: queue.MaxPage + 1}, {Limit: -1}, {Offset: -1}, {Offset: 1, Cursor: "1"}} {
			_, err := e.s.ListTasks(e.ctx(), e.ns, queue.TaskQuery{Page: p})
			e.kind(err, queue.KindInvalid)
		}
	})
	e.it("many queues in one retain", func(e *env) {
		var names []string
		for i := range queue.MaxQueuesPerRetain / 10 {
			names = append(names, fmt.Sprintf("q%04d", i))
			e.queue(names[i], queue.QueueMeta{})
			e.createN(names[i], 1)
		}
		e.equal("retained", len(e.retain("w", queue.MaxBatch, names...)), len(names))
	})
	e.it("empty batches are answered by nothing", func(e *env) {
		made, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true})
		e.ok(err)
		kept, err := e.s.HeartbeatTasks(e.ctx(), e.ns, nil)
		e.ok(err)
		done, err := e.s.ReleaseTasks(e.ctx(), e.ns, nil)
		e.ok(err)
		got, err := e.s.GetTasks(e.ctx(), e.ns, nil, true)
		e.ok(err)
		e.ok(e.s.SettleTicks(e.ctx(), e.ns, nil, true))
		e.equal("answers", len(made)+len(kept)+len(done)+len(got), 0)
	})
}
