package access_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestRegisterTakesNoForeignTicker: a register with the name of a ticker in another queue is a create, which fails because the
// name is taken.
func TestRegisterTakesNoForeignTicker(t *testing.T) {
	for name, want := range map[string]string{"tmail": "RegisterTicker", "tbills": "CreateTicker", "tnone": "CreateTicker", "new": "CreateTicker"} {
		fake := newFakeService()
		guard := access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}})
		_, err := guard.RegisterTicker(as(t, "id", "admin@own/mail"), queue.TickerMeta{Name: name, Queue: new("mail")})
		if err != nil || !slices.Equal(*fake.reached, []string{want}) {
			t.Errorf("a register of %s reaches %v, %v; want %s", name, *fake.reached, err, want)
		}
	}

	fake := newFakeService()
	guard := access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}})
	_, err := guard.RegisterTicker(as(t, "id", "admin@own"), queue.TickerMeta{Name: "tbills", Queue: new("mail")})
	if err != nil || !slices.Equal(*fake.reached, []string{"RegisterTicker"}) {
		t.Errorf("a register by an admin of the namespace reaches %v, %v", *fake.reached, err)
	}
}

// movedTicker is a service with a ticker that fired into bills before it was moved into mail.
type movedTicker struct{ fakeService }

func (movedTicker) ListTicks(context.Context, string, int) ([]queue.Tick, error) {
	return []queue.Tick{{ID: 3, Queue: "mail"}, {ID: 2, Queue: "bills", TaskID: 7}, {ID: 1}}, nil
}

// TestTicksOfFormerQueuesAreHidden: a reader of one queue sees the ticks into that queue alone.
func TestTicksOfFormerQueuesAreHidden(t *testing.T) {
	for grant, want := range map[string]int{"viewer@own/mail": 1, "viewer@own": 3} {
		guard := access.Guard(movedTicker{newFakeService()}, access.Guarding{Queues: taskQueuesFake{}})
		ticks, err := guard.ListTicks(as(t, "id", grant), "tmail", 10)
		if err != nil || len(ticks) != want || ticks[0].ID != 3 {
			t.Errorf("%s sees %+v, %v; want %d ticks", grant, ticks, err, want)
		}
	}
}

// TestUnknownTasksAreNotReached: an operation by id of a task that does not exist at the look into its queue ends there. A
// moment later a foreign task could have the id.
func TestUnknownTasksAreNotReached(t *testing.T) {
	const unknown = 99
	for method, row := range guarded {
		if row.form != byID || method == "GetTask" || strings.Contains(method, "Tick") {
			continue // GetTask looks at the answer, and tickers have names
		}
		fake := newFakeService()
		guard := access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}})
		err := row.call(as(t, "id", "admin@own/mail"), guard, "", unknown)
		if !errors.Is(err, queue.ErrNotFound) || len(*fake.reached) > 0 {
			t.Errorf("%s of an unknown task: %v, reached %v", method, err, *fake.reached)
		}
	}
}

// TestOutageEndsNoStream: a store that does not answer says nothing about a credential. The look after the outage does.
func TestOutageEndsNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		confirm := func(context.Context, *access.Principal) error {
			if time.Since(begin) < time.Minute {
				return queue.ErrUnavailable
			}
			return queue.ErrUnauthenticated
		}
		guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}, Confirm: confirm})
		err := guard.SubscribeEvents(as(t, "id", "viewer@own"), queue.EventFilter{}, func(queue.Event) error { return nil })
		if d := time.Since(begin); !errors.Is(err, queue.ErrUnauthenticated) || d != time.Minute {
			t.Errorf("the stream ends after %s with %v", d, err)
		}
	})
}

// TestWatch: a stream of operations needs its right at the beginning, and ends with its credential. Behind an audit too.
func TestWatch(t *testing.T) {
	for _, audit := range []*access.AuditRecorder{nil, access.NewAuditRecorder(access.AuditSettings{Log: &fakeLog{}})} {
		synctest.Test(t, func(t *testing.T) {
			var revoked atomic.Bool
			guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}, Audit: audit, Confirm: func(context.Context, *access.Principal) error {
				if revoked.Load() {
					return queue.ErrUnauthenticated
				}
				return nil
			}})
			for grant, want := range map[string]queue.Kind{"worker@own/mail": "", "viewer@own": queue.KindDenied, "worker@other": queue.KindDenied} {
				_, stop, err := access.Watch(as(t, "id", grant), guard, queue.OpRetainTasks)
				stop()
				if queue.KindOf(err) != want {
					t.Errorf("a stream of %s: %v, want %q", grant, err, want)
				}
			}

			for grant, want := range map[string]queue.Kind{"worker@own/mail": queue.KindDenied, "worker@own": ""} {
				_, stop, err := access.Watch(as(t, "id", grant), guard, queue.OpRunTickerLoop)
				stop()
				if queue.KindOf(err) != want {
					t.Errorf("a stream of ticks of %s: %v, want %q", grant, err, want)
				}
			}

			watched, stop, err := access.Watch(as(t, "id", "worker@own"), guard, queue.OpRetainTasks)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			time.Sleep(time.Minute)
			if watched.Err() != nil {
				t.Error("a stream with a valid credential ended")
			}
			revoked.Store(true)
			<-watched.Done()
			if err := context.Cause(watched); !errors.Is(err, queue.ErrUnauthenticated) {
				t.Errorf("the stream ended with %v", err)
			}
		})
	}

	ctx, stop, err := access.Watch(t.Context(), newFakeService(), queue.OpRetainTasks)
	stop()
	if err != nil || ctx.Err() != nil {
		t.Errorf("a service without a guard: %v", err)
	}
}

