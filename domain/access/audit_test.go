package access_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// fakeLog keeps entries. With a fault it stores none.
type fakeLog struct {
	mu      sync.Mutex
	entries []access.AuditEntry
	fault   error
	ctxErr  error // of the last record
	within  time.Duration
}

func (l *fakeLog) RecordAudit(ctx context.Context, e access.AuditEntry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctxErr = ctx.Err()
	if end, ok := ctx.Deadline(); ok {
		l.within = time.Until(end)
	}
	if l.fault == nil {
		l.entries = append(l.entries, e)
	}
	return l.fault
}

func (l *fakeLog) ListAudit(context.Context, access.AuditFilter) (access.AuditPage, error) {
	return access.AuditPage{Entries: l.entries}, nil
}

func (l *fakeLog) PruneAudit(context.Context, time.Duration) (int, bool, error) { return 0, false, nil }

// take returns the entries and forgets them.
func (l *fakeLog) take() []access.AuditEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.entries
	l.entries = nil
	return taken
}

// openAudit returns a guard that records into log, its recorder and its lines.
func openAudit(t *testing.T, log *fakeLog) (queue.Service, *access.AuditRecorder, *bytes.Buffer) {
	t.Helper()
	var lines bytes.Buffer
	recorder := access.NewAuditRecorder(access.AuditSettings{Log: log, Logger: slog.New(slog.NewJSONHandler(&lines, nil))})
	return access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}, Audit: recorder}), recorder, &lines
}

// as returns a context of a call by a principal with grants.
func as(t *testing.T, id string, grants ...string) context.Context {
	t.Helper()
	return access.With(t.Context(), access.NewPrincipal(id, "name of "+id, access.KindToken, mustGrants(t, grants...)))
}

// auditedActions are the actions that the audit records; contract section 11: every mutation by an operator.
var auditedActions = []string{"task.operate", "queue.pause", "queue.manage", "ticker.manage", "ticker.run"}

// TestAuditRecordsChanges: each operation of operators makes one entry, no other makes one.
func TestAuditRecordsChanges(t *testing.T) {
	for method, row := range guarded {
		if method == "SubscribeEvents" || method == "RunTickerLoop" {
			continue // they last until their context ends, and are not audited
		}
		log := &fakeLog{}
		guard, recorder, lines := openAudit(t, log)
		err := row.call(as(t, "admin001", "admin@own"), guard, "mail", 1)
		recorder.Close(t.Context())

		wanted := slices.ContainsFunc(strings.Fields(row.actions), func(a string) bool { return slices.Contains(auditedActions, a) })
		entries := log.take()
		if err != nil || wanted != (len(entries) == 1) || wanted != strings.Contains(lines.String(), `"audit":true`) {
			t.Errorf("%s (%v): audited %v, want %v; %d entries; lines %s", method, err, len(entries) == 1, wanted, len(entries), lines)
		}
		if wanted && (entries[0].PrincipalID != "admin001" || entries[0].Outcome != access.AuditOK || entries[0].Namespace != "own" || entries[0].Action == "") {
			t.Errorf("%s: got %+v", method, entries[0])
		}
	}
}

// TestAuditRecordsRefusals: each operation without the right makes one entry, with and without a principal.
func TestAuditRecordsRefusals(t *testing.T) {
	for outcome, ctx := range map[string]context.Context{
		string(queue.KindDenied):          as(t, "metrics1", "metrics@*"),
		string(queue.KindUnauthenticated): t.Context(),
	} {
		for method, row := range guarded {
			log := &fakeLog{}
			guard, recorder, _ := openAudit(t, log)
			err := row.call(ctx, guard, "mail", 1)
			recorder.Close(t.Context())

			want := 1
			if err == nil { // ListNamespaces lists none
				want = 0
			}
			entries := log.take()
			if len(entries) != want || want == 1 && (entries[0].Outcome != outcome || entries[0].Calls != 1 || entries[0].Operation == "") {
				t.Errorf("%s %s: got %+v", outcome, method, entries)
			}
		}

		log := &fakeLog{}
		guard, recorder, _ := openAudit(t, log)
		feed, ok := queue.ServiceAs[queue.FeedEnd](guard)
		if !ok {
			t.Fatal("the guard has no LastEvent")
		}
		_, _ = feed.LastEvent(ctx)
		recorder.Close(t.Context())
		if entries := log.take(); len(entries) != 1 || entries[0].Operation != "last_event" {
			t.Errorf("%s LastEvent: got %+v", outcome, entries)
		}
	}
}

