package access_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// changingService is a service with one queue and one ticker before and after a change. It notes the reads.
type changingService struct {
	fakeService

	queues  [2]*queue.Queue
	tickers [2]*queue.Ticker
	group   *queue.Group
	reads   *int
}

func (s changingService) UpdateGroup(context.Context, string, string, queue.GroupMeta) (*queue.Group, error) {
	return s.group, nil
}

func (s changingService) GetQueue(context.Context, string) (*queue.Queue, error) {
	*s.reads++
	if s.queues[0] == nil {
		return nil, &queue.Error{Kind: queue.KindNotFound}
	}
	return s.queues[0], nil
}

func (s changingService) GetTicker(context.Context, string) (*queue.Ticker, error) {
	*s.reads++
	if s.tickers[0] == nil {
		return nil, &queue.Error{Kind: queue.KindNotFound}
	}
	return s.tickers[0], nil
}

func (s changingService) CreateQueue(context.Context, queue.QueueMeta) (*queue.Queue, error) {
	return s.queues[1], nil
}

func (s changingService) RegisterQueue(context.Context, queue.QueueMeta) (*queue.Queue, error) {
	return s.queues[1], nil
}

func (s changingService) UpdateQueue(context.Context, string, queue.QueueMeta) (*queue.Queue, error) {
	return s.queues[1], nil
}

func (s changingService) DeleteQueue(context.Context, string, ...queue.DeleteCondition) (*queue.Queue, error) {
	return s.queues[0], nil
}

func (s changingService) CreateTicker(context.Context, queue.TickerMeta) (*queue.Ticker, error) {
	return s.tickers[1], nil
}

func (s changingService) RegisterTicker(context.Context, queue.TickerMeta) (*queue.Ticker, error) {
	return s.tickers[1], nil
}

func (s changingService) UpdateTicker(context.Context, string, queue.TickerMeta) (*queue.Ticker, error) {
	return s.tickers[1], nil
}

func (s changingService) DeleteTicker(context.Context, string, ...queue.IfVersion) (*queue.Ticker, error) {
	return s.tickers[0], nil
}

