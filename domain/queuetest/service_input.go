package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func serveInput(v *svc) {
	v.queue("q", queue.QueueMeta{})
	headers := func(n, size int) map[string]string {
		h := map[string]string{}
		for i := range n {
			k := fmt.Sprintf("h%03d", i)
			h[k] = long(size - len(k))
		}
		return h
	}
	nest := func(n int) json.RawMessage {
		return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
	}
	str := func(n int) json.RawMessage { return json.RawMessage(`"` + long(n-2) + `"`) }
	v.T.Run("a task at a limit is created, one past it is refused with the field at fault", func(t *testing.T) {
		v := v.with(t)
		for _, c := range []struct {
			field      string
			good, past queue.TaskMeta
			kind       queue.Kind
		}{
			{"payload", queue.TaskMeta{Payload: str(queue.DefaultMaxPayloadBytes)}, queue.TaskMeta{Payload: str(queue.DefaultMaxPayloadBytes + 1)}, queue.KindTooLarge},
			{"payload", queue.TaskMeta{Payload: nest(queue.MaxJSONDepth)}, queue.TaskMeta{Payload: nest(queue.MaxJSONDepth + 1)}, queue.KindInvalid},
			{"key", queue.TaskMeta{Key: long(queue.MaxKeyBytes)}, queue.TaskMeta{Key: long(queue.MaxKeyBytes + 1)}, queue.KindInvalid},
			{"delay", queue.TaskMeta{Delay: queue.MaxDuration}, queue.TaskMeta{Delay: queue.MaxDuration + 1}, queue.KindInvalid},
			{"delay", queue.TaskMeta{Delay: 0}, queue.TaskMeta{Delay: -1}, queue.KindInvalid},
			{"headers", queue.TaskMeta{Headers: headers(queue.MaxHeaders, 10)}, queue.TaskMeta{Headers: headers(queue.MaxHeaders+1, 10)}, queue.KindInvalid},
			{"headers", queue.TaskMeta{Headers: headers(4, queue.MaxHeadersBytes/4)}, queue.TaskMeta{Headers: headers(4, queue.MaxHeadersBytes/4+1)}, queue.KindInvalid},
		} {
			_, err := v.s.CreateTask(v.ctx(), "q", c.good)
			v.ok(err)
			_, err = v.s.CreateTask(v.ctx(), "q", c.past)
			v.invalid(err, c.kind, c.field)
		}
	})
	v.T.Run("a payload that is not one JSON value is refused", func(t *testing.T) {
		v := v.with(t)
		for _, bad := range []string{`{`, `}`, `1 2`, `{"a":1}x`, `'a'`, `nul`, `"\ud800"`, `"\udc00\ud800"`, "\"\xff\"", `01`, `[1,]`, ` `, `NaN`} {
			_, err := v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{Payload: []byte(bad)})
			v.invalid(err, queue.KindInvalid, "payload")
		}
	})
	v.T.Run("a queue at a limit is created, one past it is refused with the field at fault", func(t *testing.T) {
		v := v.with(t)
		d := func(d time.Duration) *time.Duration { return &d }
		for i, c := range []struct {
			field      string
			good, past queue.QueueMeta
		}{
			{"retries", queue.QueueMeta{Retries: new(queue.MaxRetries)}, queue.QueueMeta{Retries: new(queue.MaxRetries + 1)}},
			{"retries", queue.QueueMeta{Retries: new(0)}, queue.QueueMeta{Retries: new(-1)}},
			{"ttl", queue.QueueMeta{TTL: d(queue.MaxDuration)}, queue.QueueMeta{TTL: d(queue.MaxDuration + 1)}},
			{"ttl", queue.QueueMeta{TTL: d(0)}, queue.QueueMeta{TTL: d(-1)}},
			{"retry_delay", queue.QueueMeta{RetryDelay: d(queue.MaxDuration)}, queue.QueueMeta{RetryDelay: d(queue.MaxDuration + 1)}},
			{"retry_delay", queue.QueueMeta{RetryDelay: d(0)}, queue.QueueMeta{RetryDelay: d(-1)}},
			{"retry_max_delay", queue.QueueMeta{RetryMaxDelay: d(queue.MaxDuration)}, queue.QueueMeta{RetryMaxDelay: d(queue.MaxDuration + 1)}},
			{"lease", queue.QueueMeta{Lease: d(queue.MaxDuration)}, queue.QueueMeta{Lease: d(queue.MaxDuration + 1)}},
			{"lease", queue.QueueMeta{Lease: d(queue.MinLease)}, queue.QueueMeta{Lease: d(queue.MinLease - 1)}},
			{"retention", queue.QueueMeta{Retention: d(queue.MaxDuration)}, queue.QueueMeta{Retention: d(queue.MaxDuration + 1)}},
			{"concurrency", queue.QueueMeta{Concurrency: new(queue.MaxConcurrency)}, queue.QueueMeta{Concurrency: new(queue.MaxConcurrency + 1)}},
			{"concurrency", queue.QueueMeta{Concurrency: new(0)}, queue.QueueMeta{Concurrency: new(-1)}},
			{"backoff", queue.QueueMeta{Backoff: new(queue.BackoffConstant)}, queue.QueueMeta{Backoff: new(queue.Backoff("random"))}},
		} {
			c.good.Name, c.past.Name = fmt.Sprintf("good-%d", i), fmt.Sprintf("past-%d", i)
			_, err := v.s.CreateQueue(v.ctx(), c.good)
			v.ok(err)
			_, err = v.s.CreateQueue(v.ctx(), c.past)
			v.invalid(err, queue.KindInvalid, c.field)
			_, err = v.s.GetQueue(v.ctx(), c.past.Name)
			v.kind(err, queue.KindNotFound)
			_, err = v.s.UpdateQueue(v.ctx(), c.good.Name, queue.QueueMeta{
				Retries: c.past.Retries, TTL: c.past.TTL, RetryDelay: c.past.RetryDelay, RetryMaxDelay: c.past.RetryMaxDelay,
				Lease: c.past.Lease, Retention: c.past.Retention, Concurrency: c.past.Concurrency, Backoff: c.past.Backoff,
			})
			v.invalid(err, queue.KindInvalid, c.field)
		}
	})
	v.T.Run("a name at its limit is taken, a bad one is refused", func(t *testing.T) {
		v := v.with(t)
		v.queue(long(queue.MaxNameBytes), queue.QueueMeta{})
		for _, n := range []string{"", " ", "1", "-a", "a b", "ä", "a.b", "a%", long(queue.MaxNameBytes + 1)} {
			_, err := v.s.CreateQueue(v.ctx(), queue.QueueMeta{Name: n})
			v.invalid(err, queue.KindInvalid, "queue")
			_, err = v.s.CreateTicker(v.ctx(), queue.TickerMeta{Name: n, Period: new(time.Hour)})
			v.invalid(err, queue.KindInvalid, "ticker")
		}
		for _, n := range []string{"1", "a b", "a.b", long(queue.MaxNameBytes + 1)} {
			_, err := v.s.GetQueue(v.ctx(), n)
			v.invalid(err, queue.KindInvalid, "queue")
			_, err = v.s.CreateTask(v.ctx(), n, queue.TaskMeta{})
			v.invalid(err, queue.KindInvalid, "queue")
		}
	})
	v.T.Run("a retain out of bounds is refused with the field at fault", func(t *testing.T) {
		v := v.with(t)
		queues := make([]string, queue.MaxQueuesPerRetain+1)
		for i := range queues {
			queues[i] = fmt.Sprintf("q%d", i)
		}
		for _, c := range []struct {
			field string
			r     queue.RetainRequest
		}{
			{"worker", queue.RetainRequest{}},
			{"worker", queue.RetainRequest{Worker: long(queue.MaxWorkerBytes + 1)}},
			{"worker", queue.RetainRequest{Worker: "a\x00b"}},
			{"limit", queue.RetainRequest{Worker: "w", Limit: -1}},
			{"limit", queue.RetainRequest{Worker: "w", Limit: queue.MaxBatch + 1}},
			{"wait", queue.RetainRequest{Worker: "w", Wait: -1}},
			{"wait", queue.RetainRequest{Worker: "w", Wait: queue.MaxWait + 1}},
			{"lease", queue.RetainRequest{Worker: "w", Lease: queue.MinLease - 1}},
			{"lease", queue.RetainRequest{Worker: "w", Lease: queue.MaxDuration + 1}},
			{"queue", queue.RetainRequest{Worker: "w", Queues: []string{"1"}}},
			{"max_bytes", queue.RetainRequest{Worker: "w", MaxBytes: -1}},
			{"max_task_bytes", queue.RetainRequest{Worker: "w", MaxTaskBytes: -1}},
			{"request_id", queue.RetainRequest{Worker: "w", RequestID: long(queue.MaxRequestIDBytes + 1)}},
			{"max_bytes", queue.RetainRequest{Worker: "w", MaxBytes: queue.MaxRetainBytes + 1}},
			{"queue", queue.RetainRequest{Worker: "w", Queues: queues}},
		} {
			_, err := v.s.RetainTasks(v.ctx(), c.r)
			v.invalid(err, queue.KindInvalid, c.field)
		}
		_, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"none"}})
		v.kind(err, queue.KindNotFound)
	})
	v.T.Run("a release or a heartbeat out of bounds is refused and changes nothing", func(t *testing.T) {
		v := v.with(t)
		held, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: long(queue.MaxWorkerBytes), Lease: queue.MaxDuration})
		v.ok(err)
		id, token := held[0].ID, held[0].Lease.Token
		for _, r := range []queue.Release{
			{ID: 0, Token: token, Outcome: queue.OutcomeSuccess},
			{ID: id, Token: -1, Outcome: queue.OutcomeSuccess},
			{ID: id, Token: token, Outcome: "shrug"},
			{ID: id, Token: token, Outcome: queue.OutcomeSnooze},
			{ID: id, Token: token, Outcome: queue.OutcomeFailure, Delay: queue.MaxDuration + 1},
			{ID: id, Token: token, Outcome: queue.OutcomeFailure, Delay: -1},
			{ID: id, Token: token, Outcome: queue.OutcomeSuccess, Result: nest(queue.MaxJSONDepth + 1)},
			{ID: id, Token: token, Outcome: queue.OutcomeSuccess, ErrorKind: "busy"},
			{ID: id, Token: token, Outcome: queue.OutcomeFailure, ErrorKind: long(queue.MaxErrorKindBytes + 1)},
			{ID: id, Token: token, Outcome: queue.OutcomeFailure, ErrorKind: queue.ErrorKindQuarantined},
			{ID: id, Token: token, Outcome: queue.OutcomeFailure, Fingerprint: long(queue.MaxFingerprintBytes + 1)},
		} {
			_, err := v.tryRelease(r)
			v.kind(err, queue.KindInvalid)
		}
		_, err = v.tryRelease(queue.Release{ID: id, Token: token, Outcome: queue.OutcomeSuccess, Result: str(queue.DefaultMaxPayloadBytes + 1)})
		v.kind(err, queue.KindTooLarge)
		for _, h := range []queue.Heartbeat{
			{ID: 0, Token: token},
			{ID: id},
			{ID: id, Token: token, Lease: queue.MinLease - 1},
			{ID: id, Token: token, Lease: queue.MaxDuration + 1},
			{ID: id, Token: token, Progress: []byte(`{`)},
		} {
			out, err := v.s.HeartbeatTasks(v.ctx(), []queue.Heartbeat{h})
			v.kind(err, queue.KindInvalid)
			v.kind(out[0].Err, queue.KindInvalid)
		}
		v.status(id, queue.StatusRetained)
	})
	v.T.Run("a page, a filter or a selection out of bounds is refused with the field at fault", func(t *testing.T) {
		v := v.with(t)
		for _, c := range []struct {
			field string
			q     queue.TaskQuery
		}{
			{"limit", queue.TaskQuery{Page: queue.Page{Limit: queue.MaxPage + 1}}},
			{"limit", queue.TaskQuery{Page: queue.Page{Limit: -1}}},
			{"offset", queue.TaskQuery{Page: queue.Page{Offset: -1}}},
			{"cursor", queue.TaskQuery{Page: queue.Page{Offset: 1, Cursor: "z"}}},
			{"cursor", queue.TaskQuery{Page: queue.Page{Cursor: "🦆"}}},
			{"status", queue.TaskQuery{TaskFilter: queue.TaskFilter{Statuses: []queue.Status{"sung"}}}},
			{"queue", queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "1"}}},
			{"worker", queue.TaskQuery{TaskFilter: queue.TaskFilter{Worker: long(queue.MaxWorkerBytes + 1)}}},
		} {
			_, err := v.s.ListTasks(v.ctx(), c.q)
			v.invalid(err, queue.KindInvalid, c.field)
		}
		for _, sel := range []queue.Selection{
			{},
			{IDs: []int64{1}, Filter: &queue.TaskFilter{Queue: "q"}},
			{IDs: []int64{0}},
			{IDs: make([]int64, queue.MaxBatch+1)},
			{Filter: &queue.TaskFilter{}},
			{Filter: &queue.TaskFilter{Statuses: []queue.Status{}}},
			{Filter: &queue.TaskFilter{}, DryRun: true},
		} {
			for _, f := range []func(context.Context, queue.Selection) (queue.Bulk, error){v.s.CancelTasks, v.s.RetryTasks, v.s.DeleteTasks} {
				_, err := f(v.ctx(), sel)
				v.invalid(err, queue.KindInvalid, "ids")
			}
		}
	})
}