// TestAuditDetails: an entry has the fields of its operation.
func TestAuditDetails(t *testing.T) {
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	unsetPause := []access.AuditChange{{Field: "paused", New: "false"}} // the fake service changes nothing, and has no versions
	for name, c := range map[string]struct {
		call func(ctx context.Context, s queue.Service)
		want access.AuditEntry
	}{
		"a bulk operation by filter has the filter as text": {
			func(ctx context.Context, s queue.Service) {
				_, _ = s.CancelTasks(ctx, queue.Selection{DryRun: true, Filter: &queue.TaskFilter{
					Queue: "Mail", Statuses: []queue.Status{queue.StatusFailed, queue.StatusNew}, Worker: "w 1", CreatedAfter: from, CreatedBefore: from,
				}})
			},
			access.AuditEntry{
				Action: queue.ActionTaskOperate, Operation: "cancel_tasks", Queue: "mail", DryRun: true,
				Filter: `queue=mail status=failed,new worker="w 1" created_after=2026-01-02T03:04:05Z created_before=2026-01-02T03:04:05Z`,
			},
		},
		"a bulk operation by ids has their number and what it moved": {
			func(ctx context.Context, s queue.Service) {
				_, _ = s.DeleteTasks(ctx, queue.Selection{IDs: []int64{1, 2, 3}})
			},
			access.AuditEntry{Action: queue.ActionTaskOperate, Operation: "delete_tasks", IDs: 3, Moved: 2},
		},
		"an operation on one task has its id": {
			func(ctx context.Context, s queue.Service) {
				_, _ = s.RetryTasks(ctx, queue.Selection{IDs: []int64{1}})
			},
			access.AuditEntry{Action: queue.ActionTaskOperate, Operation: "retry_tasks", IDs: 1, Task: 1, Moved: 1},
		},
		"a pause of a queue has its own action": {
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateQueue(ctx, "mail", queue.QueueMeta{Paused: new(true)})
			},
			access.AuditEntry{Action: queue.ActionQueuePause, Operation: "update_queue", Queue: "mail", Changes: unsetPause},
		},
		"a pause of a ticker has its own action": {
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateTicker(ctx, "tmail", queue.TickerMeta{Paused: new(false)})
			},
			access.AuditEntry{Action: queue.ActionQueuePause, Operation: "update_ticker", Ticker: "tmail", Changes: unsetPause},
		},
		"a change of a ticker names it": {
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateTicker(ctx, "tmail", queue.TickerMeta{Queue: new("mail")})
			},
			access.AuditEntry{Action: queue.ActionTickerManage, Operation: "update_ticker", Ticker: "tmail", Changes: []access.AuditChange{{Field: "queue", New: "mail"}}},
		},
		"a clean has the number of tasks": {
			func(ctx context.Context, s queue.Service) { _, _ = s.CleanQueue(ctx, "mail") },
			access.AuditEntry{Action: queue.ActionTaskOperate, Operation: "clean_queue", Queue: "mail", Moved: 5},
		},
		"a text that breaks the rules of names is left out": {
			func(ctx context.Context, s queue.Service) { _, _ = s.DeleteQueue(ctx, "SECRET text!") },
			access.AuditEntry{Action: queue.ActionQueueManage, Operation: "delete_queue"},
		},
		"the filter of a refused call is left out when it breaks a rule": {
			func(ctx context.Context, s queue.Service) {
				_, _ = s.CancelTasks(ctx, queue.Selection{Filter: &queue.TaskFilter{Queue: "SECRET text!"}})
			},
			access.AuditEntry{Action: queue.ActionTaskOperate, Operation: "cancel_tasks", Filter: "invalid"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := &fakeLog{}
			guard, _, _ := openAudit(t, log)
			p := access.NewPrincipal("id000001", "jane", access.KindJWT, mustGrants(t, "admin@own"))
			p.Issuer = "https://id.example.com"
			p.Subject = "jane@example.com"
			caller := access.Caller{RequestID: "r1", Via: access.ViaConnect, Remote: "192.0.2.1", Reason: "why not"}
			c.call(access.WithCaller(access.With(t.Context(), p), caller), guard)

			want := c.want
			want.PrincipalID, want.PrincipalName, want.PrincipalKind = "id000001", "jane", access.KindJWT
			want.Issuer, want.Subject = "https://id.example.com", "jane@example.com"
			want.Caller = caller
			want.Namespace = "own"
			want.Outcome = access.AuditOK
			want.Calls = 1
			if got := log.take(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}

	t.Run("in another namespace the entry names that one", func(t *testing.T) {
		log := &fakeLog{}
		guard, _, _ := openAudit(t, log)
		other, err := guard.In("other")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = other.CreateQueue(as(t, "a", "admin@*"), queue.QueueMeta{Name: "q"})
		if got := log.take(); len(got) != 1 || got[0].Namespace != "other" || got[0].Queue != "q" {
			t.Errorf("got %+v", got)
		}
	})
}

// TestAuditNeverFailsACall: a store that fails or hangs changes neither the answer nor, beyond its bound, the time.
func TestAuditNeverFailsACall(t *testing.T) {
	t.Run("a store that fails is in the log and in the counter", func(t *testing.T) {
		var lines bytes.Buffer
		failed := 0
		log := &fakeLog{fault: errors.New("the database is down")}
		recorder := access.NewAuditRecorder(access.AuditSettings{
			Log: log, Logger: slog.New(slog.NewJSONHandler(&lines, nil)), Failed: func(error) { failed++ },
		})
		guard := access.Guard(newFakeService(), access.Guarding{Audit: recorder})
		if _, err := guard.DeleteQueue(as(t, "a", "admin@own"), "mail"); err != nil {
			t.Error(err)
		}
		if failed != 1 || !strings.Contains(lines.String(), `"audit":true`) || !strings.Contains(lines.String(), `"operation":"delete_queue"`) {
			t.Errorf("%d failures; lines %s", failed, lines.String())
		}
	})

	t.Run("a log without lines of the level INFO has the whole entry of a store that fails", func(t *testing.T) {
		var lines bytes.Buffer
		recorder := access.NewAuditRecorder(access.AuditSettings{
			Log:    &fakeLog{fault: errors.New("the database is down")},
			Logger: slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		guard := access.Guard(newFakeService(), access.Guarding{Audit: recorder})
		ctx := access.WithCaller(as(t, "a", "admin@own"), access.Caller{Remote: "192.0.2.1:1000", Reason: "no use"})
		if _, err := guard.DeleteQueue(ctx, "mail"); err != nil {
			t.Error(err)
		}
		for _, field := range []string{
			`"level":"ERROR"`, `"audit":true`, `"principal":"a"`, `"principal_name":"name of a"`, `"remote":"192.0.2.1:1000"`, `"reason":"no use"`,
			`"operation":"delete_queue"`, `"namespace":"own"`, `"queue":"mail"`, `"outcome":"ok"`, `"err":"the database is down"`,
		} {
			if !strings.Contains(lines.String(), field) {
				t.Errorf("the line misses %s: %s", field, lines.String())
			}
		}
	})

	t.Run("the deadline of the caller does not end the record", func(t *testing.T) {
		log := &fakeLog{}
		guard, _, _ := openAudit(t, log)
		ctx, cancel := context.WithCancel(as(t, "a", "admin@own"))
		cancel()
		_, _ = guard.DeleteQueue(ctx, "mail") // the fake does not look at its context
		if len(log.take()) != 1 || log.ctxErr != nil || log.within <= 0 || log.within > access.AuditTimeout {
			t.Errorf("recorded with %v within %v", log.ctxErr, log.within)
		}
	})

	t.Run("a recorder is optional", func(t *testing.T) {
		var none *access.AuditRecorder
		none.Record(t.Context(), access.AuditEntry{}, nil)
		none.Close(t.Context())
	})
}

// TestAuditCoalescesRefusals: of equal refusals within a minute the first is written at once, and the number of the others
// at the end of the minute or of the process.
func TestAuditCoalescesRefusals(t *testing.T) {
	refuse := func(t *testing.T, guard queue.Service, id string) {
		t.Helper()
		if _, err := guard.DeleteQueue(as(t, id, "viewer@own"), "mail"); !errors.Is(err, queue.ErrDenied) {
			t.Error(err)
		}
	}

	t.Run("the minute ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			log := &fakeLog{}
			guard, recorder, _ := openAudit(t, log)
			for range 100 {
				refuse(t, guard, "a")
			}
			refuse(t, guard, "b")
			if got := log.take(); len(got) != 2 || got[0].Calls != 1 || got[1].PrincipalID != "b" {
				t.Errorf("at once: %+v", got)
			}

			time.Sleep(access.RefusalWindow)
			synctest.Wait()
			if got := log.take(); len(got) != 1 || got[0].Calls != 99 || got[0].PrincipalID != "a" || got[0].Operation != "delete_queue" {
				t.Errorf("after the minute: %+v", got)
			}
			refuse(t, guard, "a")
			if got := log.take(); len(got) != 1 || got[0].Calls != 1 {
				t.Errorf("in the next minute: %+v", got)
			}
			recorder.Close(t.Context())
		})
	})

	t.Run("the process ends", func(t *testing.T) {
		log := &fakeLog{}
		guard, recorder, _ := openAudit(t, log)
		for range 3 {
			refuse(t, guard, "a")
		}
		recorder.Close(t.Context())
		recorder.Close(t.Context())
		if got := log.take(); len(got) != 2 || got[1].Calls != 2 {
			t.Errorf("got %+v", got)
		}
	})

	t.Run("actions and outcomes are apart", func(t *testing.T) {
		log := &fakeLog{}
		guard, recorder, _ := openAudit(t, log)
		refuse(t, guard, "a")
		_, _ = guard.RunTicker(as(t, "a", "viewer@own"), "tmail")
		_, _ = guard.DeleteQueue(t.Context(), "mail")
		recorder.Close(t.Context())
		if got := log.take(); len(got) != 3 {
			t.Errorf("got %+v", got)
		}
	})

	t.Run("operations and queues are apart", func(t *testing.T) {
		log := &fakeLog{}
		guard, recorder, _ := openAudit(t, log)
		for range 2 {
			refuse(t, guard, "a")
			_, _ = guard.DeleteQueue(as(t, "a", "viewer@own"), "print")
			_, _ = guard.CreateQueue(as(t, "a", "viewer@own"), queue.QueueMeta{Name: "mail"})
		}
		recorder.Close(t.Context())
		named := map[string]int{}
		for _, e := range log.take() {
			named[e.Operation+" "+e.Queue] += e.Calls
		}
		if len(named) != 3 || named["delete_queue mail"] != 2 || named["delete_queue print"] != 2 || named["create_queue mail"] != 2 {
			t.Errorf("got %v", named)
		}
	})

	t.Run("callers without a valid credential are apart by their networks", func(t *testing.T) {
		log := &fakeLog{}
		recorder := access.NewAuditRecorder(access.AuditSettings{Log: log})
		for _, remote := range []string{"192.0.2.1:1000", "192.0.2.1:2000", "192.0.2.2:1000", "[2001:db8::1]:1", "[2001:db8::2]:1"} {
			recorder.Record(access.WithCaller(t.Context(), access.Caller{Remote: remote}), access.AuditEntry{}, queue.KindUnauthenticated)
		}
		if got := log.take(); len(got) != 3 {
			t.Errorf("got %+v", got)
		}
		recorder.Close(t.Context())
	})

	t.Run("a caller with many names of queues leaves room for others, and none of its calls is lost", func(t *testing.T) {
		log := &fakeLog{}
		guard, recorder, _ := openAudit(t, log)
		const queues = 1000
		for i := range queues {
			_, _ = guard.DeleteQueue(as(t, "a", "viewer@own"), fmt.Sprint("q", i))
		}
		refuse(t, guard, "b")
		recorder.Close(t.Context())
		got := log.take()
		calls, named := 0, false
		for _, e := range got {
			calls += e.Calls
			named = named || e.PrincipalID == "b" && e.Queue == "mail"
			if e.Calls > 1 && (e.PrincipalID != "a" || e.Queue != "" || e.Action != queue.ActionQueueManage) {
				t.Errorf("the entry of the others is %+v", e)
			}
		}
		if len(got) > 20 || calls != queues+1 || !named {
			t.Errorf("%d entries of %d calls, with the other caller: %v", len(got), calls, named)
		}
	})

	t.Run("requests with a malformed credential are counted too", func(t *testing.T) {
		log := &fakeLog{}
		recorder := access.NewAuditRecorder(access.AuditSettings{Log: log})
		for range 100 {
			recorder.Record(t.Context(), access.AuditEntry{}, queue.KindInvalid)
		}
		recorder.Close(t.Context())
		if got := log.take(); len(got) != 2 || got[1].Calls != 99 {
			t.Errorf("got %+v", got)
		}
	})

	t.Run("an attacker with many names gets a bounded number of entries, and none is lost", func(t *testing.T) {
		log := &fakeLog{}
		guard, recorder, _ := openAudit(t, log)
		const callers = 2000
		for i := range callers {
			refuse(t, guard, fmt.Sprint("attacker", i))
		}
		recorder.Close(t.Context())
		got := log.take()
		calls := 0
		for _, e := range got {
			calls += e.Calls
		}
		if len(got) > 300 || calls != callers {
			t.Errorf("%d entries of %d calls", len(got), calls)
		}
	})

	t.Run("claims of strangers get few entries, and leave room for those of callers", func(t *testing.T) {
		log := &fakeLog{}
		guard, recorder, _ := openAudit(t, log)
		const strangers = 2000
		for i := range strangers {
			recorder.Record(t.Context(), access.AuditEntry{PrincipalID: fmt.Sprint("claim", i)}, queue.KindUnauthenticated)
		}
		refuse(t, guard, "caller")
		recorder.Close(t.Context())

		got := log.take()
		calls := 0
		for _, e := range got {
			calls += e.Calls
		}
		named := slices.ContainsFunc(got, func(e access.AuditEntry) bool { return e.PrincipalID == "caller" })
		if len(got) > 20 || calls != strangers+1 || !named {
			t.Errorf("%d entries of %d calls, with the caller: %v", len(got), calls, named)
		}
	})

	t.Run("refusals at once are all counted", func(t *testing.T) {
		log := &fakeLog{}
		recorder := access.NewAuditRecorder(access.AuditSettings{Log: log})
		guard := access.Guard(newFakeService(), access.Guarding{Audit: recorder})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { refuse(t, guard, "a") })
		}
		all.Wait()
		recorder.Close(t.Context())
		calls := 0
		for _, e := range log.take() {
			calls += e.Calls
		}
		if calls != 50 {
			t.Errorf("%d calls", calls)
		}
	})
}