// TestAuditHasTheChanges: an entry of a change has each changed setting before and after it, by its name outside of Go, and of a
// payload the size alone. It never shows the change of another caller as one of its own.
func TestAuditHasTheChanges(t *testing.T) {
	born := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first := &queue.Queue{Name: "mail", Retries: 3, RetryMaxDelay: time.Hour, Lease: time.Minute, Backoff: queue.DefaultBackoff, Version: 1, CreatedAt: born}
	second := *first
	second.Version, second.Concurrency, second.RetryMaxDelay = 2, 5, 0
	third := second
	third.Version, third.Paused = 3, true
	plain := *first
	plain.FIFOBatch, plain.Order = 1, queue.OrderNone
	ordered := plain
	ordered.Version, ordered.RateLimit, ordered.Order, ordered.FIFOBatch, ordered.MaxWaiting = 2, 10, queue.OrderFIFO, 5, 100
	strict := *first
	strict.Version, strict.NonRetryable = 2, []string{"bad", "gone"}
	reborn := second
	reborn.CreatedAt = born.Add(time.Hour)
	daily := &queue.Ticker{Name: "t", Cron: "@daily", Queue: "mail", Payload: json.RawMessage(secret), Version: 1, CreatedAt: born}
	hourly := *daily
	hourly.Version, hourly.Cron, hourly.Payload = 2, "@hourly", json.RawMessage(secret+secret)

	for name, c := range map[string]struct {
		service changingService
		call    func(ctx context.Context, s queue.Service)
		want    []access.AuditChange
	}{
		"an update has the values before and after": {
			changingService{queues: [2]*queue.Queue{first, &second}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateQueue(ctx, "mail", queue.QueueMeta{Concurrency: new(5)})
			},
			[]access.AuditChange{{Field: "retry_max_delay", Old: "1h0m0s", New: "0s"}, {Field: "concurrency", Old: "0", New: "5"}},
		},
		"an update that another one preceded has the given settings alone": {
			changingService{queues: [2]*queue.Queue{first, &third}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateQueue(ctx, "mail", queue.QueueMeta{Paused: new(true)})
			},
			[]access.AuditChange{{Field: "paused", New: "true"}},
		},
		"an update of a queue that was made again has the given settings alone": {
			changingService{queues: [2]*queue.Queue{first, &reborn}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateQueue(ctx, "mail", queue.QueueMeta{Concurrency: new(5)})
			},
			[]access.AuditChange{{Field: "concurrency", New: "5"}},
		},
		"a registration of a present queue has the values before and after": {
			changingService{queues: [2]*queue.Queue{&second, &third}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.RegisterQueue(ctx, queue.QueueMeta{Name: "mail", Paused: new(true)})
			},
			[]access.AuditChange{{Field: "paused", Old: "false", New: "true"}},
		},
		"a registration of a new queue has its settings": {
			changingService{queues: [2]*queue.Queue{nil, first}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.RegisterQueue(ctx, queue.QueueMeta{Name: "mail"})
			},
			[]access.AuditChange{{Field: "retries", New: "3"}, {Field: "backoff", New: "exponential"}, {Field: "retry_max_delay", New: "1h0m0s"}, {Field: "lease", New: "1m0s"}},
		},
		"a registration of a queue that another caller made meanwhile has the given settings alone": {
			changingService{queues: [2]*queue.Queue{nil, &second}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.RegisterQueue(ctx, queue.QueueMeta{Name: "mail", Concurrency: new(5)})
			},
			[]access.AuditChange{{Field: "concurrency", New: "5"}},
		},
		"a new queue has its settings": {
			changingService{queues: [2]*queue.Queue{nil, first}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.CreateQueue(ctx, queue.QueueMeta{Name: "mail"})
			},
			[]access.AuditChange{{Field: "retries", New: "3"}, {Field: "backoff", New: "exponential"}, {Field: "retry_max_delay", New: "1h0m0s"}, {Field: "lease", New: "1m0s"}},
		},
		"a deleted queue has its former settings": {
			changingService{queues: [2]*queue.Queue{first, nil}},
			func(ctx context.Context, s queue.Service) { _, _ = s.DeleteQueue(ctx, "mail") },
			[]access.AuditChange{{Field: "retries", Old: "3"}, {Field: "backoff", Old: "exponential"}, {Field: "retry_max_delay", Old: "1h0m0s"}, {Field: "lease", Old: "1m0s"}},
		},
		"an update has settings of the flow": {
			changingService{queues: [2]*queue.Queue{&plain, &ordered}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateQueue(ctx, "mail", queue.QueueMeta{FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO)}})
			},
			[]access.AuditChange{
				{Field: "rate_limit", Old: "0", New: "10"},
				{Field: "order", Old: "none", New: "fifo"},
				{Field: "fifo_batch", Old: "1", New: "5"},
				{Field: "max_waiting", Old: "0", New: "100"},
			},
		},
		"an update has the list of kinds of errors": {
			changingService{queues: [2]*queue.Queue{first, &strict}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateQueue(ctx, "mail", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{"gone", "bad"})}})
			},
			[]access.AuditChange{{Field: "non_retryable", New: "bad,gone"}},
		},
		"an update of a group has the given settings alone": {
			changingService{group: &queue.Group{Name: "g", GroupPolicy: queue.GroupPolicy{Weight: 4, RatePeriod: time.Minute}}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateGroup(ctx, "mail", "g", queue.GroupMeta{Weight: new(4)})
			},
			[]access.AuditChange{{Field: "weight", New: "4"}},
		},
		"an update of a ticker has the sizes of its payload": {
			changingService{tickers: [2]*queue.Ticker{daily, &hourly}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.UpdateTicker(ctx, "t", queue.TickerMeta{Cron: new("@hourly"), Payload: hourly.Payload})
			},
			[]access.AuditChange{{Field: "cron", Old: "@daily", New: "@hourly"}, {Field: "payload", Old: sizeOf(daily.Payload), New: sizeOf(hourly.Payload)}},
		},
		"a registration of a ticker has the values before and after": {
			changingService{tickers: [2]*queue.Ticker{daily, &hourly}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.RegisterTicker(ctx, queue.TickerMeta{Name: "t", Queue: new("mail"), Payload: hourly.Payload})
			},
			[]access.AuditChange{{Field: "cron", Old: "@daily", New: "@hourly"}, {Field: "payload", Old: sizeOf(daily.Payload), New: sizeOf(hourly.Payload)}},
		},
		"a new ticker has its settings": {
			changingService{tickers: [2]*queue.Ticker{nil, daily}},
			func(ctx context.Context, s queue.Service) {
				_, _ = s.CreateTicker(ctx, queue.TickerMeta{Name: "t", Queue: new("mail")})
			},
			[]access.AuditChange{{Field: "cron", New: "@daily"}, {Field: "queue", New: "mail"}, {Field: "payload", New: sizeOf(daily.Payload)}},
		},
		"a deleted ticker has its former settings": {
			changingService{tickers: [2]*queue.Ticker{daily, nil}},
			func(ctx context.Context, s queue.Service) { _, _ = s.DeleteTicker(ctx, "t") },
			[]access.AuditChange{{Field: "cron", Old: "@daily"}, {Field: "queue", Old: "mail"}, {Field: "payload", Old: sizeOf(daily.Payload)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := &fakeLog{}
			c.service.fakeService, c.service.reads = newFakeService(), new(int)
			guard := access.Guard(c.service, access.Guarding{Queues: taskQueuesFake{}, Audit: access.NewAuditRecorder(access.AuditSettings{Log: log})})
			c.call(as(t, "admin001", "admin@own"), guard)
			if got := log.take(); len(got) != 1 || !reflect.DeepEqual(got[0].Changes, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}

			// A refused call reads nothing, and its entry shows nothing of the object.
			*c.service.reads = 0
			c.call(as(t, "viewer01", "viewer@own"), guard)
			if got := log.take(); len(got) != 1 || got[0].Changes != nil || *c.service.reads != 0 {
				t.Errorf("a refused call makes %d reads and the entries %+v", *c.service.reads, got)
			}
		})
	}
}

// TestAuditHasRoomForAllSettings: each setting that a caller can give is among the changes of a new object, and all of them fit into
// one entry.
func TestAuditHasRoomForAllSettings(t *testing.T) {
	for _, one := range []reflect.Type{reflect.TypeFor[queue.QueueMeta](), reflect.TypeFor[queue.TickerMeta](), reflect.TypeFor[queue.GroupMeta]()} {
		settings := 0
		for _, field := range reflect.VisibleFields(one) {
			if field.Type.Kind() == reflect.Pointer || field.Type.Kind() == reflect.Slice {
				settings++
			}
		}
		if settings == 0 || settings > access.MaxAuditChanges {
			t.Errorf("%s has %d settings, and an entry has room for %d", one, settings, access.MaxAuditChanges)
		}
	}
}

// sizeOf returns what the audit shows of a payload.
func sizeOf(payload json.RawMessage) string { return fmt.Sprintf("%d bytes", len(payload)) }