// with returns v for a sub-test that shares service and namespace.
func (v *svc) with(t *testing.T) *svc {
	c := *v
	c.T = t
	return &c
}

func serveErrors(v *svc) {
	v.it("each kind of error arrives as what it is", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.ticker(queue.TickerMeta{Name: "t", Period: new(time.Hour)})
		v.create("q", queue.TaskMeta{Key: "k"})
		done := v.create("q", queue.TaskMeta{Priority: -1})
		v.release(v.hold("q"), queue.OutcomeSuccess)
		for _, c := range []struct {
			what string
			kind queue.Kind
			do   func() error
		}{
			{"unknown queue", queue.KindNotFound, func() error { return second(v.s.GetQueue(v.ctx(), "none")) }},
			{"unknown task", queue.KindNotFound, func() error { return second(v.s.GetTask(v.ctx(), 1<<60)) }},
			{"unknown ticker", queue.KindNotFound, func() error { return second(v.s.RunTicker(v.ctx(), "none")) }},
			{"unknown queue of a task", queue.KindNotFound, func() error { return second(v.s.CreateTask(v.ctx(), "none", queue.TaskMeta{})) }},
			{"queue twice", queue.KindAlreadyExists, func() error { return second(v.s.CreateQueue(v.ctx(), queue.QueueMeta{Name: "q"})) }},
			{"ticker twice", queue.KindAlreadyExists, func() error {
				return second(v.s.CreateTicker(v.ctx(), queue.TickerMeta{Name: "t", Period: new(time.Hour)}))
			}},
			{"key with another payload", queue.KindKeyReused, func() error {
				return second(v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{Key: "k", Payload: []byte(`2`)}))
			}},
			{"stale token", queue.KindLeaseLost, func() error {
				return second(v.tryRelease(queue.Release{ID: done.ID, Token: 1 << 40, Outcome: queue.OutcomeSuccess}))
			}},
			{"no worker holds it", queue.KindConflict, func() error {
				return second(v.tryRelease(queue.Release{ID: done.ID, Outcome: queue.OutcomeSuccess}))
			}},
			{"other version of a queue", queue.KindPrecondition, func() error {
				return second(v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{IfVersion: 99}))
			}},
			{"other version of a ticker", queue.KindPrecondition, func() error {
				return second(v.s.UpdateTicker(v.ctx(), "t", queue.TickerMeta{IfVersion: 99}))
			}},
			{"too large", queue.KindTooLarge, func() error {
				return second(v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{Payload: []byte(`"` + long(queue.DefaultMaxPayloadBytes) + `"`)}))
			}},
			{"bad id", queue.KindInvalid, func() error { return second(v.s.GetTask(v.ctx(), -1)) }},
			{"context over", queue.KindCanceled, func() error {
				ctx, cancel := context.WithCancel(v.ctx())
				cancel()
				return second(v.s.GetQueue(ctx, "q"))
			}},
			{"deadline passed", queue.KindDeadline, func() error {
				ctx, cancel := context.WithDeadline(v.ctx(), time.Unix(1, 0))
				defer cancel()
				return second(v.s.GetQueue(ctx, "q"))
			}},
		} {
			v.T.Run(c.what, func(t *testing.T) { checkKind(t, c.do(), c.kind) })
		}
	})
	v.it("an error says what was attempted and what it is about", func(v *svc) {
		_, err := v.s.CreateTask(v.ctx(), "none", queue.TaskMeta{})
		v.kind(err, queue.KindNotFound)
		if text := err.Error(); !strings.Contains(text, "queue none") || !strings.Contains(text, "create") {
			v.Fatalf("the error reads %q", text)
		}
	})
}