// TestAuditHasNoContent: neither an entry nor its line contains a payload or a secret, of any operation that handles one.
func TestAuditHasNoContent(t *testing.T) {
	log := &fakeLog{}
	guard, recorder, lines := openAudit(t, log)
	token := access.NewSecret().Reveal()
	ctx := access.WithCaller(as(t, "a", "admin@own"), access.Caller{Reason: "with " + token})

	for _, row := range guarded {
		call, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		_ = row.call(call, guard, "mail", 1)
		cancel()
	}
	_, _ = guard.CreateTicker(ctx, queue.TickerMeta{Name: "hourly", Payload: content(), Queue: new("mail")})
	_, _ = guard.UpdateTicker(ctx, "tmail", queue.TickerMeta{Payload: content()})
	_, _ = guard.CreateTask(as(t, "b", "viewer@own"), "mail", queue.TaskMeta{Payload: content(), Headers: map[string]string{"h": secret}})
	_, _ = guard.ReleaseTasks(as(t, "b", "viewer@own"), []queue.Release{{ID: 1, Result: content()}})
	_, _ = guard.DeleteQueue(ctx, token)
	recorder.Close(t.Context())

	entries := log.take()
	if len(entries) < 15 {
		t.Fatalf("%d entries", len(entries))
	}
	all := fmt.Sprintf("%+v", entries) + lines.String()
	for _, marked := range []string{secret, token, token[14:], strings.ToLower(token[14:])} {
		if strings.Contains(all, marked) {
			t.Errorf("the audit contains %s: %s", marked, all)
		}
	}
}

