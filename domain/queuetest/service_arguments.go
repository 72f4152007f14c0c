package queuetest

import (
	"maps"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// serveArguments gives calls values that need normalisation, sorting and defaults, and compares them afterwards.
func serveArguments(v *svc) {
	v.it("a call changes nothing of its arguments, so a caller may use them again", func(v *svc) {
		v.queue("mail", queue.QueueMeta{})

		headers := map[string]string{"b": "2", "a": "1"}
		meta := queue.TaskMeta{Payload: []byte(` {"b": 1, "a": 2} `), Headers: headers, Delay: time.Millisecond}
		_, err := v.s.CreateTask(v.ctx(), " Mail ", meta)
		v.ok(err)

		batch := []queue.NewTask{{Queue: " Mail ", TaskMeta: meta}, {Queue: "MAIL"}, {Queue: "mail", TaskMeta: queue.TaskMeta{Key: "k"}}}
		given := slices.Clone(batch)
		for range 2 {
			_, err = v.s.CreateTasks(v.ctx(), batch)
			v.ok(err)
		}
		v.equal("the batch of a create", batch, given)
		v.equal("payload", string(meta.Payload), ` {"b": 1, "a": 2} `)
		v.equal("headers", headers, map[string]string{"a": "1", "b": "2"})

		retry := queue.QueueMeta{Name: " Other ", Retries: new(3), Lease: new(time.Minute)}
		for range 2 {
			_, err = v.s.RegisterQueue(v.ctx(), retry)
			v.ok(err)
		}
		v.equal("the values of a queue", []any{retry.Name, *retry.Retries, *retry.Lease, retry.Backoff == nil}, []any{" Other ", 3, time.Minute, true})

		ticker := queue.TickerMeta{Name: " Daily ", Cron: new(" 0  5 * * * "), Queue: new(" Mail "), Payload: []byte(` 1 `)}
		for range 2 {
			_, err = v.s.RegisterTicker(v.ctx(), ticker)
			v.ok(err)
		}
		v.equal("the values of a ticker", []any{ticker.Name, *ticker.Cron, *ticker.Queue, string(ticker.Payload), ticker.Timezone == nil},
			[]any{" Daily ", " 0  5 * * * ", " Mail ", " 1 ", true})

		queues := []string{"other", " Mail ", "mail"}
		var held []*queue.Task
		for wait := time.Duration(0); len(held) == 0; wait = time.Second {
			held, err = v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Limit: 2, Queues: queues, Wait: wait})
			v.ok(err)
		}
		v.equal("the queues of a retain", queues, []string{"other", " Mail ", "mail"})

		beats := []queue.Heartbeat{{ID: held[0].ID, Token: held[0].Lease.Token, Progress: []byte(` 1 `)}}
		kept := slices.Clone(beats)
		_, err = v.s.HeartbeatTasks(v.ctx(), beats)
		v.ok(err)
		v.equal("heartbeats", beats, kept)

		releases := []queue.Release{{ID: held[0].ID, Token: held[0].Lease.Token, Result: []byte(` 1 `)}}
		ended := slices.Clone(releases)
		_, err = v.s.ReleaseTasks(v.ctx(), releases)
		v.ok(err)
		v.equal("releases", releases, ended)

		ids := []int64{held[0].ID + 1, held[0].ID, held[0].ID}
		order := slices.Clone(ids)
		_, err = v.s.CancelTasks(v.ctx(), queue.Selection{IDs: ids})
		v.ok(err)
		v.equal("the ids of a cancel", ids, order)

		filter := queue.TaskFilter{Queue: " Mail ", Statuses: []queue.Status{queue.StatusReleased, queue.StatusNew, queue.StatusNew}}
		statuses := slices.Clone(filter.Statuses)
		_, err = v.s.ListTasks(v.ctx(), queue.TaskQuery{TaskFilter: filter})
		v.ok(err)
		_, err = v.s.RetryTasks(v.ctx(), queue.Selection{Filter: &filter})
		v.ok(err)
		v.equal("a filter", []any{filter.Queue, filter.Statuses}, []any{" Mail ", statuses})

		kinds := []queue.EventKind{queue.EventReleased, queue.EventCreated, queue.EventCreated}
		events := queue.EventFilter{Queue: " Mail ", Kinds: kinds}
		_, err = v.s.ListEvents(v.ctx(), events, 1)
		v.ok(err)
		v.equal("a filter of events", []any{events.Queue, kinds}, []any{" Mail ", []queue.EventKind{queue.EventReleased, queue.EventCreated, queue.EventCreated}})
	})

	v.it("an answer that its caller changes does not change later answers", func(v *svc) {
		v.queue("mail", queue.QueueMeta{Lease: new(time.Minute)})
		spoil := func(t *queue.Task) {
			t.Queue, t.Status, t.Attempt = "spoilt", "spoilt", 99
			clear(t.Payload)
			clear(t.Headers)
			if t.Lease != nil {
				t.Lease.Token++
			}
		}

		headers := map[string]string{"traceparent": "00-1"} // telemetry adds this header where a caller gives none
		made := v.create("mail", queue.TaskMeta{Payload: []byte(`"payload"`), Headers: maps.Clone(headers), Key: "k"})
		id := made.ID
		spoil(made)
		held := v.hold("mail")
		v.equal("retained", []any{held.ID, held.Queue, string(held.Payload), held.Headers}, []any{id, "mail", `"payload"`, headers})

		token := held.Lease.Token
		spoil(held)
		spoil(v.get(id))
		got := v.get(id)
		v.equal("read", []any{got.Queue, got.Status, string(got.Payload), got.Headers}, []any{"mail", queue.StatusRetained, `"payload"`, headers})

		q, err := v.s.GetQueue(v.ctx(), "mail")
		v.ok(err)
		q.Name, q.Lease = "spoilt", 0
		q, err = v.s.GetQueue(v.ctx(), "mail")
		v.ok(err)
		v.equal("queue", []any{q.Name, q.Lease}, []any{"mail", time.Minute})

		_, err = v.tryRelease(releaseOf(id, token, queue.OutcomeSuccess))
		v.ok(err)
	})
}