// TestDeadLetterKeepsToTheFence: each failure creates a task in the dead letter queue, so setting it needs the right to create
// tasks there. The answer is the same for a queue that exists and for one that does not.
func TestDeadLetterKeepsToTheFence(t *testing.T) {
	for _, c := range []struct {
		grant, target string
		allowed       bool
	}{
		{"admin@own/mail*", "bills", false},
		{"admin@own/mail*", "nowhere", false},
		{"admin@own/mail*", "mail-failed", true},
		{"admin@own/mail*", "", true},
		{"admin@own", "bills", true},
	} {
		meta := queue.QueueMeta{Name: "mail"}
		meta.DeadLetter = &c.target
		for method, call := range map[string]func(context.Context, queue.Service) error{
			"CreateQueue":   func(ctx context.Context, s queue.Service) error { _, err := s.CreateQueue(ctx, meta); return err },
			"RegisterQueue": func(ctx context.Context, s queue.Service) error { _, err := s.RegisterQueue(ctx, meta); return err },
			"UpdateQueue": func(ctx context.Context, s queue.Service) error {
				_, err := s.UpdateQueue(ctx, "mail", meta)
				return err
			},
		} {
			fake := newFakeService()
			err := call(as(t, "id", c.grant), access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}}))
			if c.allowed != (err == nil) || !c.allowed && (queue.KindOf(err) != queue.KindDenied || len(*fake.reached) > 0) {
				t.Errorf("%s with %s and dead_letter %q: %v", method, c.grant, c.target, err)
			}
		}
	}
}

// movingTicker is a service with the ticker tmail, which other callers change between a look and a change.
type movingTicker struct {
	fakeService
	ticker *queue.Ticker
	looked func(*queue.Ticker) // called behind a look
}

func (m movingTicker) GetTicker(context.Context, string) (*queue.Ticker, error) {
	seen := *m.ticker
	m.looked(m.ticker)
	return &seen, nil
}

func (m movingTicker) change(version int64) error {
	if err := queue.CheckVersion("ticker tmail", m.ticker.Version, queue.IfVersion(version)); err != nil {
		return err
	}
	m.note("changed")
	return nil
}

func (m movingTicker) RegisterTicker(_ context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return m.ticker, m.change(meta.IfVersion)
}

func (m movingTicker) UpdateTicker(_ context.Context, _ string, meta queue.TickerMeta) (*queue.Ticker, error) {
	return m.ticker, m.change(meta.IfVersion)
}

func (m movingTicker) DeleteTicker(_ context.Context, _ string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return m.ticker, m.change(queue.RequiredVersion(only))
}

func (m movingTicker) RunTicker(_ context.Context, _ string, only ...queue.IfVersion) (*queue.Tick, error) {
	return &queue.Tick{}, m.change(queue.RequiredVersion(only))
}

// TestTickersThatMoveAreNotChanged: a ticker that another caller moves into a foreign queue between the decision and the change is
// not changed. One that changes without a move is.
func TestTickersThatMoveAreNotChanged(t *testing.T) {
	moved := func(t *queue.Ticker) { t.Queue, t.Version = "bills", 2 }
	once := func(t *queue.Ticker) { t.Version = 2 }
	always := func(t *queue.Ticker) { t.Version++ }
	for method, call := range map[string]func(ctx context.Context, s queue.Service, version int64) error{
		"RegisterTicker": func(ctx context.Context, s queue.Service, version int64) error {
			_, err := s.RegisterTicker(ctx, queue.TickerMeta{Name: "tmail", Queue: new("mail"), IfVersion: version})
			return err
		},
		"UpdateTicker": func(ctx context.Context, s queue.Service, version int64) error {
			_, err := s.UpdateTicker(ctx, "tmail", queue.TickerMeta{Period: new(time.Hour), IfVersion: version})
			return err
		},
		"UpdateTicker, paused": func(ctx context.Context, s queue.Service, version int64) error {
			_, err := s.UpdateTicker(ctx, "tmail", queue.TickerMeta{Paused: new(true), IfVersion: version})
			return err
		},
		"DeleteTicker": func(ctx context.Context, s queue.Service, version int64) error {
			_, err := s.DeleteTicker(ctx, "tmail", queue.IfVersion(version))
			return err
		},
		"RunTicker": func(ctx context.Context, s queue.Service, version int64) error {
			_, err := s.RunTicker(ctx, "tmail", queue.IfVersion(version))
			return err
		},
	} {
		for name, c := range map[string]struct {
			grant   string
			version int64
			looked  func(*queue.Ticker)
			kind    queue.Kind
			reached []string
		}{
			"moved":                             {"admin@own/mail", 0, moved, queue.KindNotFound, nil},
			"moved, with the version of before": {"admin@own/mail", 1, moved, queue.KindPrecondition, nil},
			"moved, with the version of after":  {"admin@own/mail", 2, moved, queue.KindPrecondition, nil},
			"changed once":                      {"admin@own/mail", 0, once, "", []string{"changed"}},
			"changed at each look":              {"admin@own/mail", 0, always, queue.KindNotFound, nil},
			"moved, by an admin of all queues":  {"admin@own", 0, moved, "", []string{"changed"}},
		} {
			fake := movingTicker{newFakeService(), &queue.Ticker{Name: "tmail", Queue: "mail", Version: 1}, c.looked}
			err := call(as(t, "id", c.grant), access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}}), c.version)
			if method == "RegisterTicker" && c.kind == queue.KindNotFound { // a create, which fails when the name is taken
				c.kind, c.reached = "", []string{"CreateTicker"}
			}
			if queue.KindOf(err) != c.kind || !slices.Equal(*fake.reached, c.reached) {
				t.Errorf("%s of a ticker that is %s: %v, reached %v", method, name, err, *fake.reached)
			}
		}
	}
}