// TestAuditIsForTheInstallation: of all roles only system reads the audit, and a refusal is recorded.
func TestAuditIsForTheInstallation(t *testing.T) {
	for _, role := range access.Roles() {
		log := &fakeLog{}
		_, recorder, _ := openAudit(t, log)
		_, err := recorder.List(as(t, "a", string(role)+"@*"), access.AuditFilter{})
		if may := role == access.RoleSystem; may != (err == nil) || !may && !errors.Is(err, queue.ErrDenied) {
			t.Errorf("%s: %v", role, err)
		}
		if entries := log.take(); err != nil && (len(entries) != 1 || entries[0].Action != queue.ActionAuditRead) {
			t.Errorf("%s: recorded %+v", role, entries)
		}
	}
	_, recorder, _ := openAudit(t, &fakeLog{})
	if _, err := recorder.List(t.Context(), access.AuditFilter{}); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("without a principal: %v", err)
	}
}

// TestAuditRetention: a retention below the least is refused with the remedy.
func TestAuditRetention(t *testing.T) {
	for d, valid := range map[time.Duration]bool{
		0: true, access.MinAuditRetention: true, access.DefaultAuditRetention: true, access.MinAuditRetention - 1: false, -1: false, time.Hour: false,
	} {
		if err := access.CheckAuditRetention(d); valid != (err == nil) || err != nil && !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("%v: %v", d, err)
		}
	}
}