// servePredecessor checks the service against the defects of the predecessor in section 10 of the contract, as far as
// callers see them. The name of each sub-test is the defect.
func servePredecessor(v *svc) {
	v.it("32 concurrent clients hung the server for good", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		done := make(chan error, 32)
		for range 32 {
			v.during(func(ctx context.Context) error {
				err := func() error {
					for range 5 {
						if _, err := v.s.CreateTask(ctx, "q", queue.TaskMeta{}); err != nil {
							return err
						}
						got, err := v.s.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Wait: 40 * time.Second})
						if err != nil {
							return err
						}
						for _, t := range got {
							out, err := v.s.ReleaseTasks(ctx, []queue.Release{{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess}})
							if err != nil {
								return err
							}
							if out[0].Err != nil {
								return out[0].Err
							}
						}
					}
					return nil
				}()
				done <- err
				return err
			})
		}
		for range 32 {
			v.ok(receive(v, done))
		}
		st, err := v.s.QueueStats(v.ctx(), "q")
		v.ok(err)
		v.equal("released", st.Counts[queue.StatusReleased], int64(160))
	})
	v.it("a crashed worker's task was never tried again and then deleted", func(v *svc) {
		v.queue("q", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(time.Minute)})
		t := v.create("q", queue.TaskMeta{})
		v.hold("q") // and crash
		v.pass(2 * time.Hour)
		v.pass(time.Hour)
		v.equal("retained again", v.hold("q").ID, t.ID)
	})
	v.it("release took no token, so a late worker ended another's task", func(v *svc) {
		v.queue("q", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(time.Duration(0))})
		v.create("q", queue.TaskMeta{})
		late := v.hold("q")
		v.pass(2 * time.Hour)
		present := v.hold("q")
		_, err := v.tryRelease(queue.Release{ID: late.ID, Token: late.Lease.Token, Outcome: queue.OutcomeSuccess})
		v.kind(err, queue.KindLeaseLost)
		v.status(present.ID, queue.StatusRetained)
	})
	v.it("listing by status failed with a 500", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		for _, s := range queue.Statuses() {
			_, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{TaskFilter: queue.TaskFilter{Statuses: []queue.Status{s}}})
			v.ok(err)
		}
	})
	v.it("an error's text was stored as {}", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.create("q", queue.TaskMeta{})
		t := v.hold("q")
		text, err := queue.Marshal(errors.New("no such address"))
		v.ok(err)
		after, err := v.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Result: text})
		v.ok(err)
		v.equal("result", string(after.Result), `{"error":"no such address"}`)
	})
}
